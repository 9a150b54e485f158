import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the rigs
sys.path.insert(0, str(Path(__file__).parents[1] / "robots"))  # for robots in other processes


@pytest.fixture(scope="session")
def lerobot_plugins(tmp_path_factory) -> str:
    """Plugins for LeRobot are installed; what to put on PYTHONPATH for another process to have them."""
    from lerobot_plugin import install

    return install(tmp_path_factory.mktemp("site"))
