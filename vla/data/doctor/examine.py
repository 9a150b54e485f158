"""All checks on one dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla.data.doctor import cameras, conventions, files, frames, numbers
from vla.data.doctor.finding import NEEDS, Check, Finding
from vla.data.doctor.patient import Patient
from vla.data.doctor.recording import Recording

CHECKS: tuple[Check, ...] = (*files.CHECKS, *numbers.CHECKS, *frames.CHECKS, *cameras.CHECKS, *conventions.CHECKS)


@dataclass(frozen=True)
class Diagnosis:
    """What was found. left_out: check -> what it would have needed. extra: results of a replay or a policy."""

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


def examine(root: str | Path, advance: Callable[[int], None] = lambda _: None) -> Diagnosis:
    """Run every check that the dataset has what it needs for; advance is called for each picture decoded.

    Raises UserError if `root` is no LeRobot v3 dataset that can be read.
    """
    recording = Recording.open(root)
    patient = Patient(recording, advance)
    findings, left_out, made = [], {}, []
    for check in CHECKS:
        lacking = [NEEDS[need] for need in check.needs if not patient.has(need)]
        if lacking:
            left_out[check.name] = " and ".join(lacking)
            continue
        made.append(check.name)
        findings += check.find(patient)
    return Diagnosis(recording, tuple(findings), left_out, tuple(made))
