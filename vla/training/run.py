"""A whole training run: the stages of a recipe, one after the other, over datasets of episodes and still scenes.

The folder of a run:
    run.json     recipe, datasets and start: what it was started with, it goes on with (`vla.training.run_file`)
    1-words/ ... one folder per stage (`vla.training.loop`)
    latents/     what S2 thought of every frame, for S1's stage
    policy/      the newest whole policy, a checkpoint of `vla.tandem`
    s2/          S2 alone, of a recipe that trains nothing else
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from vla import assets
from vla.data.stills import StillScenes
from vla.errors import UserError
from vla.many import ManyPolicy, open_policy
from vla.ranks import join, leader_first, leave, my_rank, own_part, split, takes_part
from vla.s1.shared import SharedFastSystem
from vla.s1.system import FastSystem
from vla.s2.parts import set_trained
from vla.s2.small import SmallShape
from vla.s2.system import SlowConfig, SlowSystem
from vla.spec import RobotSpec
from vla.tandem import SLOW_FOLDER, TandemConfig, TandemPolicy
from vla.training.compiled import check_compiler
from vla.training.datasets import Data, find_datasets, open_cache, says_who_drove, spec_of
from vla.training.estimate import estimate
from vla.training.examples import DriverWeights, fit_action_tokens
from vla.training.latents import CachedThoughts, compute_latents
from vla.training.loop import LoopConfig, fit
from vla.training.precision import device_named, is_quick
from vla.training.recipe import Recipe, StageRecipe, load_recipe
from vla.training.robots import (
    RobotRecipe,
    Robots,
    check_robots,
    examples_by_robot,
    make_policy,
    share_out,
    together,
)
from vla.training.run_file import RunFile
from vla.training.stage_joint import JointStage
from vla.training.stage_s1 import FastStage
from vla.training.stage_s2 import WordsStage


def train(
    datasets: Sequence[Path],
    out: Path,
    recipe: Path | str | None,
    device: str = "auto",
    policy: str | None = None,
    weights: Sequence[float] | None = None,
    s2: str | None = None,
    drivers: DriverWeights | None = None,
) -> None:
    """Train a policy into `out`, going on where an earlier call stopped.

    datasets: LeRobot datasets, training caches and folders of still scenes. recipe: a shipped name or a YAML file, the
    tabletop one by default. device: auto, cpu, cuda, cuda:N. policy: folder of a checkpoint to start from. weights: of
    each dataset of episodes, as `Examples` has them, default 1.
    drivers: weights of frames by who drove, and of failures, for datasets that say it.
    s2: folder of one for another robot, of which S2 alone is taken; it then learns from actions without still scenes.
    Raises UserError for bad input before anything is written.
    """
    plan = load_recipe(assets.find("recipe", recipe or "tabletop"))
    place = join(device_named(device))
    if any(stage.loop.compile for stage in plan.stages):
        check_compiler(place)
    data = find_datasets(datasets, weights or [1.0] * len(datasets))
    plan = _with_cameras(plan, data)
    dtype = None if is_quick(place) else torch.float32
    start = open_policy(policy, dtype) if policy else None
    torch.manual_seed(plan.seed)  # of the first values of what is new
    taken = SlowSystem.from_pretrained(Path(s2) / SLOW_FOLDER, dtype) if s2 else None
    known = start.s2 if start else taken
    if known:
        plan = _with_slow(plan, known.config)
    _check(plan, data, start, taken)
    specs = [spec_of(folder) for folder in data.episodes]
    if start and specs:
        _check_start(start, specs)
    check_robots(specs, plan.fast, plan.slow, _robots(plan, start))
    slow = start.s2 if start else taken or _open_vlm(plan.slow, place)
    if drivers and not any(says_who_drove(folder) for folder in data.episodes):
        raise UserError(
            "train: --autonomous, --corrections and --failures: no dataset says who drove; those of vla teleop do"
        )
    begun_with = RunFile.of(plan, datasets, data, weights, drivers, policy, s2)
    begun_with.check(out)
    run = _Run(plan, data, out, place, start, slow, drivers)
    with leader_first():
        begun_with.write(out)
    run.train()
    leave()


class _Run:
    def __init__(
        self,
        recipe: Recipe,
        data: Data,
        out: Path,
        device: str,
        start: TandemPolicy | ManyPolicy | None,
        slow: SlowSystem | None,
        drivers: DriverWeights | None,
    ) -> None:
        self.recipe, self.out, self.device = recipe, out, device
        self.scenes = StillScenes(data.stills[0]) if data.stills else None
        with leader_first():
            self.caches = [open_cache(folder) for folder in data.episodes]
        self.slow = slow
        if self.scenes:
            _check_cells(self.scenes, recipe.shape, slow)
        self.fast: FastSystem | SharedFastSystem | None = None
        self.words: WordsStage | None = None
        if self.slow:
            self.slow.config = recipe.slow
            set_trained(self.slow)
        if self.caches:
            known = {name: one.normalizer for name, one in start.robots.items()} if start else {}
            self.examples = examples_by_robot(self.caches, data.weights, known, drivers)
            annotated = any(one.annotated for one in self.examples.values())
            if not annotated and any(s.stage == "joint" and s.joint.hindsight for s in recipe.stages):
                raise UserError(
                    "train: joint.hindsight is given, but no episode has an annotation with an instruction; make them "
                    "with vla data annotate"
                )
        self.robots = _robots(recipe, start)
        if start:
            self.fast = start.shared if isinstance(start, ManyPolicy) else start.s1
        self.console = Console(stderr=True, quiet=not my_rank().leads)

    def train(self) -> None:
        steps = {"words": self._train_words, "s1": self._train_s1, "joint": self._train_joint}
        for number, stage in enumerate(self.recipe.stages, 1):
            folder = self.out / f"{number}-{stage.stage}"
            self.console.print(f"stage {number} of {len(self.recipe.stages)}: {stage.stage}", highlight=False)
            steps[stage.stage](stage, replace(stage.loop, device=self.device, seed=self.recipe.seed), folder)
            if self.fast is not None and self.slow is not None and self.caches and takes_part(self.slow):
                self._policy().save_pretrained(self.out / "policy")
        if not self.caches and self.slow is not None and my_rank().leads:
            self.slow.save_pretrained(self.out / "s2")

    # Each stage hands its averaged weights on in self.slow and self.fast; a finished one only loads them.

    def _train_words(self, stage: StageRecipe, loop: LoopConfig, folder: Path) -> None:
        fit(self._words_stage(stage), loop, folder)

    def _train_s1(self, stage: StageRecipe, loop: LoopConfig, folder: Path) -> None:
        assert self.slow is not None
        self.slow.to(self.device).eval().requires_grad_(False)
        policy, latents = self._policy(), self.out / "latents"
        shares = share_out(stage.s1.batch, self.examples)
        parts: dict[str, FastStage] = {}
        read_s = 0.0
        for i, (name, one) in enumerate(policy.robots.items()):
            examples, seed = self.examples[name], self.recipe.seed + i
            with leader_first():
                thoughts = [compute_latents(one.s2, cache, latents, stage.s1.stride) for cache in examples.caches]
            read_s += sum(part.seconds for part in thoughts)
            config = replace(stage.s1, batch=shares[name])
            parts[name] = FastStage(one.s1, examples, CachedThoughts(thoughts), config, seed, one)
        fit(together(policy, parts, shares, frozen=True), loop, folder, spent=read_s)

    def _train_joint(self, stage: StageRecipe, loop: LoopConfig, folder: Path) -> None:
        # An earlier words stage goes on, with the heads it has trained; else they start anew.
        words = self.words or (self._words_stage(stage) if self.scenes else None)
        if words:
            words.config = replace(stage.words, seed=self.recipe.seed)
        policy = self._policy()
        set_trained(policy.s2)
        shares = share_out(stage.joint.s1.batch, self.examples)
        if stage.joint.shard:
            self._split(policy.s2, shares, loop)
        parts: dict[str, JointStage] = {}
        for i, (name, one) in enumerate(policy.robots.items()):
            config = replace(stage.joint, s1=replace(stage.joint.s1, batch=shares[name]))
            own = words if len(shares) == 1 else None
            parts[name] = JointStage(one, self.examples[name], own, config, self.recipe.seed + i)
        joint = together(policy, parts, shares, words, stage.joint.words)
        if self.recipe.slow.vlm:
            self._say_what_it_takes(joint.model, next(iter(parts.values())), stage.joint.s1.batch, loop)
        fit(joint, loop, folder)

    def _split(self, s2: SlowSystem, shares: Mapping[str, int], loop: LoopConfig) -> None:
        """S2 among the processes; UserError if they would not all call it equally often, and wait for ever."""
        processes = my_rank().size
        uneven = next((count for count in shares.values() if count % processes), None)
        if uneven:
            raise UserError(
                f"train: joint.shard: {uneven} frames of a batch cannot be shared evenly among {processes} processes"
            )
        in_bf16 = loop.bf16 and torch.device(self.device).type == "cuda"
        split(s2, self.device, torch.bfloat16 if in_bf16 else None)
        own, all_of_it = (sum(part(p).numel() for p in s2.parameters()) for part in (own_part, Tensor.detach))
        self.console.print(f"S2: each of {processes} processes keeps {own:,} of {all_of_it:,} weights", highlight=False)

    def _words_stage(self, stage: StageRecipe) -> WordsStage:
        assert self.scenes is not None
        config = replace(stage.words, seed=self.recipe.seed)
        # Still scenes are of the robot whose frames have their camera; of others S2 must know the words.
        own = [cache for cache in self.caches if "front" in cache.images]
        others = [cache for cache in self.caches if cache.spec.name != self.caches[0].spec.name]
        slow, shape = self.recipe.slow, self.recipe.shape
        self.words = WordsStage(self.scenes, config, own, self.slow, slow, shape, others)
        self.slow = self.words.model.s2
        set_trained(self.slow)
        return self.words

    def _say_what_it_takes(self, model: nn.Module, joint: JointStage, batch: int, loop: LoopConfig) -> None:
        seen = joint.observations(joint.examples.trained[:2])
        recompute = joint.config.recompute
        taken = estimate(model.to(self.device), joint.policy.s2, *seen, batch, loop, recompute)
        for line in taken.lines(batch, loop.steps):
            self.console.print(line, highlight=False, soft_wrap=True)

    def _policy(self) -> TandemPolicy | ManyPolicy:
        """Both halves as they are now; a new S1 if there is none yet."""
        assert self.slow is not None
        recipe = self.recipe
        if self.fast is None:
            torch.manual_seed(recipe.seed)
        config = TandemConfig(fast=recipe.fast, replan_steps=recipe.replan_steps)
        if len(self.examples) > 1 or isinstance(self.fast, SharedFastSystem):
            assert not isinstance(self.fast, FastSystem)
            several = make_policy(self.examples, self.slow, self.fast, config, self.robots)
            self.fast = several.shared
            return several.to(self.device)
        (examples,) = self.examples.values()
        if self.fast is None:
            sizes = examples.spec.state_size, examples.spec.action_size
            tokens = fit_action_tokens(examples, recipe.fast.horizon) if recipe.fast.head == "fast" else None
            self.fast = FastSystem(recipe.fast, *sizes, self.slow.latent_shape, tokens)
        return TandemPolicy(examples.spec, self.slow, self.fast, examples.normalizer, config).to(self.device)


def _with_cameras(recipe: Recipe, data: Data) -> Recipe:
    """Cameras a recipe leaves open (`cameras: []`) are the robots': all for S1, the first that stands still for S2."""
    if (recipe.fast.cameras and recipe.slow.cameras) or not data.episodes:
        return recipe
    robots = [spec_of(folder) for folder in data.episodes]
    first = robots[0].cameras
    if not first:
        raise UserError(f"train: robot {robots[0].name} has no cameras: neither S1 nor S2 can do without")
    names = dict.fromkeys(name for robot in robots for name in robot.camera_names)
    looks = next((camera for camera in first if camera.mount == "fixed"), first[0]).name
    fast = replace(recipe.fast, cameras=recipe.fast.cameras or tuple(names))
    return replace(recipe, fast=fast, slow=replace(recipe.slow, cameras=recipe.slow.cameras or (looks,)))


def _check_start(start: TandemPolicy | ManyPolicy, specs: Sequence[RobotSpec]) -> None:
    """UserError unless the datasets are of the robots of --policy, all of them."""
    for spec in specs:
        start.of_robot(spec)
    missing = start.robots.keys() - {spec.name for spec in specs}
    if missing:
        raise UserError(f"train: --policy is of robot {min(missing)} too; give a dataset of it")


def _robots(recipe: Recipe, start: TandemPolicy | ManyPolicy | None) -> Robots:
    """Which camera is in which slot: as --policy has them, if it is of several robots, else as the recipe says."""
    if isinstance(start, ManyPolicy):
        return {name: RobotRecipe(one.cameras) for name, one in start.embodiments.items()}
    return recipe.robots


def _with_slow(recipe: Recipe, config: SlowConfig) -> Recipe:
    """The recipe for an S2 that is there: its own settings behind the recipe's cameras, unless that has others."""
    own = replace(SlowConfig(), cameras=recipe.slow.cameras)
    return replace(recipe, slow=replace(config, cameras=own.cameras)) if recipe.slow == own else recipe


def _check(recipe: Recipe, data: Data, start: TandemPolicy | ManyPolicy | None, taken: SlowSystem | None) -> None:
    """UserError if the recipe asks for what the data cannot give, or differs from what --policy or --s2 bring."""
    has_s2 = start is not None or taken is not None
    kinds = [stage.stage for stage in recipe.stages]
    for kind in kinds:
        # A VLM has its words already; a small S2 would forget them, but of a robot of one's own there are no scenes.
        if not data.stills and (kind == "words" or (kind == "joint" and not recipe.slow.vlm and not has_s2)):
            other = "another policy's S2 with --s2" if kind == "joint" else "--s2 tabletop --recipe own-robot"
            raise UserError(
                f"train: stage {kind} needs still scenes; add a --dataset made by vla collect --stills N, or {other}"
            )
        if kind != "words" and not data.episodes:
            raise UserError(f"train: stage {kind} needs episodes; add a --dataset made by vla collect --episodes N")
    seen = {name for folder in data.episodes for name in spec_of(folder).camera_names}
    if data.stills and any(stage.words.frames for stage in recipe.stages) and "front" not in seen:
        raise UserError("train: words.frames: no dataset of episodes has a camera front, whose frames it asks about")
    if len(data.stills) > 1:
        raise UserError(f"train: {data.stills[0]} and {data.stills[1]} both hold still scenes; give one such folder")
    if kinds[0] != "words" and not recipe.slow.vlm and not has_s2:
        raise UserError(
            f"train: the recipe begins with {kinds[0]}, which needs an S2: begin with words, or give slow.vlm, "
            "--policy or --s2"
        )
    if taken is not None and replace(taken.config, cameras=recipe.slow.cameras) != recipe.slow:
        raise UserError("train: the recipe's slow differs from the S2 of --s2: leave all but its cameras out")
    if start is None:
        return
    same = {
        "fast differs from the S1": start.config.fast == recipe.fast,
        "slow differs from the S2": replace(start.s2.config, words_prompt=recipe.slow.words_prompt) == recipe.slow,
    }
    for what, agrees in same.items():
        if not agrees:
            raise UserError(f"train: the recipe's {what} of --policy: make them agree, or give no --policy")


def _check_cells(scenes: StillScenes, shape: SmallShape, slow: SlowSystem | None) -> None:
    """UserError if the small S2's finer map does not have the cells of the still scenes' labels."""
    if slow and not slow.family.bare:
        return
    vision = slow.model.config.vision_config if slow else shape
    finer, cells = 2 ** (len(vision.channels) - 1), scenes.cells.shape[1]
    if vision.image_size != finer * cells:
        raise UserError(
            f"train: S2's images are of {vision.image_size} pixels (shape.image_size), the {cells} x {cells} cells of "
            f"the still scenes ask for {finer * cells}"
        )


def _open_vlm(config: SlowConfig, device: str) -> SlowSystem | None:
    """The VLM a recipe names, if it does; half as large where the device computes in bfloat16."""
    if config.vlm is None:
        return None
    return SlowSystem.from_vlm(config if is_quick(device) else replace(config, dtype="float32"))
