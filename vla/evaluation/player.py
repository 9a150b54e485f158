"""A policy in an environment, ready to play one episode after the other and to record those worth showing."""

from vla import assets
from vla.evaluation.episode import EpisodeResult, play_episode, warm_up
from vla.evaluation.recorder import Recorder
from vla.evaluation.setup import Setup, media_path
from vla.robots.gym_sim import find_environment, make_robot
from vla.runtime.loop import Policy
from vla.spec import RobotSpec


def load_policy(name: str, robot: RobotSpec | None = None) -> Policy:
    """A shipped name, a folder or a hub id; UserError if there is no such policy, its files are damaged, or it is of
    other robots than `robot`."""
    folder = assets.find("policy", name)
    from vla.tandem import TandemPolicy

    return TandemPolicy.from_pretrained(folder, robot=robot)


class Player:
    """Use as a context: the robot is closed at its end. Raises UserError as `load_policy` and `make_robot` do."""

    def __init__(self, setup: Setup, policy: Policy | None = None) -> None:
        self._setup = setup
        spec = RobotSpec.load(assets.find("robot", find_environment(setup.env).robot))
        self._policy = policy or load_policy(setup.policy, spec)
        # Who draws an episode afterwards needs a twin for that, or every image at once.
        lazy = setup.media is None or find_environment(setup.env).twin_size > 0
        self._robot = make_robot(setup.env, setup.task, setup.split, lazy)
        self._recorder = Recorder(self._robot) if setup.media else None
        warm_up(self._policy, self._robot)

    def __enter__(self) -> "Player":
        return self

    def __exit__(self, *_: object) -> None:
        self._robot.close()

    def play(self, index: int, seed: int, instruction: str | None = None) -> EpisodeResult:
        setup, recorder = self._setup, self._recorder
        result = play_episode(self._policy, self._robot, setup.play, seed, index, instruction, recorder)
        if recorder is not None and setup.media is not None:
            if index < setup.videos:
                recorder.video(media_path(setup.media, index, "mp4"))
            if index < setup.sheets or not result.success:
                recorder.sheet(media_path(setup.media, index, "jpg"))
        return result
