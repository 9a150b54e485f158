"""Types of command-line arguments: each turns text into a value or refuses it in one line."""

import argparse
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        if most is not None and value > most:
            raise argparse.ArgumentTypeError(f"must be at most {most}, got {value}")
        return value

    return parse


port = whole(0, 65535)


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"must be zero or more seconds, got {text}")
    return value


def one_of(what: str, choices: Iterable[str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise argparse.ArgumentTypeError(f"unknown {what} {text!r}; there are: {', '.join(choices)}")
        return text

    return parse


def environment(text: str) -> str:
    """A name, or `module:NAME` of one's own, which whoever uses it looks up."""
    from vla.robots.gym_sim import ENVIRONMENTS

    return text if ":" in text else one_of("environment", ENVIRONMENTS)(text)


def perturbation(text: str) -> str:
    from vla.evaluation.perturbations import PERTURBATIONS

    return one_of("perturbation", PERTURBATIONS)(text)


def variant(text: str) -> str:
    from vla.runtime.variants import VARIANTS

    return one_of("variant", VARIANTS)(text)


def device(text: str) -> str:
    """As it is; UserError for a GPU that is not there, before any work."""
    kind, _, index = text.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not (kind == "cuda" and index.isdigit())):
        raise argparse.ArgumentTypeError(f"unknown device {text!r}; there are: auto, cpu, cuda, cuda:N")
    if kind == "cuda":
        from vla.training.precision import device_named

        device_named(text)
    return text


def existing_folder(text: str) -> Path:
    if not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"no folder {text}")
    return Path(text)


def existing_file(text: str) -> Path:
    if not os.path.isfile(text):
        raise argparse.ArgumentTypeError(f"no file {text}")
    return Path(text)


def existing(text: str) -> Path:
    if not os.path.exists(text):
        raise argparse.ArgumentTypeError(f"no file or folder {text}")
    return Path(text)


def weighted_folder(text: str) -> tuple[Path, float]:
    """DIR, or DIR:WEIGHT."""
    name, colon, weight = text.rpartition(":")
    if not colon or os.path.isdir(text):
        return existing_folder(text), 1.0
    value = _above_zero(weight)
    if value is None:
        raise argparse.ArgumentTypeError(f"{text!r}: a weight is a number above 0")
    return existing_folder(name), value


def zero_or_more(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not 0, or a number above it")
    return value


def gigabytes(text: str) -> int:
    """In bytes."""
    value = _above_zero(text)
    if value is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of gigabytes above 0")
    return int(value * 1e9)


def above_zero(text: str) -> float:
    value = _above_zero(text)
    if value is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _above_zero(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < math.inf else None
