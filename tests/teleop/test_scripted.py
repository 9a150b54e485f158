"""The scripted operator corrects a policy through the session's own way of correcting."""

import time

from session_rig import PATIENCE_S, PushingPolicy, session_with

from vla.data.spool import read_frames
from vla.robots.gym_sim import make_robot
from vla.teleop.mapping import Scaling
from vla.teleop.scripted import ScriptedOperator


def test_a_policy_that_goes_astray_is_corrected_and_the_task_done(tmp_path):
    scaling = Scaling().times(2)
    operator = ScriptedOperator("tabletop", takes=1, has_policy=True, scaling=scaling)
    robot = make_robot("tabletop", render=False)
    make = operator.beside(lambda: robot)
    with session_with(make, robot.spec, tmp_path, PushingPolicy, device=operator, scaling=scaling) as (
        live,
        _,
        recorder,
    ):
        deadline, wishes = time.monotonic() + PATIENCE_S, []
        while ("end", None) not in wishes:
            assert time.monotonic() < deadline and live.alive, live.moment().notes
            wishes = operator.poll(live.moment())
            for what, value in wishes:
                if what != "end":
                    live.ask(what, value)
        recorder.settle()
        (kept,) = recorder.status().takes
        frames = list(read_frames(tmp_path / "data.live" / "take-000000", robot.spec))
    assert kept.take.success and kept.take.interventions > 10
    drivers = [frame.driver for frame in frames]
    assert drivers.count("policy") > 10 and drivers[-1] == "person"
    assert all(frame.intervention == (frame.driver == "person") for frame in frames)
