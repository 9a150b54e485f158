"""The simulated robot in wall-clock time, judged by its own log. Nothing here depends on how fast the machine is."""

import os
import signal
import time

import numpy as np
import pytest

from vla.errors import UserError
from vla.processes import Maker
from vla.robots import realtime_sim
from vla.robots.gym_sim import make_robot
from vla.robots.realtime_sim import RealTimeSim
from vla.robots.senses import Senses
from vla.robots.sim_body import read_log
from vla.robots.sim_wires import DT, BodySettings, World
from vla.runtime.command_loop import Settings
from vla.runtime.command_process import CommandProcess

UNPINNED = Settings(core=None)
"""Real-time scheduling where it is permitted: without it, a busy machine takes minutes for these seconds."""
PATIENCE = 600.0


def until(true, what):
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.fixture
def robot(tmp_path):
    how = BodySettings(camera_latency_s=0.05, log=str(tmp_path / "log"))
    robot = RealTimeSim(World(seed=3), how, state_lost_s=PATIENCE)
    robot.start(PATIENCE)
    yield robot
    robot.close()


@pytest.fixture
def commands(robot):
    commands = CommandProcess(robot.spec, robot.servos, UNPINNED)
    commands.start(PATIENCE)
    yield commands
    commands.close(PATIENCE)


def sideways(steps: int = 100) -> np.ndarray:
    """Half a centimetre per step: 0.1 m/s."""
    return np.tile([0, 0.005, 0, 0, 0, 0, 1], (steps, 1))


def pushed(commands, chunk) -> bool:
    """Sends the chunk again whenever the last is through: on a machine that is late, most of it is lost."""
    if commands.state().held:
        commands.send(chunk)
    return True


def tool_y(robot, senses) -> float:
    return float(senses.observe().state[robot.spec.state_slices["ee_position"]][1])


def assert_gentle(path, spec):
    derivative = np.concatenate([path[:1]] * 3 + [path])
    for name in ("velocity", "acceleration", "jerk"):
        derivative = np.diff(derivative, axis=0) / DT
        assert (np.abs(derivative) <= np.array(getattr(spec.limits, name)) * (1 + 1e-6)).all(), name


def test_it_goes_where_deltas_add_up_to_within_its_limits(robot, commands, tmp_path):
    senses = Senses(robot.spec, robot.sense_memory)
    until(lambda: senses.observe() is not None, "no senses")
    start = tool_y(robot, senses)
    until(lambda: pushed(commands, sideways(20)) and tool_y(robot, senses) > start + 0.02, "it did not move")
    commands.wait(lambda s: s.held and s.at_rest, PATIENCE, "no rest")
    commands.close(PATIENCE)
    robot.close()
    receipts, motion = read_log(tmp_path / "log", robot.spec)
    assert_gentle(motion[:, 2:9], robot.spec)
    assert_gentle(receipts[:, 2:9], robot.spec)
    assert (np.diff(receipts[:, 0]) >= 0).all() and (receipts[:, 0] >= receipts[:, 1]).all()
    assert np.abs(motion[-1, 2:9] - motion[-1, 9:16]).max() < 5e-3, "the joints follow their targets"
    assert np.abs(receipts[-1, 2:9] - motion[-1, 2:9]).max() < 1e-6, "and end where they were sent"


def test_images_come_late_with_the_time_of_their_capture(robot):
    senses, stamps = Senses(robot.spec, robot.sense_memory, ["front"]), []

    def look():
        observation = senses.observe()
        if observation is not None and observation.stamp not in stamps:
            assert time.monotonic() - observation.stamp >= 0.05
            assert observation.images["front"].std() > 10, "a picture, not darkness"
            stamps.append(observation.stamp)
        return len(stamps) >= 5

    until(look, "no images")
    assert stamps == sorted(stamps)


def test_when_its_commander_is_killed_it_brakes_by_itself_and_obeys_the_next_one(robot, commands, tmp_path):
    senses = Senses(robot.spec, robot.sense_memory)
    until(lambda: senses.observe() is not None, "no senses")
    start = tool_y(robot, senses)
    until(lambda: pushed(commands, sideways()) and tool_y(robot, senses) > start + 0.03, "it did not move")
    os.kill(commands.pid, signal.SIGKILL)
    until(lambda: not commands.alive, "it lives")
    ticks = robot.state().ticks
    until(lambda: robot.state().ticks > ticks + 100, "its time stands still")
    commands.start(PATIENCE)
    assert not commands.state().stopped
    here, back = tool_y(robot, senses), sideways() * [1, -1, 1, 1, 1, 1, 1]
    until(lambda: pushed(commands, back) and tool_y(robot, senses) < here - 0.03, "it does not obey the next one")
    commands.close(PATIENCE)
    robot.close()
    _, motion = read_log(tmp_path / "log", robot.spec)
    assert_gentle(motion[:, 2:9], robot.spec)
    silent = np.split(motion, np.flatnonzero(np.diff(motion[:, 1])) + 1)
    longest = max((part for part in silent if not part[0, 1]), key=len)
    assert len(longest) > 50
    assert (longest[20:, 2:9] == longest[20, 2:9]).all(), "at rest 0.1 s of its time after the last command"


def test_a_mind_is_changed_after_the_scene_begins_anew_however_long_the_start_took():
    world = World("tabletop-suite", 100_006, "changed")
    with make_robot(world.env, world.task, render=False) as twin:
        twin.reset(world.seed)
        first, change_at = twin.instruction, twin.environment._change_at / twin.spec.rate_hz
    robot = RealTimeSim(world)
    try:
        robot.start(PATIENCE)
        until(lambda: robot.state().instruction != first, "nobody changes their mind")
        begun = robot.begin(PATIENCE)
        assert begun.instruction == first and begun.age_s < change_at
        until(lambda: robot.state().instruction != first, "nobody changes their mind")
        assert robot.state().age_s > change_at
    finally:
        robot.close()


def test_cameras_that_die_and_a_body_that_hangs_are_said(robot, monkeypatch):
    robot.check()
    monkeypatch.setattr(realtime_sim, "_HUNG", 0.1)
    os.kill(robot.body.pid, signal.SIGSTOP)
    time.sleep(0.2)
    robot.state()
    time.sleep(0.2)
    with pytest.raises(UserError, match="the simulated body gave no sign of life for"):
        robot.check()
    os.kill(robot.body.pid, signal.SIGCONT)
    os.kill(robot.cameras.pid, signal.SIGKILL)
    until(lambda: not robot.cameras.alive, "they live")
    with pytest.raises(UserError, match="the simulated cameras died: exit code -9"):
        robot.check()


def test_a_scene_that_cannot_judge_an_instruction_is_told_to_whoever_starts_it():
    robot = RealTimeSim(World(instruction="fold the shirt"), BodySettings())
    with pytest.raises(UserError, match="'fold the shirt' cannot be judged in this scene"):
        robot.start(PATIENCE)
    robot.close()
    assert not robot.body.alive and not robot.cameras.alive


def test_servos_without_a_body_are_refused():
    robot = RealTimeSim(World())
    commands = CommandProcess(robot.spec, Maker(robot.servos.path, {**robot.servos.arguments}), UNPINNED)
    with pytest.raises(UserError, match="the simulated body sends no joint states"):
        commands.start(PATIENCE)
    commands.close(PATIENCE)
