"""`vla data doctor`: the checks, and what a simulator and a policy say: on the console, as JSON and as a page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

from vla.data.doctor.compare import Agreement, Predict, compare
from vla.data.doctor.examine import Diagnosis, examine
from vla.data.doctor.recording import Recording
from vla.data.doctor.replay import Simulator, replay, summary
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
    with progress_bar("pictures", len(recording) * len(recording.cameras)) as advance:
        diagnosis = examine(recording, advance)
    document: dict[str, Any] = {}
    sections = []
    if simulator or predictor:
        spec = recording.spec
        if spec is None:
            raise UserError(f"dataset {asked.directory}: --replay and --policy need its meta/robot_spec.yaml")
        if simulator:
            diagnosis, document["replay"] = _replay(diagnosis, simulator(spec), asked.episodes)
            sections.append(("Replay", _numbers(document["replay"]["unexplained"], "episode", "share of its way off")))
        if predictor:
            diagnosis, agreement = _compare(diagnosis, predictor(spec), asked.episodes)
            document["policy"] = agreement.to_dict()
            sections.append(("Policy", _numbers(agreement.error, "field", "error, as a share of the field's spread")))
    print(say(diagnosis))
    if asked.page:
        write_page(asked.page, diagnosis, sections)
    return diagnosis.to_dict() | document


def _replay(diagnosis: Diagnosis, simulator: Any, episodes: int) -> tuple[Diagnosis, dict[str, Any]]:
    body: Simulator = simulator
    try:
        with progress_bar("replayed", episodes) as advance:
            results, findings = replay(diagnosis.recording, body, episodes, advance)
    finally:
        simulator.close()
    about = summary(results)
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
    listed = ", ".join(f"{name} {value:.2f}" for name, value in agreement.error.items())
    print(f"policy: differs from what was recorded by {listed} of each field's spread ({agreement.moments} moments)")
    return replace(diagnosis, findings=(*diagnosis.findings, *findings)), agreement


def _numbers(values: Any, key: str, value: str) -> str:
    rows = [[escape(str(name)), f"{number:.3f}"] for name, number in values.items()]
    return table([(key, False), (value, True)], rows)
