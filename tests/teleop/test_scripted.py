"""The scripted operator corrects a policy through the session's own way of correcting, on the simulator's clock."""

import numpy as np
import pytest
from session_rig import PushingPolicy

from vla.data.attempts import ExpertActor
from vla.data.live import LiveRecorder, LiveSettings
from vla.data.spool import read_frames
from vla.spec import RobotSpec
from vla.teleop.control import SessionSettings
from vla.teleop.mapping import Scaling
from vla.teleop.scripted import operate


def recorded(folder, takes, policy=None):
    """(the take, its frames) of each, on the simulated tabletop; the policy's kind, if there is to be one."""
    from vla import assets

    spec = RobotSpec.load(assets.find("robot", "tabletop"))
    settings = SessionSettings(seed=5, scaling=Scaling().times(3))
    with LiveRecorder(folder / "data", spec, LiveSettings(reserve=0)) as recorder:
        operate("tabletop", takes, recorder, policy(spec) if policy else None, settings)
        kept = [one.take for one in recorder.status().takes]
        return [(take, list(read_frames(folder / "data.live" / f"take-{take.number:06d}", spec))) for take in kept]


def test_a_policy_that_goes_astray_is_corrected_and_the_task_done(tmp_path):
    ((take, frames),) = recorded(tmp_path, 1, PushingPolicy)
    assert take.success and take.interventions > 10 and not take.dropped
    drivers = [frame.driver for frame in frames]
    assert drivers.count("policy") > 10 and drivers[-1] == "person"
    assert all(frame.intervention == (frame.driver == "person") for frame in frames)


class StumblingPolicy(PushingPolicy):
    """Closes the gripper, and its second plan is nonsense."""

    plans = 0

    def act(self, images, state, thought, now, prefix):
        self.plans += 1
        plan = super().act(images, state, thought, now, prefix)
        plan[:, -1] = 0
        return np.full_like(plan, np.nan) if self.plans == 2 else plan


def test_a_stop_of_the_gates_own_ends_neither_the_try_nor_the_correction(tmp_path):
    ((take, frames),) = recorded(tmp_path, 1, StumblingPolicy)
    assert take.success and take.interventions > 10
    drivers = [frame.driver for frame in frames]
    assert drivers.count("policy") > 10 and "nobody" in drivers
    assert frames[drivers.index("person") - 1].applied[-1] == 0, "the expert finds the gripper closed, and opens it"


def test_demonstrations_come_at_the_simulators_pace_and_again_the_same(tmp_path):
    first, again = (recorded(tmp_path / name, 1)[0][1] for name in ("first", "again"))
    steps = np.diff([frame.decided for frame in first])
    np.testing.assert_allclose(steps, 0.05, atol=1e-9)
    assert all(frame.captured["front"] == frame.decided for frame in first[1:]), "the simulator waits for the decision"
    assert [frame.driver for frame in first].count("nobody") <= 2
    np.testing.assert_array_equal([frame.applied for frame in first], [frame.applied for frame in again])


def test_a_scene_is_demonstrated_as_vla_collect_demonstrates_it(tmp_path, capsys):
    ((take, frames),) = recorded(tmp_path, 1)
    assert "1 takes, 0 of them failures" in capsys.readouterr().out
    actor = ExpertActor("tabletop", "all", steady=True)
    (episode,) = actor.play(5)
    actor.close()
    assert take.success and episode.frames[-1].success and take.task == episode.task
    driven = frames[[frame.driver for frame in frames].index("person") :]
    assert len(driven) == pytest.approx(len(episode.frames), rel=0.1)
    apart = [here.state[7:10] - there.state[7:10] for here, there in zip(driven[:30], episode.frames[:30], strict=True)]
    assert np.linalg.norm(apart, axis=1).max() < 0.006
    for camera, image in episode.frames[0].images.items():
        assert np.abs(driven[0].images[camera].astype(int) - image).mean() < 1, "the same scene, in the same look"
