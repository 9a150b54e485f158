"""Public benchmarks as environments: registered on import, one package or module each; see docs/benchmarks.md."""

from typing import NamedTuple


class Request(NamedTuple):
    """What can be asked for, as `SimulatedRobot.instructions` promises."""

    text: str
    family: str
    target: str = ""
    goal: str = ""
    split: str = "train"
