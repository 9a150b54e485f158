"""`vla data doctor`: the checks, and what a simulator and a policy say: on the console, as JSON and as a page."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

from vla.data.doctor.compare import Agreement, Predict, compare
from vla.data.doctor.examine import Diagnosis, examine
from vla.data.doctor.recording import Recording
from vla.data.doctor.replay import Simulator, replay, summary, tool_of
from vla.data.doctor.report import say, write_page
from vla.data.workers import progress_bar
from vla.errors import UserError
from vla.page import table
from vla.spec import RobotSpec


@dataclass(frozen=True)
class Visit:
    """page: where to write it. episodes: how many the simulator and the policy are tried on."""

    directory: Path
    page: Path | None
    episodes: int


def visit(
    asked: Visit,
    simulator: Callable[[RobotSpec], Any] | None,
    predictor: Callable[[RobotSpec], Predict] | None,
) -> dict[str, Any]:
    """Print what was found, write the page, return the JSON document. simulator, predictor: made for the data's spec.

    Raises UserError if `directory` is no readable dataset, or simulator or policy are for another robot.
    """
    recording = Recording.open(asked.directory)
    document: dict[str, Any] = {}
    sections = []
    # What may be refused is made first: examining takes long, and its findings would be lost.
    predict = predictor(_spec(recording)) if predictor else None
    if simulator:
        tool_of(recording)
    with closing(simulator(_spec(recording))) if simulator else nullcontext() as body:
        with progress_bar("pictures", len(recording) * len(recording.cameras)) as advance:
            diagnosis = examine(recording, advance)
        if body:
            diagnosis, document["replay"] = _replay(diagnosis, body, asked.episodes)
            sections.append(("Replay", _numbers(document["replay"]["unexplained"], "episode", "share of its way off")))
        if predict:
            diagnosis, agreement = _compare(diagnosis, predict, asked.episodes)
            document["policy"] = agreement.to_dict()
            sections.append(("Policy", _numbers(agreement.error, "field", "error, as a share of the field's spread")))
    print(say(diagnosis))
    if asked.page:
        write_page(asked.page, diagnosis, sections)
    return diagnosis.to_dict() | document


def _spec(recording: Recording) -> RobotSpec:
    if recording.spec is None:
        raise UserError(f"dataset {recording.root}: --replay and --policy need its meta/robot_spec.yaml")
    return recording.spec


def _replay(diagnosis: Diagnosis, body: Simulator, episodes: int) -> tuple[Diagnosis, dict[str, Any]]:
    with progress_bar("replayed", episodes) as advance:
        results, findings = replay(diagnosis.recording, body, episodes, advance)
    about = summary(results)
    if not results:
        print("replay: nothing to replay: no two frames in turn have states and actions as the spec says, and finite")
        return diagnosis, about
    print(
        f"replay: after {about['window_s']:g} s the simulated tool is {1000 * about['drift_m']['median']:.1f} "
        "mm from the "
        f"recorded one (median; 95 %: {1000 * about['drift_m']['p95']:.1f} mm), which went "
        f"{1000 * about['moved_m']['median']:.0f} mm"
    )
    return replace(diagnosis, findings=(*diagnosis.findings, *findings)), about


def _compare(diagnosis: Diagnosis, predict: Predict, episodes: int) -> tuple[Diagnosis, Agreement]:
    with progress_bar("compared", episodes) as advance:
        agreement, findings = compare(diagnosis.recording, predict, episodes, advance)
    if not agreement.moments:
        print("policy: nothing to compare: no moment has every picture, and state and actions as the spec says, finite")
        return diagnosis, agreement
    listed = ", ".join(f"{name} {value:.2f}" for name, value in agreement.error.items())
    print(f"policy: differs from what was recorded by {listed} of each field's spread ({agreement.moments} moments)")
    return replace(diagnosis, findings=(*diagnosis.findings, *findings)), agreement


def _numbers(values: Any, key: str, value: str) -> str:
    rows = [[escape(str(name)), f"{number:.3f}"] for name, number in values.items()]
    return table([(key, False), (value, True)], rows)
