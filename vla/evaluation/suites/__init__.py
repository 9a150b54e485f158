"""Public benchmarks as environments: registered on import, one package or module each; see docs/benchmarks.md."""

import os

os.environ.setdefault("MUJOCO_GL", "egl")  # before mujoco is imported: no window is needed anywhere
os.environ.setdefault("LP_NUM_THREADS", "1")  # software rasteriser threads only wait on each other in small images
