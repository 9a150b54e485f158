"""What the page is told of the session, as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla.data.live import LiveStatus
from vla.data.spool import Take
from vla.s2.places import places_in, plain_words
from vla.teleop.moment import Moment


def state_message(moment: Moment, status: LiveStatus, about: Mapping[str, Any]) -> str:
    """about: what the server adds, of this page."""
    state = moment.observation.state
    pilot = moment.pilot
    return json.dumps(
        {
            "t": "state",
            **about,
            "step": moment.step,
            "captured": moment.captured,
            "driver": moment.driver,
            "engaged": moment.engaged,
            "trips": moment.trips,
            "why": moment.why,
            "stopped": moment.stopped,
            "at_rest": moment.at_rest,
            "rules": list(moment.rules),
            "state": [round(float(value), 4) for value in state],
            "gripper": round(moment.gripper, 3),
            "tool": [round(float(value), 4) for value in moment.tool],
            "rate_hz": round(moment.rate_hz, 2),
            "error_ms": round(moment.error_ms, 2),
            "late": moment.late,
            "instruction": moment.instruction,
            "policy": {
                "on": moment.policy_on,
                "words": plain_words(pilot.words),
                "places": places_in(pilot.words),
                "age_s": None if pilot.age_s is None else round(pilot.age_s, 2),
                "s1_ms": round(pilot.s1_ms, 1),
                "s2_ms": round(pilot.s2_ms, 1),
            },
            "success": moment.success,
            "seed": moment.seed,
            "notes": [{"number": note.number, "text": note.text, "bad": note.bad} for note in moment.notes],
            "recorder": {
                "recording": status.recording,
                "frames": status.frames,
                "waiting": status.waiting,
                "dropped": status.dropped,
                "free": status.free,
                "trouble": status.trouble,
            },
        }
    )


def takes_message(status: LiveStatus, thumbnail: Callable[[Take, NDArray[np.uint8]], str]) -> str:
    """The takes of this session, newest first. thumbnail: gives a take's picture as a data URL."""
    takes = [
        {
            "number": kept.take.number,
            "task": kept.take.task,
            "success": kept.take.success,
            "frames": kept.take.frames,
            "dropped": kept.take.dropped,
            "corrected": kept.take.interventions,
            "picture": thumbnail(kept.take, kept.thumbnail),
        }
        for kept in reversed(status.takes)
    ]
    return json.dumps({"t": "takes", "takes": takes})
