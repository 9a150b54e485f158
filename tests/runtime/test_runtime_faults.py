"""What goes wrong in a run on two clocks, judged by what the robot did: it keeps its limits, holds, and goes on after.

One run meets one fault after the other. Times are the robot's own, and nothing here depends on how fast the machine is.
"""

import os
import resource
import signal
import time

import numpy as np
import pytest
from fault_run import PATIENCE, Run, assert_gone

from vla.errors import UserError
from vla.processes import Maker
from vla.robots.realtime_sim import RealTimeSim
from vla.robots.sim_wires import World
from vla.runtime.run_telemetry import RunTelemetry
from vla.runtime.supervisor import RunSettings, Supervisor


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("faults"))
    with run.supervisor:
        run.set_mood("mute")
        run.supervisor.instruct("sway")
        run.until(lambda: run.waits == "no thought", "it acts without a thought")
        run.stays_at_rest()
        run.set_mood("")
        run.until_it_moves()
        yield run
        processes = run.processes()
    assert_gone(processes)
    run.assert_within_limits()


def test_without_a_first_thought_the_robot_stays_where_it_is_and_begins_with_it(run):
    first = run.targets()[0]
    began = np.flatnonzero((run.targets() != first).any(1))[0]
    assert began > 100, "at rest while S2 was mute, as the run began"


def test_s2_killed_is_started_again_while_the_robot_goes_on(run):
    os.kill(run.supervisor.slow.pid, signal.SIGKILL)
    run.until(lambda: "s2 died: started again" in run.events, "nobody noticed")
    run.until_it_moves()
    assert run.waits is None, "on the thought there was"


def test_s2_hung_holds_the_robot_when_its_thought_is_too_old_until_it_is_back(run):
    os.kill(run.supervisor.slow.pid, signal.SIGSTOP)
    try:
        run.until(lambda: run.waits == "old thought", "it acts on any thought")
        run.until_it_rests()
        # What is asked meanwhile waits for S2 too.
        run.supervisor.instruct("sway the other way")
        run.until(lambda: run.waits == "no thought", "it acts on a thought about something else")
    finally:
        os.kill(run.supervisor.slow.pid, signal.SIGCONT)
    run.until_it_moves()


def test_s1_killed_ends_with_its_chunk_and_begins_again(run):
    os.kill(run.supervisor.fast.pid, signal.SIGKILL)
    run.until(lambda: "s1 died: started again" in run.events, "nobody noticed")
    run.until_it_moves()


def test_s1_hung_holds_the_robot_when_its_chunk_is_used_up(run):
    os.kill(run.supervisor.fast.pid, signal.SIGSTOP)
    try:
        run.holds_when_what_was_sent_is_used_up()
    finally:
        os.kill(run.supervisor.fast.pid, signal.SIGCONT)
    run.until_it_moves()


def test_at_ten_times_the_latency_it_goes_on_late(run):
    before = run.late_chunks
    run.set_mood("slow")
    run.until(lambda: run.late_chunks > before, "no chunk is late")
    for _ in range(3):
        run.until_it_moves()
    assert run.waits is None and run.command.stopped is None
    run.set_mood("")
    run.until_it_moves()


def test_without_a_command_process_the_robot_brakes_by_itself(run):
    os.kill(run.supervisor.commands.pid, signal.SIGKILL)
    ticks = run.ticks()
    while run.ticks() < ticks + 60:
        time.sleep(0.02)
    path = run.targets()[ticks:]
    assert (path[20:60] == path[20]).all(), "at rest 0.1 s of its time after the last command"
    run.until(lambda: "the command process died: started again" in run.events, "nobody noticed")
    run.until_it_moves()


def test_a_chunk_with_nan_is_not_followed(run):
    run.set_mood("nan")
    run.until(lambda: "non_finite.ee_translation" in run.refused, "it was not noticed")
    run.until_it_rests()
    assert run.command.stopped is None, "it never came to the gate"
    run.set_mood("")
    run.until_it_moves()


def test_a_jump_is_slowed_down_by_the_gate(run):
    before = sum(run.command.counts.values())
    run.set_mood("jump")
    run.until(lambda: sum(run.command.counts.values()) > before, "no rule was enforced")
    run.set_mood("")
    run.until_it_moves()


def test_images_that_stop_coming_hold_the_robot_until_they_are_back(run):
    os.kill(run.robot.cameras.pid, signal.SIGSTOP)
    try:
        run.until(lambda: run.waits == "old images", "it acts on any image")
        run.until_it_rests()
    finally:
        os.kill(run.robot.cameras.pid, signal.SIGCONT)
    run.until_it_moves()


def test_joint_states_that_stop_coming_stop_the_robot_until_it_is_reset(run):
    os.kill(run.robot.body.pid, signal.SIGSTOP)
    try:
        run.until(lambda: run.command.stopped == "measured", "it goes on blind")
    finally:
        os.kill(run.robot.body.pid, signal.SIGCONT)
    run.until_it_rests()
    run.until(lambda: run.waits is None, "S1 does not go on")
    run.stays_at_rest()
    run.supervisor.commands.reset()
    run.until_it_moves()
    assert run.command.stopped is None


def test_a_full_disk_ends_what_is_written_and_not_the_run(run, tmp_path):
    telemetry = RunTelemetry(tmp_path / "telemetry.jsonl")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = 1 << 14, limit[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, full)
    try:
        while not telemetry.lost:
            telemetry.add(run.look())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert telemetry.lost == "telemetry ends here: File too large"
    resource.prlimit(run.robot.body.pid, resource.RLIMIT_FSIZE, full)
    run.until(lambda: run.robot.state().log_lost, "the body does not say that its log ends")
    here = run.command.joints
    run.until(lambda: np.abs(run.command.joints - here).max() > 0.01, "the run does not go on")
    assert run.robot.body.alive and run.command.stopped is None
    assert len((tmp_path / "telemetry.jsonl").read_bytes()) <= full[0]


def test_a_policy_that_cannot_be_loaded_is_told(tmp_path):
    robot = RealTimeSim(World())
    supervisor = Supervisor(Maker("swaying_policy:Nobody"), robot, RunSettings(ready=PATIENCE))
    with pytest.raises(UserError, match=r"s[12]: 'swaying_policy:Nobody' cannot be made"):
        supervisor.start()
    supervisor.close()
    assert not supervisor.slow.alive and not supervisor.fast.alive and not robot.body.alive


def test_a_policy_whose_thoughts_are_too_large_is_refused_when_it_is_loaded(tmp_path):
    run = Run(tmp_path)
    run.set_mood("wide")
    with pytest.raises(UserError, match="s2: thoughts of 1024 x 4096 latents do not fit"):
        run.supervisor.start()
    run.supervisor.close()


def test_a_part_that_dies_again_and_again_without_having_done_anything_ends_the_run(tmp_path):
    run = Run(tmp_path)
    with run.supervisor:
        processes = run.processes()
        run.set_mood("broken")
        run.supervisor.instruct("sway")
        with pytest.raises(UserError, match="s2 died 3 times without having done anything"):
            run.until(lambda: False, "it is started again for ever")
    assert run.events.count("s2 died: started again") == 2
    assert_gone(processes)


def test_a_command_process_that_dies_at_every_start_ends_the_run(tmp_path):
    run = Run(tmp_path)
    with run.supervisor as supervisor, pytest.raises(UserError, match="the command process died 3 times"):
        while True:
            os.kill(supervisor.commands.pid, signal.SIGKILL)
            while supervisor.commands.alive:
                time.sleep(0.01)
            run.look()
    assert run.events.count("the command process died: started again") == 2
