"""Build hook: the wheel carries the data of `policies/` and `datasets/` in `vla/shipped/`, where `vla.assets` looks.

A hook and not a `force-include` table, because the table also copies into editable installs, where the copy goes stale.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Data only: a folder under policies/ that is a Python distribution ships on its own.
CODE = {"lerobot_policy_tandem", "__pycache__"}


class ShippedData(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        for folder in sorted(Path(self.root, "policies").iterdir()):
            if folder.is_dir() and folder.name not in CODE:
                build_data["force_include"][str(folder)] = f"vla/shipped/policies/{folder.name}"
        build_data["force_include"][str(Path(self.root, "datasets"))] = "vla/shipped/datasets"
