"""Any robot of LeRobot, here one of a plugin in MuJoCo: in the spec's units, behind the gate, driven by a policy."""

import signal
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from lerobot_plugin import SPEC

from vla.cli import main
from vla.errors import UserError
from vla.evaluation.guarded_rollout import drive, lerobot_rollout
from vla.robots.base import Robot, SensesLost
from vla.robots.lerobot import LeRobotRobot
from vla.s2.thought import Thought
from vla.spec import Camera, RobotSpec


class Policy:
    """Asks for joints `by` degrees away from where they are measured, all eight steps of a chunk."""

    config = SimpleNamespace(replan_steps=4)

    def __init__(self, by: float, spec: RobotSpec = SPEC) -> None:
        self.spec, self.by = spec, by

    def think(self, images, instruction, stamp, instruction_id=0, words=False):
        return Thought(torch.zeros(1, 1), stamp, instruction_id, "on it" if words else None)

    def act(self, images, state, thought, now, prefix):
        return np.tile(state + np.array([self.by] + [0] * 7, np.float32), (8, 1))


@pytest.fixture
def config(tmp_path, lerobot_plugins) -> list[str]:
    settings = {"type": "tablearm", "log": str(tmp_path / "log"), "unplugged": str(tmp_path / "unplugged")}
    (tmp_path / "robot.yaml").write_text(yaml.safe_dump({**settings, "calibration_dir": str(tmp_path)}))
    return [str(tmp_path / "robot.yaml")]


def sent(tmp_path) -> np.ndarray:
    """(N, 8): what the driver got, in degrees and percent."""
    return np.loadtxt(tmp_path / "log", ndmin=2) if (tmp_path / "log").exists() else np.zeros((0, 8))


def test_it_is_a_robot_in_lerobots_units_and_order(config):
    robot = LeRobotRobot(SPEC, [*config, "max_step=1.5", "seed=3"])
    assert isinstance(robot, Robot)
    robot.connect()
    seen = robot.reset()
    assert seen.state.shape == (8,) and seen.state[3] < -100 and 90 < seen.state[7] <= 101
    assert {name: image.shape for name, image in seen.images.items()} == {"front": (96, 96, 3), "wrist": (96, 96, 3)}
    asked = seen.state + np.array([10, 0, 0, 0, 0, 0, 0, -60], np.float32)
    said = robot.command(asked)
    assert said[0] == pytest.approx(seen.state[0] + 1.5, abs=1e-4), "the driver's own limit is what was sent"
    after = robot.observe()
    assert 0.1 < after.state[0] - seen.state[0] < 3 and after.state[7] < seen.state[7]
    robot.close()
    robot.close()


@pytest.mark.parametrize(
    ("changes", "given", "words"),
    [
        ({}, ["port=/dev/ttyACM0"], "has no type, such as type=so101_follower"),
        ({}, ["type=so202_follower"], "unknown type 'so202_follower'; there are: .*so101_follower.*tablearm"),
        ({}, ["nowhere.yaml"], "nowhere.yaml cannot be read"),
        ({}, ["type=tablearm", "seed"], "'seed' is no KEY=VALUE"),
        ({}, ["type=tablearm", "colour=red"], "LeRobot robot tablearm: .*colour"),
        ({}, ["type=tablearm", "seed=many"], "LeRobot robot tablearm: .*seed"),
        ({"state": SPEC.state[:1]}, ["type=tablearm"], "state has 7 entries, LeRobot robot tablearm has 8: joint1.pos"),
        ({"cameras": (Camera("top", 96, 96),)}, ["type=tablearm"], "no camera 'top'; it has front, wrist"),
        ({"cameras": (Camera("front", 48, 64),)}, ["type=tablearm"], r"front is \(48, 64, 3\), .* has \(96, 96, 3\)"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(tmp_path, lerobot_plugins, changes, given, words):
    more = [f"calibration_dir={tmp_path}"] if "=" in given[0] else []
    with pytest.raises(UserError, match=words):
        LeRobotRobot(replace(SPEC, **changes), [*given, *more])


def test_a_robot_that_is_not_calibrated_is_not_driven(config):
    with pytest.raises(UserError, match=r"not calibrated: lerobot-calibrate --robot.type=tablearm"):
        LeRobotRobot(SPEC, [*config, "calibrated=false"]).connect()


def test_a_policy_drives_it_within_the_limits_of_its_spec(config, tmp_path, capsys):
    result = lerobot_rollout("", _saved(tmp_path), config, "turn", 2.0, loaded=Policy(by=4.0))
    log = sent(tmp_path)
    assert result.stopped is None and result.steps == 40 <= len(log)
    assert log[-1, 0] - log[0, 0] > 1, "it turned"
    step = np.abs(np.diff(np.radians(log[:, :7]), axis=0)).max(0) * SPEC.rate_hz
    assert (step <= np.array(SPEC.limits.velocity) * 1.001).all()
    assert np.abs(np.diff(log[-2:], axis=0)).max() < 0.02, "and rests at the end"
    printed = capsys.readouterr().out
    assert "S2: on it" in printed and f"done: acted in {result.acted} of 40 steps" in printed


def test_the_limits_are_the_robots_own_whatever_the_policy_was_trained_with(config, tmp_path):
    slow = tuple(speed / 20 for speed in SPEC.limits.velocity)
    replace(SPEC, limits=replace(SPEC.limits, velocity=slow)).save(tmp_path / "slow.yaml")
    result = lerobot_rollout("", str(tmp_path / "slow.yaml"), config, "turn", 2.0, loaded=Policy(by=4.0))
    step = np.abs(np.diff(np.radians(sent(tmp_path)[:, :7]), axis=0)).max(0) * SPEC.rate_hz
    assert step[0] > 0.9 * slow[0] and (step <= np.array(slow) * 1.001).all() and result.limited["velocity.joint1"]


def test_a_first_command_far_from_where_the_robot_is_stops_it(config, tmp_path):
    with pytest.raises(UserError, match=r"safety gate stopped the robot .*start_jump\.joint1"):
        lerobot_rollout("", _saved(tmp_path), config, "turn", 30.0, loaded=Policy(by=40.0))
    assert np.ptp(sent(tmp_path)[:, :7], axis=0).max() < 0.1, "it never moved"


class SlowToThink(Policy):
    """Its first thought serves for long; the second comes only when the robot is at rest, if ever it is."""

    def __init__(self, folder) -> None:
        super().__init__(by=4.0)
        self.folder, self.asked, self.ended, self.rested = folder, threading.Event(), threading.Event(), False

    def think(self, images, instruction, stamp, instruction_id=0, words=False):
        if self.asked.is_set():
            self.ended.wait(60)
            for _ in range(3000):
                self.rested = bool(np.abs(np.diff(sent(self.folder)[-3:], axis=0)).max() < 1e-3)
                if self.rested:
                    break
                time.sleep(0.01)
        self.asked.set()
        return super().think(images, instruction, stamp + 1e3, instruction_id)


def test_it_is_brought_to_rest_before_a_policy_that_still_computes_is_waited_for(config, tmp_path):
    robot, policy = LeRobotRobot(SPEC, config), SlowToThink(tmp_path)
    robot.connect()
    observe = robot.observe

    def interrupted_in_motion():
        log = sent(tmp_path)
        if policy.asked.is_set() and len(log) > 2 and np.abs(np.diff(log[-2:, 0])) > 0.05:
            policy.ended.set()
            raise KeyboardInterrupt
        return observe()

    robot.observe = interrupted_in_motion
    with pytest.raises(KeyboardInterrupt):
        drive(robot, policy, "turn", 60.0)
    robot.close()
    assert policy.rested


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_it_is_brought_to_rest_by_a_signal_and_by_a_terminal_that_hangs_up_twice(config, tmp_path, monkeypatch, number):
    command = LeRobotRobot.command
    signals = [number, signal.SIGHUP]

    def signalled(robot, action):
        log = sent(tmp_path)
        if signals and len(log) > 2 and np.abs(np.diff(log[-2:, 0])) > 0.05:
            signal.raise_signal(signals.pop(0))
        return command(robot, action)

    monkeypatch.setattr(LeRobotRobot, "command", signalled)
    handlers = {one: signal.signal(one, signal.SIG_DFL) for one in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with pytest.raises(KeyboardInterrupt):
            lerobot_rollout("", _saved(tmp_path), config, "turn", 60.0, loaded=Policy(by=4.0))
    finally:
        for one, handler in handlers.items():
            signal.signal(one, handler)
    log = sent(tmp_path)
    assert not signals and len(log) < 1200 and np.abs(np.diff(log[-2:], axis=0)).max() < 0.02


def test_a_camera_that_vanishes_brings_it_to_rest(config, tmp_path):
    robot = LeRobotRobot(SPEC, config)
    robot.connect()

    def unplug(words):
        (tmp_path / "unplugged").touch()

    with pytest.raises(SensesLost, match="front: the newest picture is too old"):
        drive(robot, Policy(by=4.0), "turn", 60.0, unplug)
    log = sent(tmp_path)
    robot.close()
    assert len(log) < 1200 and np.abs(np.diff(log[-2:], axis=0)).max() < 0.02


def test_a_camera_that_shows_the_same_for_ever_brings_it_to_rest(config, tmp_path, monkeypatch):
    robot = LeRobotRobot(SPEC, config)
    robot.connect()
    first, observe = robot.observe().images, robot.observe
    monkeypatch.setattr(
        robot, "observe", lambda: replace(observe(), images={**observe().images, "wrist": first["wrist"]})
    )
    with pytest.raises(UserError, match=r"camera wrist has shown one image for 0.5 s although the robot moved"):
        drive(robot, Policy(by=4.0), "turn", 60.0)
    log = sent(tmp_path)
    robot.close()
    assert len(log) < 1200 and np.abs(np.diff(log[-2:], axis=0)).max() < 0.02


def test_the_command(config, tmp_path, untrained_for, capsys):
    policy = untrained_for(tmp_path / "policy", SPEC, [10.0] * 8)
    command = ["rollout", "--robot", "lerobot", "--policy", str(policy), "--spec", _saved(tmp_path)]
    assert main([*command, "--instruction", "lift", "--seconds", "3"]) == 2
    assert "--robot lerobot needs --robot-config" in capsys.readouterr().err
    assert main([*command, "--robot-config", *config, "--instruction", "lift", "--seconds", "600"]) == 2
    assert "safety gate stopped the robot" in capsys.readouterr().err, "its weights are random"


def _saved(tmp_path) -> str:
    SPEC.save(tmp_path / "tablearm.yaml")
    return str(tmp_path / "tablearm.yaml")
