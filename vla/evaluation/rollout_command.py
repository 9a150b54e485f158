"""`vla rollout`: one episode to look at."""

import tempfile
from pathlib import Path

from rich.console import Console

from vla import assets
from vla.evaluation.console import episode_line
from vla.evaluation.episode import EpisodeResult, Play
from vla.evaluation.evaluate import WORDS_EVERY_S
from vla.evaluation.pool import Job, play_all
from vla.evaluation.setup import Setup, media_path
from vla.robots.gym_sim import find_environment
from vla.runtime.loop import Policy, Timing


def rollout(
    policy: str,
    env: str = "tabletop",
    instruction: str | None = None,
    seed: int = 0,
    video: Path | None = None,
    timing: Timing | None = None,
    loaded: Policy | None = None,
    seconds: float | None = None,
    device: str = "cpu",
) -> EpisodeResult:
    """Play the scene of `seed`, following its own instruction or another one, and print one line about it.

    video: mp4 of both cameras with S2's words, written whole or not at all. `loaded` is used instead of loading
    `policy`. seconds: when it ends, if the scene does not end it before. Raises UserError for an unknown policy or
    environment, an instruction that is impossible in this scene, or a video file that cannot be written.
    """
    find_environment(env)
    play = Play(timing=timing or Timing(), words_every=WORDS_EVERY_S, seconds=seconds)
    if video:
        assets.check_file_writable(video, "--video")
    with tempfile.TemporaryDirectory(prefix="vla-rollout-") as media:
        setup = Setup(policy=policy, env=env, play=play, media=media if video else None, videos=1, device=device)
        (result,) = play_all(setup, [Job(0, seed, instruction)], workers=1, policy=loaded)
        if video:
            assets.write_file(video, media_path(media, 0, "mp4").read_bytes(), "--video")
    Console(soft_wrap=True).print(episode_line(result).strip(), highlight=False)
    return result
