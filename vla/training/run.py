"""A whole training run: the stages of a recipe, one after the other, over datasets of episodes and still scenes.

The folder of a run:
    run.json     recipe and datasets; what it was started with, it goes on with
    1-words/ ... one folder per stage (`vla.training.loop`)
    latents/     what S2 thought of every frame, for S1's stage
    policy/      the newest whole policy, a checkpoint of `vla.tandem`
    s2/          S2 alone, of a recipe that trains nothing else
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from vla import assets
from vla.data.cache import FrameCache, build_cache
from vla.data.stills import StillScenes
from vla.errors import UserError
from vla.s1.system import FastSystem
from vla.s2.parts import set_trained
from vla.s2.system import SlowConfig, SlowSystem
from vla.spec import RobotSpec
from vla.strict import parse
from vla.tandem import SLOW_FOLDER, TandemConfig, TandemPolicy
from vla.training.estimate import estimate
from vla.training.examples import Examples, fit_action_tokens, fit_normalizer, one_spec
from vla.training.latents import CachedThoughts, compute_latents
from vla.training.loop import LoopConfig, fit
from vla.training.precision import device_named, is_quick
from vla.training.recipe import Recipe, StageRecipe, load_recipe
from vla.training.stage_joint import JointStage
from vla.training.stage_s1 import FastStage
from vla.training.stage_s2 import WordsStage

RUN_FILE = "run.json"
VERSION = 1


def train(
    datasets: Sequence[Path],
    out: Path,
    recipe: Path | str | None,
    device: str = "auto",
    policy: str | None = None,
    weights: Sequence[float] | None = None,
    s2: str | None = None,
) -> None:
    """Train a policy into `out`, going on where an earlier call stopped.

    datasets: LeRobot datasets, training caches and folders of still scenes. recipe: a shipped name or a YAML file, the
    tabletop one by default. device: auto, cpu, cuda, cuda:N. policy: folder of a checkpoint to start from. weights: of
    each dataset of episodes, as `Examples` has them, default 1.
    s2: folder of one for another robot, of which S2 alone is taken; it then learns from actions without still scenes.
    Raises UserError for bad input before anything is written.
    """
    plan = load_recipe(assets.find("recipe", recipe or "tabletop"))
    place = device_named(device)
    data = _find(datasets, weights or [1.0] * len(datasets))
    plan = _with_cameras(plan, data)
    start = TandemPolicy.from_pretrained(policy) if policy else None
    taken = SlowSystem.from_pretrained(Path(s2) / SLOW_FOLDER) if s2 else None
    if taken:
        plan = _with_slow(plan, taken.config)
    _check(plan, data, start, taken is not None)
    slow = start.s2 if start else taken or _open_vlm(plan.slow, place)
    _claim(out, plan, datasets, weights)
    _Run(plan, data, out, place, start, slow).train()


@dataclass(frozen=True)
class Data:
    """Folders: of still scenes, and of episodes (LeRobot datasets or their caches) with the weight of each."""

    stills: tuple[Path, ...]
    episodes: tuple[Path, ...]
    weights: tuple[float, ...]


class _Run:
    def __init__(
        self, recipe: Recipe, data: Data, out: Path, device: str, start: TandemPolicy | None, slow: SlowSystem | None
    ) -> None:
        self.recipe, self.out, self.device = recipe, out, device
        self.scenes = StillScenes(data.stills[0]) if data.stills else None
        self.caches = [open_cache(folder) for folder in data.episodes]
        self.slow = slow
        self.fast: FastSystem | None = start.s1 if start else None
        self.words: WordsStage | None = None
        if self.slow:
            self.slow.config = recipe.slow
            set_trained(self.slow)
        if self.caches:
            self.spec = one_spec(self.caches)
            if start:
                start.spec.check_robot(self.spec)
            normalizer = start.normalizer if start else fit_normalizer(self.caches)
            self.examples = Examples(self.caches, normalizer, data.weights)
            if not self.examples.annotated and any(s.stage == "joint" and s.joint.hindsight for s in recipe.stages):
                raise UserError(
                    "train: joint.hindsight is given, but no episode has an annotation with an instruction; make them "
                    "with vla data annotate"
                )
        self.console = Console(stderr=True)

    def train(self) -> None:
        steps = {"words": self._train_words, "s1": self._train_s1, "joint": self._train_joint}
        for number, stage in enumerate(self.recipe.stages, 1):
            folder = self.out / f"{number}-{stage.stage}"
            self.console.print(f"stage {number} of {len(self.recipe.stages)}: {stage.stage}", highlight=False)
            steps[stage.stage](stage, replace(stage.loop, device=self.device, seed=self.recipe.seed), folder)
            if self.fast is not None and self.caches:
                self._policy().save_pretrained(self.out / "policy")
        if not self.caches and self.slow is not None:
            self.slow.save_pretrained(self.out / "s2")

    # Each stage hands its averaged weights on in self.slow and self.fast; a finished one only loads them.

    def _train_words(self, stage: StageRecipe, loop: LoopConfig, folder: Path) -> None:
        fit(self._words_stage(stage), loop, folder)

    def _train_s1(self, stage: StageRecipe, loop: LoopConfig, folder: Path) -> None:
        assert self.slow is not None
        slow = self.slow.to(self.device).eval().requires_grad_(False)
        latents = self.out / "latents"
        thoughts = CachedThoughts([compute_latents(slow, cache, latents, stage.s1.stride) for cache in self.caches])
        policy = self._policy()
        fit(FastStage(policy.s1, self.examples, thoughts, stage.s1, self.recipe.seed, policy), loop, folder)

    def _train_joint(self, stage: StageRecipe, loop: LoopConfig, folder: Path) -> None:
        # An earlier words stage goes on, with the heads it has trained; else they start anew.
        words = self.words or (self._words_stage(stage) if self.scenes else None)
        if words:
            words.config = replace(stage.words, seed=self.recipe.seed)
        policy = self._policy()
        set_trained(policy.s2)
        joint = JointStage(policy, self.examples, words, stage.joint, self.recipe.seed)
        if self.recipe.slow.vlm:
            self._say_what_it_takes(joint, loop)
        fit(joint, loop, folder)

    def _words_stage(self, stage: StageRecipe) -> WordsStage:
        assert self.scenes is not None
        config = replace(stage.words, seed=self.recipe.seed)
        self.words = WordsStage(self.scenes, config, self.caches, self.slow, self.recipe.slow, self.recipe.shape)
        self.slow = self.words.model.s2
        set_trained(self.slow)
        return self.words

    def _say_what_it_takes(self, joint: JointStage, loop: LoopConfig) -> None:
        batch = joint.config.s1.batch
        model, slow = joint.model.to(self.device), joint.policy.s2
        taken = estimate(model, slow, *joint.observations(self.examples.trained[:2]), batch, loop)
        for line in taken.lines(batch, loop.steps):
            self.console.print(line, highlight=False, soft_wrap=True)

    def _policy(self) -> TandemPolicy:
        """Both halves as they are now; a new S1 if there is none yet."""
        assert self.slow is not None
        if self.fast is None:
            torch.manual_seed(self.recipe.seed)
            sizes = self.spec.state_size, self.spec.action_size
            fast = self.recipe.fast
            tokens = fit_action_tokens(self.examples, fast.horizon) if fast.head == "fast" else None
            self.fast = FastSystem(fast, *sizes, self.slow.latent_shape, tokens)
        config = TandemConfig(fast=self.fast.config, replan_steps=self.recipe.replan_steps)
        return TandemPolicy(self.spec, self.slow, self.fast, self.examples.normalizer, config).to(self.device)


def _find(datasets: Sequence[Path], weights: Sequence[float]) -> Data:
    """What the folders hold; UserError names one that holds nothing to train on."""
    stills: list[Path] = []
    episodes: list[tuple[Path, float]] = []
    for folder, weight in zip(datasets, weights, strict=True):
        is_dataset = (folder / "meta" / "info.json").is_file()
        if is_dataset or (folder / "episode.npy").is_file() or (folder / "cache" / "episode.npy").is_file():
            episodes.append((folder, weight))
        elif (folder / "words.jsonl").is_file():
            if weight != 1:
                raise UserError(f"dataset {folder}: still scenes are not weighted; give it without :{weight:g}")
            stills.append(folder)
        else:
            raise UserError(f"dataset {folder}: neither LeRobot episodes nor still scenes; make some with vla collect")
    return Data(tuple(stills), tuple(folder for folder, _ in episodes), tuple(weight for _, weight in episodes))


def open_cache(folder: Path) -> FrameCache:
    """Of a LeRobot dataset, built if need be, or a cache itself."""
    is_dataset = (folder / "meta" / "info.json").is_file()
    return build_cache(folder) if is_dataset else FrameCache.open(folder)


def _with_cameras(recipe: Recipe, data: Data) -> Recipe:
    """Cameras a recipe leaves open (`cameras: []`) are the robot's: all for S1, the first that stands still for S2."""
    if (recipe.fast.cameras and recipe.slow.cameras) or not data.episodes:
        return recipe
    file = assets.find("robot", data.episodes[0].resolve())
    cameras = RobotSpec.load(file).cameras
    if not cameras:
        raise UserError(f"{file}: no cameras, and neither S1 nor S2 can do without")
    first = next((camera for camera in cameras if camera.mount == "fixed"), cameras[0]).name
    fast = replace(recipe.fast, cameras=recipe.fast.cameras or tuple(camera.name for camera in cameras))
    return replace(recipe, fast=fast, slow=replace(recipe.slow, cameras=recipe.slow.cameras or (first,)))


def _with_slow(recipe: Recipe, config: SlowConfig) -> Recipe:
    """The recipe for an S2 that is there: its own settings, behind the recipe's cameras."""
    cameras = recipe.slow.cameras
    if recipe.slow not in (replace(SlowConfig(), cameras=cameras), replace(config, cameras=cameras)):
        raise UserError("train: the recipe's slow differs from the S2 of --s2: leave all but its cameras out")
    return replace(recipe, slow=replace(config, cameras=cameras))


def _check(recipe: Recipe, data: Data, start: TandemPolicy | None, has_s2: bool) -> None:
    """UserError if the recipe asks for what the data cannot give. has_s2: one is taken from another robot's policy."""
    kinds = [stage.stage for stage in recipe.stages]
    for kind in kinds:
        # A VLM has its words already; a small S2 would forget them, but there are none of another robot's scenes.
        if not data.stills and (kind == "words" or (kind == "joint" and not recipe.slow.vlm and not has_s2)):
            other = ", or another policy's S2 with --s2" if kind == "joint" else ""
            raise UserError(
                f"train: stage {kind} needs still scenes; add a --dataset made by vla collect --stills N{other}"
            )
        if kind != "words" and not data.episodes:
            raise UserError(f"train: stage {kind} needs episodes; add a --dataset made by vla collect --episodes N")
    if len(data.stills) > 1:
        raise UserError(f"train: {data.stills[0]} and {data.stills[1]} both hold still scenes; give one such folder")
    if start is None and kinds[0] != "words" and not recipe.slow.vlm and not has_s2:
        raise UserError(
            f"train: the recipe begins with {kinds[0]}, which needs an S2: begin with words, or give slow.vlm, "
            "--policy or --s2"
        )
    if start is None:
        return
    same = {
        "fast differs from the S1": start.config.fast == recipe.fast,
        "slow differs from the S2": replace(start.s2.config, words_prompt=recipe.slow.words_prompt) == recipe.slow,
    }
    for what, agrees in same.items():
        if not agrees:
            raise UserError(f"train: the recipe's {what} of --policy: make them agree, or give no --policy")


def _open_vlm(config: SlowConfig, device: str) -> SlowSystem | None:
    """The VLM a recipe names, if it does; half as large where the device computes in bfloat16."""
    if config.vlm is None:
        return None
    return SlowSystem.from_vlm(config if is_quick(device) else replace(config, dtype="float32"))


def _claim(out: Path, recipe: Recipe, datasets: Sequence[Path], weights: Sequence[float] | None) -> None:
    """Make `out` this run's folder; UserError if it is something else's."""
    path = out / RUN_FILE
    folders: list[str] | dict[str, float] = [str(folder.resolve()) for folder in datasets]
    if weights and any(weight != 1 for weight in weights):
        folders = dict(zip(folders, weights, strict=True))
    try:
        if path.is_file():
            known = json.loads(path.read_text())
            # Parsed, so that a key the program has learned since counts as its default.
            same = {
                "recipe": parse(Recipe, known.get("recipe"), str(path)) == recipe,
                "list of datasets or weights": known.get("datasets") == folders,
            }
            differing = next((what for what, agrees in same.items() if not agrees), None)
            if differing:
                raise UserError(f"{out} holds a run with another {differing}; choose another --out")
            return
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out} holds something that is no training run; choose another --out")
        out.mkdir(parents=True, exist_ok=True)
        run = {"version": VERSION, "recipe": recipe.to_dict(), "datasets": folders}
        path.write_text(json.dumps(run, indent=2) + "\n")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"training output {out}: {error}") from None
