import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for dot_world.py, the little episodes of these tests
