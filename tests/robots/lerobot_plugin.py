"""The plugin of these tests, installed as LeRobot finds it, and the spec of its robot."""

import sys
from dataclasses import replace
from pathlib import Path

from vla import assets
from vla.spec import ActionSpec, Field, RobotSpec

PLUGINS = Path(__file__).parent / "plugins"
_TABLETOP = RobotSpec.load(assets.find("robot", "tabletop"))
_FIELDS = (Field("joint_position", 7, "deg"), Field("gripper", 1, "%"))
SPEC = replace(
    _TABLETOP,
    name="tablearm",
    state=_FIELDS,
    action=ActionSpec("joint_position", _FIELDS, "1 = open, 0 = closed"),
    ros=(),
)


def install(folder: Path) -> str:
    """Distributions for the modules in `plugins`; returns what to put on PYTHONPATH."""
    for module in PLUGINS.glob("lerobot_*.py"):
        info = folder / f"{module.stem}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module.stem}\nVersion: 1.0\n")
        (folder / module.name).write_text(module.read_text())
    sys.path.insert(0, str(folder))
    return str(folder)
