"""S1's stage: what a batch holds, that it learns to follow the latents, latents on disk, and the joint finish."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dot_world import SPEC, write_episodes

from vla.data.cache import FrameCache
from vla.data.slices import look_back
from vla.errors import UserError
from vla.s1.system import FastConfig, FastSystem
from vla.s2.small import SmallShape, small_slow_system
from vla.tandem import TandemPolicy
from vla.training.augment import AugmentConfig, Changes, apply_changes, draw_changes
from vla.training.delays import DelayConfig, draw_ages, draw_prefixes
from vla.training.examples import DriverWeights, Examples, fit_action_tokens, fit_normalizer
from vla.training.latents import CachedThoughts, compute_latents
from vla.training.loop import LoopConfig, fit
from vla.training.stage_s1 import FastStage, FastStageConfig, fast_batch

FAST = FastConfig(
    image_size=(32, 32), channels=(8, 16, 16), horizon=4, width=32, layers=1, heads=2, mlp=48, summary=True
)
DELAYS = DelayConfig(max_age=0.4, max_prefix=2, no_prefix=0.8)
CONFIG = FastStageConfig(batch=32, held_out=180, delays=DELAYS, augment=AugmentConfig(shift=0))
SHAPE = SmallShape(image_size=32, channels=(16, 16, 32, 32), width=32, layers=1, heads=2, mlp=48)


class KnownTargets:
    """Thoughts that say where to go: what a perfect S2 would leave behind."""

    stride = 1

    def __init__(self, cache: FrameCache) -> None:
        self.targets = torch.from_numpy(np.array(cache.target_pixel))

    def at(self, frames: np.ndarray) -> torch.Tensor:
        places = self.targets[frames]
        return torch.cat([places, 1 - places, torch.tensor([[2.0, -2.0, 0.0, 0.0]]).expand(len(places), 4)], 1)[:, None]


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> FrameCache:
    return write_episodes(tmp_path_factory.mktemp("dots") / "cache", episodes=300)


@pytest.fixture(scope="module")
def examples(cache: FrameCache) -> Examples:
    return Examples([cache], fit_normalizer([cache]))


def stage_for(cache: FrameCache, examples: Examples, fast: FastConfig = FAST) -> FastStage:
    torch.manual_seed(0)
    return FastStage(FastSystem(fast, 3, 3, (1, 8)), examples, KnownTargets(cache), CONFIG)


def test_a_batch_depends_on_seed_and_step_alone(cache: FrameCache, examples: Examples) -> None:
    first, again, other = (stage_for(cache, examples).batch(step) for step in (3, 3, 4))
    for name in ("actions", "state", "age", "prefix_len", "latents"):
        torch.testing.assert_close(first[name], again[name], equal_nan=True)
        assert not torch.equal(first[name], other[name])
    torch.testing.assert_close(first["changes"]["wrist"], again["changes"]["wrist"])
    assert first["images"]["front"].dtype == torch.uint8


def test_chunks_end_with_the_episode_and_hold_beyond_it(cache: FrameCache, examples: Examples) -> None:
    actions, valid = examples.chunks(np.array([9]), 5)
    assert valid.tolist() == [[True, True, True, False, False]]
    robot = examples.normalizer.action.denormalize(actions[0])
    np.testing.assert_allclose(robot[:3], cache.action[9:12], atol=1e-4)
    gripper = cache.action[11, 2]
    np.testing.assert_allclose(robot[3:], [[0, 0, gripper]] * 2, atol=1e-4)


def test_what_answers_a_later_disturbance_is_not_learned(cache: FrameCache) -> None:
    disturbed = np.zeros(len(cache), np.float32)
    disturbed[[2, 3, 7]] = 1
    examples = Examples([replace(cache, disturbed=disturbed)], fit_normalizer([cache]))
    learned = examples.chunks(np.array([0, 2, 3, 4, 8]), 6)[1].sum(1)
    assert learned.tolist() == [3, 1, 1, 4, 4]  # the episode has 12 frames


def test_what_was_executed_is_given_and_explains_what_followed(cache: FrameCache) -> None:
    disturbed, executed = np.zeros(len(cache), np.float32), cache.action.copy()
    disturbed[[2, 3, 7]] = 1
    executed[[2, 3]] += 0.1  # the arm was shoved; at 7 something else was
    examples = Examples([replace(cache, disturbed=disturbed, executed=executed)], fit_normalizer([cache]))
    given = np.array([0, 2, 4, 8])
    actions, learned = examples.chunks(np.zeros(4, int), 10, given)
    assert [np.flatnonzero(row[n:]).tolist() for row, n in zip(learned, given, strict=True)] == [
        [0, 1, 2],  # up to the shove
        [0],
        [0, 1, 2, 3],  # the shove is known
        [],  # what happened to the other thing is not
    ]
    robot = examples.normalizer.action.denormalize(actions[2])
    np.testing.assert_allclose(robot, [*executed[:4], *cache.action[4:10]], atol=1e-4)


def test_whole_episodes_are_held_out(examples: Examples) -> None:
    held_out = set(examples.episode[examples.held_out])
    assert held_out == set(range(19, 300, 20))
    assert not held_out & set(examples.episode[examples.trained])
    assert len(examples.trained) + len(examples.held_out) == len(examples)


def test_weights_say_how_often_a_dataset_is_drawn_from(cache: FrameCache) -> None:
    twice = Examples([cache, cache], fit_normalizer([cache]), weights=[1, 3])
    frames = twice.draw(np.random.default_rng(0), 4000)
    assert (frames >= len(cache)).mean() == pytest.approx(0.75, abs=0.03)
    assert set(frames) <= set(twice.trained)


def test_what_a_policy_did_can_be_left_out_and_corrections_be_drawn_more_often(cache: FrameCache) -> None:
    """An episode of 12 frames: the policy drives 5, a person corrects 4, the policy drives on; others by a person."""
    person, intervention = np.ones(len(cache), np.float32), np.zeros(len(cache), np.float32)
    person[:12], intervention[5:9] = 0, 1
    person[5:9] = 1
    driven, plain = replace(cache, person=person, intervention=intervention), cache
    weighed = Examples([driven], fit_normalizer([cache]), drivers=DriverWeights(autonomous=0, correction=3))
    frames = weighed.draw(np.random.default_rng(0), 200_000)
    counts = np.bincount(frames, minlength=24)
    assert not counts[:5].any() and not counts[9:12].any()
    assert counts[5:9].mean() / counts[12:24].mean() == pytest.approx(3, rel=0.1)
    valid = weighed.chunks(np.array([5, 8, 12]), 5)[1].sum(1)
    assert valid.tolist() == [4, 1, 5], "what the policy did after a correction is not learned"

    fewer = Examples([driven, plain], fit_normalizer([cache]), drivers=DriverWeights(autonomous=0.5))
    counts = np.bincount(fewer.draw(np.random.default_rng(0), 400_000), minlength=len(fewer))
    first, silent = counts[[0, 1, 2, 3, 4, 9, 10, 11]].mean(), counts[len(cache) : len(cache) + 12].mean()
    assert first / silent == pytest.approx(0.5, rel=0.2), "a dataset that does not say who drove keeps its weight"


def test_takes_that_failed_are_left_out_unless_they_are_given_a_weight(cache: FrameCache) -> None:
    """Episodes of 12 frames; the second failed, and whether the third succeeded nobody said."""
    success = np.zeros(len(cache), np.float32)
    success[11::12] = 1
    success[23], success[24:36] = 0, np.nan
    person = np.ones(len(cache), np.float32)
    for driven, weight in ((None, 0.0), (DriverWeights(failure=0.5), 0.5)):
        taken = Examples([replace(cache, person=person, success=success)], fit_normalizer([cache]), drivers=driven)
        counts = np.bincount(taken.draw(np.random.default_rng(0), 400_000), minlength=48).reshape(-1, 12)[:4].mean(1)
        np.testing.assert_allclose(counts / counts[0], [1, weight, 1, 1], atol=0.2)
    collected = Examples([replace(cache, success=success)], fit_normalizer([cache]))
    assert set(range(12, 24)) <= set(collected.trained), "only of takes it is a person's judgement"


def test_fast_learns_no_chunk_with_an_action_that_is_not_to_be_learned(tmp_path: Path) -> None:
    """Its tokens are of all of a chunk. A policy drives half of an episode of 12 frames, then a person does."""
    cache = write_episodes(tmp_path / "cache", episodes=20)
    person = np.ones(len(cache), np.float32)
    person[6:12] = 0
    drivers = DriverWeights(autonomous=0)
    examples = Examples([replace(cache, person=person)], fit_normalizer([cache]), drivers=drivers)
    fast = FastConfig(**{**vars(FAST), "head": "fast"})
    s1 = FastSystem(fast, 3, 3, (1, 8), fit_action_tokens(examples, fast.horizon))
    frames = np.array([2, 3, 5, 21])
    config = replace(CONFIG, delays=replace(DELAYS, no_prefix=1.0))
    batch = fast_batch(examples, s1, frames, np.zeros(4), config, np.random.default_rng(0))
    assert batch["valid"].any(1).tolist() == [True, False, False, True], "the last is of another episode, at its end"


def test_frames_that_nobody_is_to_learn_from_are_told_from_too_few(tmp_path: Path) -> None:
    cache = write_episodes(tmp_path / "cache", episodes=20, length=6)
    for person, message in ((cache.episode < 19, r"held out \(each 20th\)"), (cache.episode == 19, "trained on")):
        with pytest.raises(UserError, match=f"the takes that are {message} are failures, which"):
            driven = replace(cache, person=person.astype(np.float32))
            Examples([driven], fit_normalizer([cache]), drivers=DriverWeights(autonomous=0))


def test_a_value_that_is_none_is_named_with_its_dataset(tmp_path: Path) -> None:
    cache = write_episodes(tmp_path / "cache", episodes=20, length=6)
    known = fit_normalizer([cache])
    state = cache.state.copy()
    state[9, 1] = np.nan
    for use in (fit_normalizer, lambda caches: Examples(caches, known)):
        with pytest.raises(UserError, match=r"cache: state\[1\] is nan in frame 9; vla data doctor"):
            use([replace(cache, state=state)])


def test_too_few_episodes_are_refused(tmp_path: Path) -> None:
    few = write_episodes(tmp_path / "few", episodes=3)
    with pytest.raises(UserError, match="at least 20 episodes"):
        Examples([few], fit_normalizer([few]))


def test_thoughts_are_as_old_as_drawn_but_never_older_than_the_episode() -> None:
    sources, ages = look_back(np.array([30, 30, 30]), np.array([10, 28, 10]), np.array([0.5, 0.5, np.nan]), fps=20)
    assert sources.tolist() == [20, 28, 30]
    np.testing.assert_allclose(ages, [0.5, 0.1, np.nan])


def test_age_is_exact_where_s2_saw_every_other_frame_only() -> None:
    sources, ages = look_back(np.array([31, 30]), np.array([10, 10]), np.array([0.0, 0.25]), fps=20, stride=2)
    assert sources.tolist() == [30, 24]
    np.testing.assert_allclose(ages, [0.05, 0.3])


def test_drawn_ages_and_prefixes_cover_what_the_config_says() -> None:
    rng, config = np.random.default_rng(0), DelayConfig(max_age=2, none=0.05, max_prefix=8, no_prefix=0.4)
    ages, prefixes = draw_ages(rng, 4000, config), draw_prefixes(rng, 4000, config)
    assert np.isnan(ages).mean() == pytest.approx(0.05, abs=0.02)
    assert np.nanmin(ages) < 0.02 and 1.98 < np.nanmax(ages) <= 2
    assert (ages < 0.5).mean() == pytest.approx(0.95 / 2, abs=0.03)
    assert (prefixes == 0).mean() == pytest.approx(0.4, abs=0.03)
    assert set(prefixes) == set(range(9))


def test_a_shift_moves_the_image_and_repeats_its_border() -> None:
    image = torch.arange(4, dtype=torch.uint8).repeat_interleave(3).view(1, 1, 4, 3).expand(1, 4, 4, 3)
    still = Changes(torch.tensor([[0, 1]]), torch.ones(1, 3), torch.zeros(1, 3))
    shifted = apply_changes(image, still)
    assert (shifted[0, 0, :, 0] * 255).round().tolist() == [0, 0, 1, 2]
    drawn = draw_changes(np.random.default_rng(0), 500, AugmentConfig(shift=4))
    assert drawn.shift.min() == -4 and drawn.shift.max() == 4
    assert apply_changes(image.expand(500, 4, 4, 3), drawn).isfinite().all()


@pytest.mark.parametrize("head", ["l1", "flow"])
def test_s1_learns_to_go_where_the_latents_say(cache, examples, tmp_path, head) -> None:
    stage = stage_for(cache, examples, FastConfig(**{**vars(FAST), "head": head}))
    fit(stage, LoopConfig(steps=200, lr=6e-3, warmup=20, ema=0.9, bf16=False, eval_every=200), tmp_path)
    results = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert results["l1_age_0"] < 0.7 * results["l1_age_none"]
    assert results["gripper_wrong"] < 0.35


@pytest.mark.parametrize("gripper", [(1.0, 1.0), (0.8, 1.0)])
def test_a_gripper_that_stays_open_is_not_said_to_be_wrong(cache: FrameCache, gripper: tuple[float, float]) -> None:
    action = np.array(cache.action)
    action[:, 2] = np.random.default_rng(0).uniform(*gripper, len(action))
    still = replace(cache, action=action, executed=action)
    assert stage_for(still, Examples([still], fit_normalizer([still]))).evaluate()["gripper_wrong"] == 0


def test_latents_are_computed_once_and_go_on_where_they_stopped(cache: FrameCache, tmp_path: Path) -> None:
    slow = small_slow_system(["go to the red square", "go to the blue square"], shape=SHAPE).eval()
    whole = compute_latents(slow, cache, tmp_path, stride=5, batch=16)
    assert whole.values.shape == (900, *slow.latent_shape)
    frames = np.array([0, 4, 5, 11, 12])
    assert whole.row[frames].tolist() == [0, 0, 1, 2, 3]
    views, prompts = torch.from_numpy(np.array(cache.front[12:13]))[:, None], ["go to the blue square"]
    with torch.no_grad():
        direct = slow(views, prompts).latents
    thoughts = CachedThoughts([whole, whole])
    torch.testing.assert_close(thoughts.at(np.array([12 + len(cache)])), direct, atol=0.05, rtol=0.05)

    values = np.array(whole.values)
    note = next(tmp_path.glob("*.json"))
    note.write_text(json.dumps({"done": 48, "seconds": 100.0}))  # as if it had been stopped there
    stored = np.load(next(tmp_path.glob("*.npy")), mmap_mode="r+")
    stored[48:] = 0
    stored[0] = 7  # done already: not to be computed again
    again = compute_latents(slow, cache, tmp_path, stride=5, batch=16)
    assert whole.seconds > 0 and again.seconds > 100, "of all calls"
    assert (np.array(again.values[0]) == 7).all()
    np.testing.assert_allclose(again.values[48:], values[48:], atol=0.02)
    with torch.no_grad():
        slow.queries += 1
    compute_latents(slow, cache, tmp_path, stride=5)
    assert len(list(tmp_path.glob("*.npy"))) == 2


def test_a_checkpoint_of_the_stage_is_a_policy(cache: FrameCache, examples: Examples, tmp_path: Path) -> None:
    from vla.tandem import TandemConfig

    slow = small_slow_system(["go to the red square"], shape=SHAPE).eval()
    fast = FastSystem(FAST, 3, 3, slow.latent_shape)
    policy = TandemPolicy(SPEC, slow, fast, examples.normalizer, TandemConfig(fast=FAST))
    thoughts = CachedThoughts([compute_latents(slow, cache, tmp_path / "latents", stride=4)])
    fit(
        FastStage(fast, examples, thoughts, CONFIG, policy=policy),
        LoopConfig(steps=2, warmup=1, log_every=1),
        tmp_path / "run",
    )
    loaded = TandemPolicy.from_pretrained(tmp_path / "run" / "policy")
    images = {camera: cache.images[camera][0] for camera in SPEC.camera_names}
    thought = loaded.think(images, "go to the red square", stamp=1.0)
    assert loaded.act(images, cache.state[0], thought, now=1.1).shape == (4, 3)
