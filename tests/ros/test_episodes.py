"""One instruction on a robot, as the policy node runs it, here over DDS without ROS."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fake_robot import ARM, FAKE, HOME, FakeRobot, ListeningPolicy, TurningPolicy
from sim_process import sim_process

from gym_tabletop.rendering import project
from vla import assets
from vla.actions.rotations import quaternion_to_matrix
from vla.evaluation.robot_episode import Episode, EpisodeSettings, Progress, Result
from vla.messages import SECOND
from vla.robots.dds import DdsRobot
from vla.robots.dds_bus import Bus
from vla.robots.gym_sim import make_robot
from vla.robots.message_bus import MessageBus
from vla.robots.sim_frames import INFO, TF, SimFrames
from vla.ros_types import MessageTypes
from vla.runtime.loop import Timing
from vla.spec import RobotSpec

SPEC = RobotSpec.load(assets.find("robot", "tabletop"))
PATIENCE = 300.0
FAST = EpisodeSettings(seed=3, words_s=None)


@pytest.fixture(scope="session")
def policy(untrained):
    from vla.tandem import TandemPolicy

    return TandemPolicy.from_pretrained(untrained)


@pytest.fixture
def robot(domain: int):
    with sim_process(domain, "--lockstep"), DdsRobot(SPEC, domain, PATIENCE) as robot:
        yield robot


def test_an_instruction_is_followed_until_its_time_is_over(policy, robot: DdsRobot) -> None:
    seen: list[Progress] = []
    result = Episode(policy, robot, FAST, "", 0.5, seen.append).run()
    assert result == Result("timeout", "not done after 0.5 s", 10)
    assert [one.steps for one in seen] == list(range(1, 11)) and all(one.age_s == 0 for one in seen[:1])


@pytest.mark.parametrize(("outcome", "reason"), [("canceled", "by the client"), ("stopped", "emergency stop")])
def test_the_arm_rests_within_100_ms_of_its_clock_when_somebody_says_stop(
    policy, robot: DdsRobot, outcome: Any, reason: str
) -> None:
    episode, stopped_at = stopping_after(5, robot, lambda episode: episode.stop(outcome, reason), policy)
    result = episode.run()
    assert (result.outcome, result.reason) == (outcome, reason)
    # The step under way is still taken.
    assert robot._now() - stopped_at[0] <= (0.1 + 1 / SPEC.rate_hz) * SECOND
    still = robot.observe().state[:7]
    robot.command(SPEC.hold_action(np.array([0, 0, 0, 0, 0, 0, 1], np.float32)))
    np.testing.assert_allclose(robot.observe().state[:7], still, atol=5e-3)
    assert Episode(policy, robot, FAST, "", 0.1, lambda _: None).run().outcome == "timeout"  # the next one is followed


def test_an_episode_stopped_before_it_began_does_not_move_the_arm(policy, robot: DdsRobot) -> None:
    steps = robot.outcome.steps
    episode = Episode(policy, robot, FAST, "", 10, lambda _: None)
    episode.stop("canceled", "changed my mind")
    assert episode.run() == Result("canceled", "changed my mind", 0) and robot.outcome.steps == steps


def test_words_that_the_scene_cannot_judge_and_a_policy_that_breaks_end_it_with_a_reason(
    policy, robot: DdsRobot
) -> None:
    result = Episode(policy, robot, FAST, "fly to the moon", 10, lambda _: None).run()
    assert result.outcome == "failed" and "cannot be judged in this scene" in result.reason

    def breaks(_: Progress) -> None:
        raise RuntimeError("out of memory")

    assert Episode(policy, robot, FAST, "", 10, breaks).run() == Result("failed", "RuntimeError: out of memory", 1)


def test_a_goal_that_fails_before_it_begins_does_not_move_an_arm_that_somebody_moved(domain: int) -> None:
    fake = FakeRobot(Bus(MessageTypes(), domain))
    with fake.speaking(), DdsRobot(FAKE, domain, PATIENCE) as robot:
        robot.reset()
        robot.command(np.array([1, 2], np.float32))
        assert fake.bus.wait(lambda: bool(fake.commands), PATIENCE)
        fake.position = [0.2, 0.3]
        ungated = EpisodeSettings(gate=False)
        assert Episode(TurningPolicy(FAKE, 0.0), robot, ungated, "", 10, lambda _: None).run().outcome == "failed"
        canceled = Episode(TurningPolicy(FAKE, 0.0), robot, ungated, "wave", 10, lambda _: None)
        canceled.stop("stopped", "emergency stop")
        assert canceled.run().outcome == "stopped"
        robot.command(np.array([0.2, 0.3], np.float32))
        assert fake.bus.wait(lambda: len(fake.commands) >= 2, PATIENCE)
    np.testing.assert_allclose([one.points[0].positions for one in fake.commands], [[1, 2], [0.2, 0.3]])
    fake.close()


def test_a_robot_in_real_time_is_driven_while_the_policy_thinks(policy, domain: int) -> None:
    with sim_process(domain), DdsRobot(SPEC, domain, PATIENCE) as robot:
        settings = EpisodeSettings(words_s=None)
        episode = Episode(
            policy, robot, settings, "", PATIENCE, lambda one: one.thought and episode.stop("canceled", "x")
        )
        result = episode.run()
        assert result.outcome == "canceled" and result.steps > 0


@pytest.mark.parametrize("pace", [[], ["--lockstep"]])
def test_a_mind_that_is_changed_on_the_way_is_told_to_the_policy(domain: int, pace: list[str]) -> None:
    policy, settings = ListeningPolicy(), replace(FAST, seed=100_003)

    def tell(_: Progress) -> None:
        if robot.instruction != given and robot.instruction in policy.told:
            episode.stop("canceled", "heard")

    with (
        sim_process(domain, "--env", "tabletop-suite", "--task", "changed", *pace),
        DdsRobot(SPEC, domain, PATIENCE) as robot,
    ):
        robot.reset(settings.seed)
        given = robot.instruction
        episode = Episode(policy, robot, settings, "", 60, tell)
        assert episode.run().outcome == "canceled"


@contextmanager
def turning(
    domain: int, beyond: float, spec: RobotSpec = ARM
) -> Iterator[tuple[FakeRobot, DdsRobot, Episode, threading.Thread]]:
    """An episode under way, whose arm has been told to turn beyond so much (rad)."""
    fake = FakeRobot(Bus(MessageTypes(), domain), spec=spec)
    with fake.speaking(), DdsRobot(spec, domain, PATIENCE) as robot:
        episode = Episode(TurningPolicy(spec, 0.08), robot, EpisodeSettings(), "turn", PATIENCE, lambda _: None)
        running = threading.Thread(target=episode.run)
        running.start()
        assert fake.bus.wait(lambda: bool(fake.commands) and joint1(fake.commands[-1]) > beyond, PATIENCE)
        yield fake, robot, episode, running
    fake.close()


def test_an_arm_that_was_moved_while_nobody_saw_it_is_gone_on_with_from_where_it_is(domain: int) -> None:
    with turning(domain, beyond=0.04) as (fake, robot, episode, running):
        fake.fault = "silent"
        assert robot._bus and robot._bus.wait(lambda: not robot._fresh(), PATIENCE)
        time.sleep(0.5)
        before, fake.position, fake.fault = len(fake.commands), [0.5, *HOME[1:]], ""
        assert fake.bus.wait(lambda: len(fake.commands) >= before + 10, PATIENCE)
        episode.stop("canceled", "enough")
        running.join(PATIENCE)
    assert robot.losses and min(joint1(one) for one in fake.commands[before:]) > 0.45


def test_nothing_is_commanded_any_more_when_somebody_says_stop_while_the_arm_is_not_seen(domain: int) -> None:
    with turning(domain, beyond=0.01) as (fake, robot, episode, running):
        fake.fault = "silent"
        assert robot._bus and robot._bus.wait(lambda: robot.losses > 0, PATIENCE)
        time.sleep(0.5)
        before = len(fake.commands)
        episode.stop("stopped", "emergency stop")
        running.join(PATIENCE)
        robot.command(np.full(7, 0.5, np.float32))
        assert fake.bus.wait(lambda: joint1(fake.commands[-1]) == 0.5, PATIENCE)
    assert len(fake.commands) == before + 1


def test_an_arm_that_cannot_brake_within_100_ms_is_braked_within_its_limits_until_it_rests(
    domain: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    heavy = replace(ARM.limits, velocity=(1.0,) * 7, acceleration=(2.0,) * 7, jerk=(40.0,) * 7)
    told: list[np.ndarray] = []
    publish = DdsRobot._publish
    monkeypatch.setattr(DdsRobot, "_publish", lambda robot, action: (told.append(action), publish(robot, action)))
    with turning(domain, beyond=0.01, spec=replace(ARM, limits=heavy)) as (fake, _, episode, running):
        episode._policy.by = 2.0
        assert fake.bus.wait(lambda: len(told) > 1 and turned(told)[-1] > 0.7 / ARM.rate_hz, PATIENCE)
        episode.stop("canceled", "enough")
        running.join(PATIENCE)
    speed = turned(told) * ARM.rate_hz
    assert speed.max() > 0.7 and speed[-1] == 0
    assert np.abs(np.diff(speed)).max() * ARM.rate_hz <= 2.0 + 1e-3


@pytest.mark.parametrize(("stop_s", "acts"), [(0.0, False), (60.0, True)])
def test_how_old_a_thought_may_be_and_whether_s2_speaks_is_as_the_settings_say(
    domain: int, stop_s: float, acts: bool
) -> None:
    fake, seen, policy = FakeRobot(Bus(MessageTypes(), domain), spec=ARM), [], TurningPolicy(ARM, 0.0)
    with fake.speaking(), DdsRobot(ARM, domain, PATIENCE) as robot:
        settings = EpisodeSettings(Timing(s2_stop=stop_s), words_s=None)
        Episode(policy, robot, settings, "turn", 2.0, seen.append).run()
    assert seen[-1].thought is not None and any(not one.held for one in seen) == acts and not policy.spoke
    fake.close()


@pytest.mark.parametrize(
    ("words", "subtask", "share"),
    [
        ("at <loc19><loc32> reach the red cube, 40 percent", "reach the red cube", 0.4),
        ("reach the red cube at <loc19><loc32> 40 percent", "reach the red cube", 0.4),
        ("the yellow ball <loc09><loc25>", "the yellow ball", math.nan),
        ("", "", math.nan),
    ],
)
def test_what_s2_says_is_told_as_a_subtask_and_a_share(words: str, subtask: str, share: float) -> None:
    progress = Progress(1, words, None, None, 0.0, False)
    assert progress.subtask == subtask and progress.share == pytest.approx(share, nan_ok=True)


def test_camera_info_and_tf_put_the_tool_where_the_picture_shows_it(domain: int) -> None:
    types, said = MessageTypes(), {}
    bus, ear = Bus(types, domain), Bus(types, domain)
    with make_robot("tabletop", render=False) as robot:
        observation = robot.reset(3)
        frames = SimFrames(bus, robot.environment, SPEC)
        for topic, kind in (("/tf", TF), ("/front/camera_info", INFO)):
            ear.subscribe(topic, kind, "reliable", lambda message, _, topic=topic: said.setdefault(topic, message))
        ear.start()
        waiting(ear, lambda: len(said) == 2, lambda: frames.publish(observation, SECOND))
        transforms = {one.child_frame_id: one for one in said["/tf"].transforms}
        assert {"tool", "front", "wrist"} <= transforms.keys()
        place = transforms["tool"].transform.translation
        np.testing.assert_allclose([place.x, place.y, place.z], observation.state[7:10], atol=1e-6)
        front, info = transforms["front"].transform, said["/front/camera_info"]
        turn = quaternion_to_matrix(np.array([getattr(front.rotation, axis) for axis in "xyzw"]))
        eye = np.array([getattr(front.translation, axis) for axis in "xyz"])
        model, data = robot.environment.model, robot.environment.data
        pixel = project(model, data, model.camera("front").id, data.site("tool").xpos)
        u, v, w = info.k.reshape(3, 3) @ turn.T @ (observation.state[7:10] - eye)
        np.testing.assert_allclose([(u / w + 0.5) / info.width, (v / w + 0.5) / info.height], pixel, atol=1e-5)
        assert info.header.frame_id == "front"
    for one in (bus, ear):
        one.close()


def turned(told: list[np.ndarray]) -> np.ndarray:
    """Of the first joint, between one command and the next (rad)."""
    return np.diff([float(one[0]) for one in told])


def joint1(trajectory: Any) -> float:
    return float(trajectory.points[0].positions[0])


def stopping_after(steps: int, robot: DdsRobot, stop: Callable[[Episode], None], policy: Any):
    """An episode that is stopped, from another thread, after so many steps; and the robot's time when it was."""
    at: list[int] = []

    def tell(progress: Progress) -> None:
        if progress.steps == steps:
            at.append(robot._now())
            thread = threading.Thread(target=stop, args=(episode,))
            thread.start()

    episode = Episode(policy, robot, FAST, "", 10, tell)
    return episode, at


def waiting(bus: MessageBus, ready: Callable[[], bool], again: Callable[[], None]) -> None:
    for _ in range(600):
        again()
        if bus.wait(ready, 0.5):
            return
    raise AssertionError("nothing came")
