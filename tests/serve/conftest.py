import sys
from pathlib import Path

HERE = Path(__file__).parent
# For served.py, which starts servers, and fault_run.py, in which they serve a robot.
sys.path[:0] = [str(HERE), str(HERE.parent / "runtime")]
