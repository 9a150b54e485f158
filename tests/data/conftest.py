import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for tfds_writer.py, which writes the directories of the RLDS tests
