"""A policy in an environment, ready to play one episode after the other and to record those worth showing."""

from vla import assets
from vla.evaluation.episode import EpisodeResult, play_episode, warm_up
from vla.evaluation.recorder import Recorder
from vla.evaluation.setup import Setup, media_path
from vla.policies import load_policy
from vla.robots.gym_sim import find_environment, make_robot
from vla.runtime.loop import Policy
from vla.spec import RobotSpec


class Player:
    """Use as a context: the robot is closed at its end. Raises UserError as `load_policy` and `make_robot` do."""

    def __init__(self, setup: Setup, policy: Policy | None = None) -> None:
        self._setup = setup
        spec = RobotSpec.load(assets.find("robot", find_environment(setup.env).robot))
        self.policy = policy or load_policy(setup.policy, robot=spec, device=setup.device)
        # Who draws an episode afterwards needs a twin for that, or every image at once.
        # Nor has a policy that looks back any use for images that are gone.
        lazy = setup.media is None or find_environment(setup.env).twin_size > 0
        lazy = lazy and getattr(self.policy, "frames", 1) == 1
        looks = {"perturb": setup.looks} if setup.looks else {}
        self._robot = make_robot(setup.env, setup.task, setup.split, lazy, **looks)
        self._recorder = Recorder(self._robot) if setup.media else None
        warm_up(self.policy, self._robot)

    def __enter__(self) -> "Player":
        return self

    def __exit__(self, *_: object) -> None:
        self._robot.close()

    def play(self, index: int, seed: int, instruction: str | None = None) -> EpisodeResult:
        setup, recorder = self._setup, self._recorder
        result = play_episode(self.policy, self._robot, setup.play, seed, index, instruction, recorder)
        if recorder is not None and setup.media is not None:
            if index < setup.videos:
                recorder.video(media_path(setup.media, index, "mp4"))
            if index < setup.sheets or not result.success:
                recorder.sheet(media_path(setup.media, index, "jpg"))
        return result


class Players:
    """A player for whichever setup is next; the robot of the one before is closed, policies stay loaded.

    policy: used instead of loading any. Use as a context.
    """

    def __init__(self, policy: Policy | None = None) -> None:
        self._given = policy
        self._loaded: dict[tuple[str, str], Policy] = {}
        self._setup: Setup | None = None
        self._player: Player | None = None

    def __enter__(self) -> "Players":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def of(self, setup: Setup) -> Player:
        """Raises UserError as `Player` does."""
        if self._player is None or setup != self._setup:
            self._close()
            which = setup.policy, setup.device
            self._player = Player(setup, self._given or self._loaded.get(which))
            self._setup, self._loaded[which] = setup, self._player.policy
        return self._player

    def _close(self) -> None:
        if self._player is not None:
            self._player.__exit__()
            self._player = None
