"""All checks on one dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vla.data.doctor import cameras, conventions, files, frames, numbers
from vla.data.doctor.finding import NEEDS, Check, Finding
from vla.data.doctor.patient import Patient
from vla.data.doctor.pictures import Track
from vla.data.doctor.recording import Recording

CHECKS: tuple[Check, ...] = (*files.CHECKS, *numbers.CHECKS, *frames.CHECKS, *cameras.CHECKS, *conventions.CHECKS)


@dataclass(frozen=True)
class Diagnosis:
    """What was found. made: the checks; left_out: those not made, and what they would have needed."""

    recording: Recording
    findings: tuple[Finding, ...]
    left_out: Mapping[str, str]
    made: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "dataset": str(self.recording.root),
            "episodes": len(self.recording.episodes),
            "frames": len(self.recording),
            "findings": [finding.to_dict() for finding in self.findings],
            "checks": list(self.made),
            "left_out": dict(self.left_out),
        }


def examine(
    recording: Recording,
    advance: Callable[[int], None] = lambda _: None,
    known: Mapping[str, Track] | None = None,
) -> Diagnosis:
    """Run every check that the dataset has what it needs for; advance is called for each picture decoded.

    known: cameras that need no decoding, since they were looked at before.
    """
    patient = Patient(recording, advance, known or {})
    findings: list[Finding] = []
    left_out, made = {}, []
    for check in CHECKS:
        lacking = [NEEDS[need] for need in check.needs if not patient.has(need)]
        if lacking:
            left_out[check.name] = " and ".join(lacking)
            continue
        made.append(check.name)
        findings += check.find(patient)
    return Diagnosis(recording, tuple(findings), left_out, tuple(made))
