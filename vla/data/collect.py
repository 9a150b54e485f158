"""`vla collect`: episodes of an expert or a policy into a LeRobot v3 dataset, or still scenes with words.

Attempt i runs on seed `seed + i`; what it holds depends on nothing else, so the number of workers and interruptions
leave no trace in the data. Experts' failures are left out and made good by further attempts; a policy's are kept,
with `next.success` false to the end. An attempt in which the instruction changes is recorded as two episodes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from vla import assets
from vla.data.attempts import expert_maker
from vla.data.join import KEPT, join_parts, kept_in
from vla.data.staging import Span, Staging, check_output
from vla.data.stills import StillSettings, collect_stills, labels_of
from vla.data.workers import Report, progress_bar, run_spans
from vla.errors import UserError
from vla.extras import RECORDING, need
from vla.policies import weights_of
from vla.robots.gym_sim import check_rendering, find_environment
from vla.spec import RobotSpec

BLOCK = 100
"""Attempts per part at most: half a minute of work, which is what an interruption can cost."""
RECORD = Path("meta/collect.json")
GIVE_UP_AFTER = 4
"""Attempts per wanted episode before the expert counts as unable."""


@dataclass(frozen=True)
class EpisodeSettings:
    """What attempt i depends on, beside i. policy: its folder, or None for the scripted experts.

    corrected: the policy drives for a while, then the expert; what is recorded is what that one would do.
    steady: the expert's hand does not slip. device: of the policy, as `load_policy` takes it; no part of the record.
    """

    env: str
    seed: int
    task: str
    policy: str | None
    corrected: bool = False
    steady: bool = False
    device: str = "cpu"


def collect(
    env: str,
    episodes: int,
    seed: int,
    out: Path,
    policy: str | None,
    workers: int,
    task: str,
    stills: int,
    corrected: bool = False,
    steady: bool = False,
    device: str = "cpu",
) -> None:
    """Collect `episodes` episodes or `stills` still scenes into `out`, going on where an interrupted run stopped.

    Raises UserError, before any work, for what cannot be done as asked.
    """
    for name, value, least in (
        ("episodes", episodes, 0),
        ("stills", stills, 0),
        ("seed", seed, 0),
        ("workers", workers, 1),
    ):
        if value < least:
            raise UserError(f"collect: --{name} must be at least {least}, got {value}")
    if (episodes > 0) == (stills > 0):
        raise UserError("collect: give --episodes N or --stills N: a folder holds one kind of data")
    if corrected and not policy:
        raise UserError("collect: --corrected needs a --policy to correct")
    if steady and (policy or stills):
        raise UserError("collect: --steady is for episodes of the scripted experts")
    entry = find_environment(env, task)
    out = out.resolve()
    assets.check_folder_writable(out)
    assets.check_folder_writable(out.parent)
    check_rendering()
    if stills:
        if policy:
            raise UserError("collect: --policy drives episodes; still scenes have none")
        labels_of(entry)
        size = RobotSpec.load(assets.find("robot", entry.robot)).camera("front").height
        new = collect_stills(StillSettings(env, seed, task, size), stills, out, workers)
        print(f"{stills} still scenes in {out}" + ("" if new else " (they were there)"))
        return
    need("data", *RECORDING)
    if policy is None or corrected:
        expert_maker(entry)
    summary = collect_episodes(
        EpisodeSettings(env, seed, task, policy, corrected, steady, device), episodes, out, workers
    )
    print(f"{episodes} episodes in {out}: {summary}")


def collect_episodes(settings: EpisodeSettings, episodes: int, out: Path, workers: int) -> str:
    """Record until exactly `episodes` are kept; returns a line for the person. Raises UserError if too few succeed."""
    wanted = asdict(settings) | {"episodes": episodes}
    del wanted["device"]
    if settings.policy is not None:
        wanted["policy"] = f"{Path(settings.policy).name} {weights_of(settings.policy)}"
    if check_output(out, RECORD, wanted):
        return "they were there"
    staging = Staging(out, wanted)
    with staging.opened():
        with progress_bar("episodes", episodes, sum(map(kept_in, staging.parts().values()))) as advance:
            attempts = _attempt(settings, staging, episodes, workers, advance)
        joined = staging.unfinished(Span(0, 0))
        with progress_bar("joining", 1):
            join_parts([part for part in staging.parts().values() if kept_in(part)], joined)
        record = wanted | {"attempts": attempts, "rejected": attempts - episodes}
        (joined / RECORD).write_text(json.dumps(record, indent=2))
        staging.finish(joined)
    if settings.policy and not settings.corrected:
        return "failures are kept, see next.success"
    return f"{attempts} attempts, {attempts - episodes} failed and left out"


def _attempt(
    settings: EpisodeSettings, staging: Staging, episodes: int, workers: int, advance: Callable[[int], None]
) -> int:
    """Attempt as many as are lacking, and again for those that failed; returns the number of attempts.

    So the attempts end where the last wanted episode is, however they were split into parts.
    """
    attempts = kept = 0
    while kept < episodes:
        attempts += episodes - kept
        missing = sum(map(len, staging.missing(attempts, attempts)))
        block = max(1, min(BLOCK, -(-missing // workers)))
        run_spans(_EpisodeWorker, (settings, staging), staging.missing(attempts, block), workers, advance)
        kept = sum(kept_in(part) for span, part in staging.parts().items() if span.stop <= attempts)
        if kept < episodes and attempts >= GIVE_UP_AFTER * episodes + GIVE_UP_AFTER:
            raise UserError(f"collect: only {kept} of {attempts} attempts at {settings.task!r} succeeded; gave up")
    return attempts


class _EpisodeWorker:
    """Plays spans of attempts and records each as a dataset; runs in a process of its own."""

    def __init__(self, job: tuple[EpisodeSettings, Staging]) -> None:
        import torch

        from vla.data.attempts import Actor, CorrectedActor, ExpertActor, PolicyActor

        torch.set_num_threads(1)
        self.settings, self.staging = job
        env, task, policy = self.settings.env, self.settings.task, self.settings.policy
        self.spec = RobotSpec.load(assets.find("robot", find_environment(env).robot))
        self.actor: Actor
        if policy is None:
            self.actor = ExpertActor(env, task, self.settings.steady)
        else:
            self.actor = (CorrectedActor if self.settings.corrected else PolicyActor)(
                env, task, policy, self.settings.device
            )

    def run(self, span: Span, report: Report) -> None:
        from vla.data.recorder import EpisodeRecorder

        folder = self.staging.unfinished(span)
        recorder, kept = None, 0
        for index in range(span.start, span.stop):
            episodes = self.actor.play(self.settings.seed + index)
            keep = episodes[-1].success or self.actor.keeps_failures
            if keep:
                recorder = recorder or EpisodeRecorder(folder, self.spec)
                for episode in episodes:
                    recorder.write(episode)
                kept += 1
            report(int(keep))
        if recorder:
            recorder.close()
        folder.mkdir(exist_ok=True)
        (folder / KEPT).write_text(str(kept))
        self.staging.commit(span)

    def close(self) -> None:
        self.actor.close()
