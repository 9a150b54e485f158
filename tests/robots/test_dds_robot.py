"""A robot over DDS is the robot itself: same observations, same outcome; and what can go wrong is named."""

import signal
import threading
import time

import numpy as np
import pytest
from fake_robot import (
    ARM,
    FAKE,
    FAULTS,
    PASSING,
    FakeRobot,
    HungPolicy,
    ListeningPolicy,
    TurningPolicy,
    check_named,
    check_recovered,
)
from sim_process import sim_process

from gym_tabletop.experts import make_expert
from vla import assets
from vla.cli import main
from vla.errors import UserError
from vla.messages import SECOND
from vla.policies import REAL_TIME_PATIENCE_S
from vla.robots import dds_bus
from vla.robots.base import Robot, SensesLost
from vla.robots.dds import DdsRobot, Interrupted
from vla.robots.dds_bus import Bus
from vla.robots.gym_sim import make_robot
from vla.ros_types import MessageTypes
from vla.spec import RobotSpec

SPEC = RobotSpec.load(assets.find("robot", "tabletop"))
TYPES = MessageTypes()
PATIENCE = 300.0  # seconds; a machine may be busy
SEED = 3


def test_an_episode_over_dds_is_that_of_the_same_robot_in_process(domain: int) -> None:
    with (
        sim_process(domain, "--lockstep") as sim,
        make_robot("tabletop") as here,
        DdsRobot(SPEC, domain, PATIENCE) as there,
    ):
        assert isinstance(there, Robot)
        seen, known = there.reset(SEED), here.reset(SEED)
        expert = make_expert(here.environment, np.random.default_rng(SEED))
        assert there.instruction == here.instruction
        while not here.finished and there.outcome.steps < here.max_steps:
            for name in SPEC.camera_names:
                np.testing.assert_array_equal(seen.images[name], known.images[name])
            exact = [i for i in range(SPEC.state_size) if i not in range(10, 16)]
            np.testing.assert_array_equal(seen.state[exact], known.state[exact])
            np.testing.assert_allclose(seen.state, known.state, atol=1e-6)  # rotations went through a quaternion
            assert seen.stamp == pytest.approx(known.stamp, abs=1e-8)
            action = expert.act().astype(np.float32)
            np.testing.assert_array_equal(there.command(action), action)
            here.command(action)
            seen, known = there.observe(), here.observe()
        assert here.success and there.success and there.finished and not there.events
        with pytest.raises(UserError, match="cannot be judged in this scene; try for example"):
            there.set_instruction("fly to the moon")
        assert there.success
        there.set_instruction(next(one.text for one in here.instructions() if one.text != here.instruction))
        assert not there.success and not there.finished
        assert sim.stop() == 130  # as everything that Ctrl-C stops
        assert f"seed {SEED}: success after {there.outcome.steps} steps: {here.instruction}" in sim.lines


def test_a_policy_drives_the_robot_over_dds_as_it_does_in_process_also_from_a_server(domain: int, capsys) -> None:
    from vla.evaluation.dds_rollout import dds_rollout
    from vla.evaluation.rollout_command import rollout
    from vla.serve.background import beside
    from vla.serve.server import PolicyServer
    from vla.tandem import TandemPolicy

    policy = TandemPolicy.from_pretrained(assets.find("policy", "tabletop"))
    here = rollout("tabletop", seed=SEED, loaded=policy)
    capsys.readouterr()
    with sim_process(domain, "--lockstep"), beside(PolicyServer(policy).serve) as url:
        there = dds_rollout("tabletop", "tabletop", seed=SEED, domain=domain, loaded=policy, patience=PATIENCE)
        served = dds_rollout(url, "tabletop", seed=SEED, domain=domain, patience=PATIENCE)
    assert here.success and there.success and (there.steps, there.instruction) == (here.steps, here.instruction)
    assert (served.success, served.steps, served.instruction) == (there.success, there.steps, there.instruction)
    assert capsys.readouterr().out == 2 * f"success after {here.steps} steps: {here.instruction}\n"


@pytest.mark.parametrize("pace", [[], ["--lockstep"]])
def test_the_result_names_what_was_asked_last(domain: int, capsys, pace: list[str]) -> None:
    from vla.evaluation.dds_rollout import dds_rollout

    seed, policy = 100_003, ListeningPolicy()
    with make_robot("tabletop-suite", task="changed", render=False) as here:
        here.reset(seed)
        first = here.instruction
        while here.instruction == first:
            here.command(policy.act(None, None, None, 0, None)[0])
        last = here.instruction
    with sim_process(domain, "--env", "tabletop-suite", "--task", "changed", *pace):
        what = dict(seed=seed, seconds=5, domain=domain, loaded=policy, patience=PATIENCE)
        assert dds_rollout("", "tabletop", **what).instruction == last
    assert f": {last}" in capsys.readouterr().out


def test_a_robot_that_does_not_wait_is_driven_through_the_safety_gate(domain: int) -> None:
    from vla.evaluation.dds_rollout import DdsResult, dds_episode
    from vla.runtime.loop import Timing

    fake = FakeRobot(Bus(TYPES, domain), spec=ARM)

    def drive(by: float, seed: int = 0, **timing: float) -> DdsResult:
        what = TurningPolicy(ARM, by), ARM, "turn", seed
        return dds_episode(*what, seconds=3, timing=Timing(**timing), domain=domain, patience=PATIENCE)

    with fake.speaking():
        for ignored in ({"s2_delay": 0.1}, {"s2_period": 0.5}):
            with pytest.raises(UserError, match="--s2-delay and --s2-period are for robots in lockstep"):
                drive(0.05, **ignored)
        with pytest.raises(UserError, match="--seed is for simulated robots"):
            drive(0.05, seed=1)
        assert drive(0.05).counts["holds"] > 0  # until S2 has a thought
        with pytest.raises(UserError, match=r"the safety gate has stopped the arm: start_jump\.joint1"):
            drive(1.0)
    assert max(abs(point.positions[0]) for one in fake.commands for point in one.points) < 0.1
    fake.close()


def test_on_a_real_robot_a_server_that_hangs_is_not_waited_for_as_in_simulation(domain: int, tmp_path) -> None:
    from vla.evaluation.dds_rollout import dds_rollout
    from vla.serve.background import beside
    from vla.serve.server import PolicyServer

    arm = tmp_path / "arm.yaml"
    ARM.save(arm)
    fake, policy = FakeRobot(Bus(TYPES, domain), spec=ARM), HungPolicy(ARM, 0.05)
    with beside(PolicyServer(policy).serve) as url, fake.speaking():
        try:
            with pytest.raises(UserError, match=f"policy failed: .*has not answered for {REAL_TIME_PATIENCE_S:g} s"):
                dds_rollout(url, str(arm), "turn", seconds=PATIENCE, domain=domain, patience=PATIENCE)
        finally:
            policy.over.set()
    fake.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_policys_drive_after_the_step_it_comes_in(domain: int, monkeypatch, number) -> None:
    from vla.evaluation.dds_rollout import dds_rollout
    from vla.policies import load_policy

    steps, command = [], DdsRobot.command

    def commanded(robot: DdsRobot, action: np.ndarray) -> np.ndarray:
        steps.append(action)
        if len(steps) == 5:
            signal.raise_signal(number)
        return command(robot, action)

    monkeypatch.setattr(DdsRobot, "command", commanded)
    handler = signal.signal(number, signal.default_int_handler)  # a test run in the background is born deaf
    try:
        with sim_process(domain, "--lockstep"), pytest.raises(KeyboardInterrupt):
            policy = load_policy("tabletop")
            dds_rollout("tabletop", "tabletop", seed=SEED, domain=domain, loaded=policy, patience=PATIENCE)
    finally:
        signal.signal(number, handler)
    assert len(steps) == 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "--robot dds needs --spec"),
        (["--spec", "nowhere.yaml"], "unknown robot 'nowhere.yaml'"),
        (["--spec", "tabletop", "--domain", "300"], "must be at most 232, got 300"),
        (["--spec", "tabletop", "--video", "x.mp4"], "--video is for environments"),
    ],
)
def test_bad_usage_is_told_in_one_line(options: list[str], words: str, capsys) -> None:
    try:
        code = main(["rollout", "--robot", "dds", "--policy", "tabletop", *options])
    except SystemExit as leaving:
        code = leaving.code
    error = capsys.readouterr().err
    assert code == 2 and words in error and error.count("\n") == 1


def test_in_real_time_it_holds_when_commands_stop_and_a_robot_that_came_back_is_gone_on_with(domain: int) -> None:
    move = np.array([0.02, 0, 0, 0, 0, 0, 1], np.float32)
    with sim_process(domain) as first:
        robot = DdsRobot(SPEC, domain, PATIENCE)
        robot.connect()
        robot.reset(SEED)
        for _ in range(10):
            robot.command(move)
        start = robot.outcome.steps
        assert robot._bus and robot._bus.wait(lambda: robot.outcome.steps >= start + 10, PATIENCE)
        rested = robot.observe().state
        assert robot._bus.wait(lambda: robot.outcome.steps >= start + 20, PATIENCE)
        np.testing.assert_allclose(robot.observe().state[:7], rested[:7], atol=2e-3)
        first.stop(signal.SIGKILL)
        with sim_process(domain):
            for _ in range(3):
                robot.command(move)
                robot.observe()
            assert any("clock went back" in event or "waited" in event for event in robot.events), robot.events
        robot.close()


def test_a_robot_that_is_not_there_is_named_by_its_topics(domain: int) -> None:
    with pytest.raises(UserError, match=rf"DDS robot tabletop, domain {domain}: nothing has come on /clock"):
        DdsRobot(SPEC, domain, patience=0.3).connect()


def test_a_robot_that_falls_silent_is_named_stream_by_stream(domain: int) -> None:
    fake = fake_robot(domain)
    robot = DdsRobot(FAKE, domain, PATIENCE)
    with fake.speaking():
        robot.connect()
        robot.observe()
    robot.patience = 1.0
    time.sleep(0.6)
    with pytest.raises(UserError, match=r"front: the newest on /front is \d+\.\d\d s old, over 0.5 s"):
        robot.observe()
    robot.close()
    fake.close()


@pytest.mark.parametrize(("fault", "words"), FAULTS)
def test_what_a_robot_sends_that_cannot_be_used_is_named(domain: int, fault: str, words: str) -> None:
    check_named(lambda patience, spec: DdsRobot(spec, domain, patience), fake_robot(domain, fault), words)


@pytest.mark.parametrize("fault", PASSING)
def test_what_a_robot_sends_again_is_gone_on_with(domain: int, fault: str) -> None:
    check_recovered(lambda patience, spec: DdsRobot(spec, domain, patience), fake_robot(domain), fault)


def test_a_robot_that_was_told_nothing_yet_is_not_told_to_hold(domain: int) -> None:
    fake = fake_robot(domain)
    with fake.speaking():
        robot = DdsRobot(FAKE, domain, PATIENCE)
        robot.connect()
    robot.patience = 1.0
    time.sleep(0.6)
    with pytest.raises(UserError, match="s old, over"):
        robot.observe()
    robot.close()
    assert not fake.commands  # in joint positions, zeros would be a motion
    fake.close()


def test_an_arm_that_was_moved_between_two_episodes_is_not_led_back_to_the_end_of_the_first(domain: int) -> None:
    fake = fake_robot(domain)
    with fake.speaking(), DdsRobot(FAKE, domain, PATIENCE) as robot:
        robot.reset()
        robot.command(np.array([1, 2], np.float32))
        assert fake.bus.wait(lambda: bool(fake.commands), PATIENCE)
        fake.position, fake.fault, robot.patience = [0.2, 0.3], "silent", 1.0
        time.sleep(0.6)
        with pytest.raises(SensesLost):  # the second begins while nothing is seen
            robot.reset()
        fake.fault, robot.patience = "", PATIENCE
        np.testing.assert_allclose(robot.reset().state, [0.2, 0.3])
        robot.hold()
        robot.command(np.array([0.2, 0.3], np.float32))
        assert fake.bus.wait(lambda: len(fake.commands) >= 2, PATIENCE)
    np.testing.assert_allclose([one.points[0].positions for one in fake.commands], [[1, 2], [0.2, 0.3]])
    fake.close()


def test_an_arm_that_nobody_sees_is_told_to_hold_and_then_left_alone(domain: int) -> None:
    fake = fake_robot(domain)
    with fake.speaking(), DdsRobot(FAKE, domain, PATIENCE) as robot:
        robot.reset()
        robot.command(np.array([1, 2], np.float32))
        fake.fault = "silent"
        threading.Timer(1.5, robot.interrupt).start()
        with pytest.raises(Interrupted):
            while True:
                robot.observe()
        robot.resume()
        robot.hold()
        fake.fault = ""
        robot.observe()
        robot.command(np.array([0.2, 0.3], np.float32))
        assert fake.bus.wait(lambda: bool(fake.commands) and fake.commands[-1].points[0].positions[0] < 1, PATIENCE)
    np.testing.assert_allclose([one.points[0].positions for one in fake.commands], [[1, 2], [1, 2], [0.2, 0.3]])
    fake.close()


def test_what_keeps_messages_from_coming_is_not_asked_while_one_is_handed_over(domain: int) -> None:
    fake, told = fake_robot(domain), []
    with fake.speaking(), DdsRobot(FAKE, domain, PATIENCE) as robot:
        asking = threading.Thread(target=lambda: told.append(robot.complaints()))
        with robot._bus.changed:  # what is handed over may be a fault, and they are looked through
            asking.start()
            asking.join(1.0)
            assert not told
        asking.join(PATIENCE)
        assert told == [[]]
    fake.close()


def test_joints_in_another_order_are_put_right(domain: int) -> None:
    fake = fake_robot(domain, "reordered")
    with fake.speaking(), DdsRobot(FAKE, domain, PATIENCE) as robot:
        assert robot.observe().state.tolist() == [1, 2]
    fake.close()


def test_commands_arrive_as_declared_and_a_wall_clock_robot_is_kept_at_its_rate(domain: int) -> None:
    fake = fake_robot(domain)
    with fake.speaking(), DdsRobot(FAKE, domain, PATIENCE) as robot:
        begin = time.monotonic()
        for i in range(5):
            sent = np.array([i, -i], np.float32)
            np.testing.assert_array_equal(robot.command(sent), sent)
        assert time.monotonic() - begin >= 4 / FAKE.rate_hz
        assert fake.bus.wait(lambda: bool(fake.commands), PATIENCE)
        with pytest.raises(ValueError, match="finite"):
            robot.command(np.array([np.nan, 0], np.float32))
    names = fake.commands[-1].joint_names
    assert names == ["a", "b"] and len(fake.commands[-1].points) == 2
    fake.close()


def test_a_wall_clock_that_is_set_back_holds_nothing_up(domain: int, monkeypatch) -> None:
    fake, now = fake_robot(domain), time.time_ns
    with fake.speaking(), DdsRobot(FAKE, domain, PATIENCE) as robot:
        for _ in range(20):  # as many pictures and more are kept
            robot.command(np.zeros(2, np.float32))
        monkeypatch.setattr(time, "time_ns", lambda: now() - 3600 * SECOND)
        impatient = threading.Timer(PATIENCE, robot.interrupt)
        impatient.start()
        for _ in range(5):
            robot.observe()
            robot.command(np.zeros(2, np.float32))
        impatient.cancel()
        told = robot.take_events()[0]
        assert robot.losses and ("ahead of the robot's time" in told or "clock went back" in told)
    fake.close()


def test_a_bus_whose_lock_an_interrupt_left_taken_still_closes(domain: int, monkeypatch) -> None:
    monkeypatch.setattr(dds_bus, "CLOSING_S", 0.5)
    hearing, telling = Bus(TYPES, domain), Bus(TYPES, domain)
    told = threading.Event()
    hearing.subscribe("/words", "std_msgs/msg/String", "reliable", lambda message, received: told.set())
    hearing.start()
    words = telling.advertise("/words", "std_msgs/msg/String", "reliable")
    assert telling.wait(lambda: words.readers > 0, PATIENCE)
    hearing.changed.acquire()  # as Ctrl-C does between the lock and the block that it guards
    words.publish(TYPES.new("std_msgs/msg/String", data="now you wait for me"))
    time.sleep(0.2)
    hearing.close()
    telling.close()
    assert not told.is_set()


def fake_robot(domain: int, fault: str = "") -> FakeRobot:
    return FakeRobot(Bus(TYPES, domain), fault)
