"""The tandem policy for LeRobot, which imports every plugin it finds: that registers policy and environments."""

from lerobot_policy_tandem.configuration_tandem import TandemConfig
from lerobot_policy_tandem.environments import TabletopEnv, TabletopSuiteEnv

__version__ = "0.1.0"

__all__ = ["TabletopEnv", "TabletopSuiteEnv", "TandemConfig"]
