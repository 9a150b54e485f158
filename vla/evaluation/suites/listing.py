"""Which public benchmarks can be run here, and what is missing for the others."""

import importlib.metadata
from dataclasses import asdict, dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from vla.errors import UserError
from vla.robots.gym_sim import ENVIRONMENTS, check_installed


@dataclass(frozen=True)
class Listing:
    """One benchmark. missing: a line that says what to do before it runs, None if it is ready."""

    env: str
    package: str
    version: str | None
    tasks: int
    missing: str | None

    @classmethod
    def of(cls, env: str) -> "Listing":
        entry = ENVIRONMENTS[env]
        package, missing = entry.package or "", None
        try:
            check_installed(entry)
            if package == "metaworld":
                from vla.evaluation.suites.metaworld.scene import check_mujoco

                check_mujoco()
            elif package == "hf-libero":
                from vla.evaluation.suites.libero import check_libero

                check_libero()
        except UserError as error:
            missing = str(error)
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = None
        return cls(env, package, version, len(entry.families), missing)


def list_suites() -> dict[str, Any]:
    """Print the table; returns {"suites": [...]}."""
    found = [Listing.of(name) for name, entry in ENVIRONMENTS.items() if entry.package]
    table = Table("--env", "package", "version", "tasks", "state", box=SIMPLE_HEAD, pad_edge=False)
    for one in found:
        table.add_row(one.env, one.package, one.version or "-", str(one.tasks), "missing" if one.missing else "ready")
    out = Console()
    out.print(table)
    for line in dict.fromkeys(one.missing for one in found if one.missing):
        out.print(line, soft_wrap=True, highlight=False, markup=False)
    return {"suites": [asdict(one) for one in found]}
