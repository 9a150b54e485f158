"""The training loop. Every stage runs in it: AdamW, warm-up and cosine, EMA, checkpoints, logs and plots.

A run is a folder:
    checkpoint.safetensors  everything needed to go on; replaced atomically every few minutes
    log.jsonl               one line per logged step ("train") and per evaluation ("held_out")
    curves.png              the same, drawn

A batch depends on (seed, step) alone and the random state is kept with the weights, so a run that was killed
goes on along the curve it would have had.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from vla.errors import UserError
from vla.ranks import (
    Rank,
    agree,
    clip_gradients,
    is_split,
    mean_of,
    my_rank,
    own_part,
    share_gradients,
    split_as,
    takes_part,
)
from vla.training.ahead import made_ahead
from vla.training.checkpoint import load_optimizer, optimizer_tensors, read_checkpoint, write_checkpoint
from vla.training.compiled import compile_blocks
from vla.training.curves import plot_curves
from vla.training.precision import keeping_random_state, mixed_precision
from vla.training.progress import steps_bar

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"
MAKERS = 8
"""Processes that make batches for a GPU, at most: of a small model's, one takes as long as its step, or longer."""


class Stage(Protocol):
    """What is trained, on what.

    model: its parameters that require gradients are optimised and averaged.
    batch: the data of one step, from (the stage's seed, step) alone; may be called in another process, on the CPU,
        and without torch's global random state. Tensors in (nested) dicts, lists and tuples are moved to the device.
    loss: the scalar to descend and named parts for the log.
    evaluate: named held-out results, called with the averaged weights in place.
    """

    @property
    def model(self) -> nn.Module: ...

    def batch(self, step: int) -> Any: ...

    def loss(self, batch: Any) -> tuple[Tensor, dict[str, Tensor | float]]: ...

    def evaluate(self) -> dict[str, float]: ...


@runtime_checkable
class Saves(Protocol):
    """A stage that also writes its model, with the averaged weights in place, at every checkpoint."""

    def save(self, out: Path) -> None: ...


@runtime_checkable
class Shares(Protocol):
    """A stage whose batches can be shared among processes (`vla.ranks`); others are computed whole by each."""

    def share(self, batch: Any, rank: Rank) -> Any: ...


@dataclass(frozen=True)
class LoopConfig:
    """steps and warmup in optimiser steps; lr is the peak, final_lr a fraction of it; ema the last decay.

    bf16: compute in bfloat16 where the device is fast at it. compile: layers and convolutions by `torch.compile`, meant
    for a GPU; the first steps then take long. seconds: train for so long, whatever steps says, with a learning rate
    that follows the clock; evaluations and checkpoints are not counted. Two such runs differ.
    """

    steps: int = 6000
    lr: float = 1e-3
    warmup: int = 200
    final_lr: float = 0.01
    weight_decay: float = 0.05
    grad_clip: float = 1.0
    beta2: float = 0.95
    ema: float = 0.998
    bf16: bool = True
    compile: bool = False
    device: str = "cpu"
    seed: int = 0
    log_every: int = 20
    eval_every: int = 500
    checkpoint_minutes: float = 3.0
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "lr", "log_every", "eval_every"):
            if getattr(self, name) <= 0:
                raise UserError(f"training config: {name} is {getattr(self, name)}, it must be above 0")
        if self.seconds is not None and not self.seconds > 0:
            raise UserError(f"training config: seconds is {self.seconds}, it must be above 0")

    def rate(self, step: int, spent: float = 0.0) -> float:
        """Learning rate of a step, `spent` seconds in: linear warm-up, then a cosine down to final_lr * lr."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        progress = spent / self.seconds if self.seconds else (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * (self.final_lr + (1 - self.final_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


# What may change between a run and its resumption without changing its curve.
_FREE = {"device", "compile", "checkpoint_minutes"}


def fit(stage: Stage, config: LoopConfig, out: Path, spent: float = 0.0) -> None:
    """Train `stage` for config.steps and leave its averaged weights in place; resumes from `out` if it holds a run.

    spent: what it took to prepare the stage, counted into config.seconds. Raises UserError when `out` cannot be written
    or holds another run, or nothing is left of config.seconds.
    """
    if config.seconds is not None and spent >= config.seconds:
        raise UserError(
            f"training config: seconds is {config.seconds:.3g}, and preparing the stage took {spent:.3g}: give it more"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / LOG).open("a").close()
    except OSError as error:
        raise UserError(f"training output {out} cannot be written: {error.strerror}") from error
    if config.seconds is not None and my_rank().size > 1:
        raise UserError("training config: seconds is for one process: the clocks of several differ; give steps")
    torch.manual_seed(config.seed)
    run = _Run(stage, config, out, spent)
    run.resume()
    if not run.rank.leads:  # what is drawn while computing is another's in every process
        torch.manual_seed(config.seed + 1_000_003 * run.rank.number + run.step)
    run.train()


class _Run:
    def __init__(self, stage: Stage, config: LoopConfig, out: Path, spent: float) -> None:
        self.stage, self.config, self.out = stage, config, out
        self.model = stage.model.to(config.device)
        if config.compile:
            compile_blocks(self.model)
        self.device = torch.device(config.device)
        self.names, groups = parameter_groups(self.model, config.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, config.beta2), fused=True)
        self.parameters = dict(self.model.named_parameters())
        self.rank = my_rank()
        agree(self.parameters[name] for name in self.names)
        self.average = {name: self.parameters[name].detach().clone() for name in self.names}
        self.step, self.spent = 0, spent

    @property
    def ended(self) -> bool:
        """After the last step, or when the time is up."""
        seconds = self.config.seconds
        return self.step >= self.config.steps if seconds is None else self.spent >= seconds

    # --- one step ------------------------------------------------------------------------------------------------

    def train(self) -> None:
        config = self.config
        saved_at = time.monotonic()
        window: dict[str, Tensor] = {}
        window_start = step_start = time.monotonic()
        steps = config.steps if config.seconds is None else None
        with steps_bar(steps, self.step, self.rank.leads) as advance, closing(self.batches()) as batches:
            for batch in batches:
                for name, value in self.descend(batch).items():
                    window[name] = window.get(name, 0) + torch.as_tensor(value).detach().float()
                self.step += 1
                now = time.monotonic()
                self.spent, step_start = self.spent + now - step_start, now
                if self.step % config.log_every and not self.ended:
                    continue

                count = (self.step - 1) % config.log_every + 1
                seconds = time.monotonic() - window_start
                means = {name: float(mean_of(total)) / count for name, total in window.items()}
                if not all(math.isfinite(value) for value in means.values()):
                    raise RuntimeError(f"training diverged at step {self.step}: {means}")
                timed = {} if config.seconds is None else {"spent_s": round(self.spent, 2)}
                lr, pace = config.rate(self.step - 1, self.spent), round(count / seconds, 3)
                self.log("train", means, lr=lr, steps_per_s=pace, **timed)
                advance(self.step, means["loss"])
                window = {}
                ended = self.ended
                if ended or self.step % max(config.eval_every, config.log_every) < config.log_every:
                    self.evaluate()
                if self.all_agree(time.monotonic() - saved_at > 60 * config.checkpoint_minutes) or ended:
                    self.save()
                    saved_at = time.monotonic()
                window_start = step_start = time.monotonic()
                if ended:
                    break
        self.copy_average()

    def batches(self) -> Generator[Any]:
        """Those of the steps to come; made ahead of time, by other processes, for a device that is not the CPU.

        On the CPU these would put more threads than cores under OpenMP, whose barriers then sleep instead of
        spinning: every step took nearly twice as long.
        """
        steps = range(self.step, self.config.steps if self.config.seconds is None else sys.maxsize)
        if self.ended:
            return
        if self.device.type == "cpu":
            yield from map(self.stage.batch, steps)
        else:
            cores = len(os.sched_getaffinity(0)) // self.rank.size
            yield from made_ahead(self.stage.batch, steps, max(1, min(MAKERS, cores - 1)))

    def descend(self, batch: Any) -> dict[str, Tensor | float]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate(self.step, self.spent)
        self.model.train()
        mine = self.stage.share(batch, self.rank) if isinstance(self.stage, Shares) else batch
        with mixed_precision(self.config.device, self.config.bf16):
            loss, parts = self.stage.loss(to_device(mine, self.device))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        share_gradients(self.parameters[name] for name in self.names)
        norm = clip_gradients((self.parameters[name] for name in self.names), self.config.grad_clip)
        self.optimizer.step()
        # The average forgets the first steps quickly (decay with warm-up).
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        values = [own_part(self.parameters[name].detach()) for name in self.names]
        torch._foreach_lerp_([own_part(value) for value in self.average.values()], values, 1 - decay)
        return {"loss": loss.detach(), **parts, "grad_norm": norm}

    def evaluate(self) -> None:
        if not takes_part(self.model):
            return
        with self.averaged(), keeping_random_state(self.device), torch.no_grad():
            self.model.eval()
            with mixed_precision(self.config.device, self.config.bf16):
                results = self.stage.evaluate()
        self.log("held_out", results)
        if self.rank.leads:
            plot_curves(self.out / LOG, self.out / "curves.png")

    def all_agree(self, due: bool) -> bool:
        """Whether it is due in all processes: their clocks differ, and what is split among them they save together."""
        return bool(mean_of(torch.tensor(float(due), device=self.device)) == 1)

    # --- averaged weights ----------------------------------------------------------------------------------------

    @contextmanager
    def averaged(self) -> Iterator[None]:
        live = {name: self.parameters[name].detach().clone() for name in self.names}
        self.copy_average()
        try:
            yield
        finally:
            for name, value in live.items():
                self.parameters[name].data.copy_(value)

    def copy_average(self) -> None:
        for name, value in self.average.items():
            self.parameters[name].data.copy_(value)

    # --- on disk -------------------------------------------------------------------------------------------------

    def log(self, kind: str, values: dict[str, float], **extra: float) -> None:
        if not self.rank.leads:
            return
        line = {"kind": kind, "step": self.step, **extra, **{k: round(float(v), 6) for k, v in values.items()}}
        with (self.out / LOG).open("a") as file:
            file.write(json.dumps(line) + "\n")

    def save(self) -> None:
        if not takes_part(self.model):
            return
        tensors = {f"model/{name}": value for name, value in self.changing().items()}
        tensors |= {f"average/{name}": value for name, value in self.average.items()}
        tensors |= optimizer_tensors(self.optimizer, self.names)
        tensors["random/cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["random/cuda"] = torch.cuda.get_rng_state(self.device)
        state = {"step": self.step, "spent": self.spent, "config": asdict(self.config)}
        write_checkpoint(self.out / CHECKPOINT, tensors, state)
        if isinstance(self.stage, Saves):
            with self.averaged():
                self.stage.save(self.out)

    def changing(self) -> dict[str, Tensor]:
        """The model's state but for frozen weights, which come from where they came from, as large as they may be."""
        frozen = {name for name, p in self.model.named_parameters(remove_duplicate=False) if not p.requires_grad}
        return {name: value for name, value in self.model.state_dict().items() if name not in frozen}

    def resume(self) -> None:
        path = self.out / CHECKPOINT
        if not path.exists():
            if self.rank.leads:
                (self.out / LOG).write_text("")
            return
        tensors, state = read_checkpoint(path)
        mine = asdict(self.config)
        changed = sorted(k for k in mine if k not in _FREE and mine[k] != state["config"].get(k))
        if changed:
            theirs = ", ".join(f"{k} was {state['config'].get(k)}, is {mine[k]}" for k in changed)
            raise UserError(f"{self.out} holds a run with another configuration ({theirs}); choose another folder")
        weights = {name.removeprefix("model/"): t for name, t in tensors.items() if name.startswith("model/")}
        try:
            if differing := self.changing().keys() ^ weights.keys():
                raise RuntimeError(f"{min(differing)} is in one of them only")
            known = self.model.state_dict()
            weights = {name: split_as(value, known[name]) for name, value in weights.items()}
            self.model.load_state_dict(weights, strict=False)
            for name, value in self.average.items():
                value.copy_(split_as(tensors[f"average/{name}"], value))
            load_optimizer(self.optimizer, self.names, tensors)
        except (RuntimeError, KeyError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise UserError(f"{path} holds another model ({reason}); choose another folder") from error
        torch.set_rng_state(tensors["random/cpu"])
        if "random/cuda" in tensors and self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random/cuda"], self.device)
        self.step, self.spent = int(state["step"]), float(state.get("spent", 0.0))
        if self.rank.leads:
            _forget_after(self.out / LOG, self.step)


def parameter_groups(model: nn.Module, weight_decay: float) -> tuple[list[str], list[dict[str, Any]]]:
    """Matrices decay, vectors (biases, norms) do not; what is split has groups of its own. Names in the optimiser's
    order.
    """
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not trained:
        raise ValueError("nothing to train: no parameter requires a gradient")
    names: list[str] = []
    groups: list[dict[str, Any]] = []
    for matrix, split in product((True, False), (False, True)):
        group = [(name, p) for name, p in trained if (p.ndim > 1, is_split(p)) == (matrix, split)]
        if group:
            names += [name for name, _ in group]
            groups.append({"params": [p for _, p in group], "weight_decay": weight_decay if matrix else 0.0})
    return names, groups


def to_device(batch: Any, device: torch.device) -> Any:
    """The batch with the tensors in its dicts, lists and tuples on `device`."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, (list, tuple)) and not (batch and isinstance(batch[0], str)):
        return type(batch)(to_device(value, device) for value in batch)
    return batch


def _forget_after(log: Path, step: int) -> None:
    """Drop log lines of steps that will be taken again, and a last line cut short by a kill."""
    kept = []
    for line in log.read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry["step"] <= step:
            kept.append(line + "\n")
    temporary = log.with_name(log.name + ".writing")
    temporary.write_text("".join(kept))
    os.replace(temporary, log)
