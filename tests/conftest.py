"""Settings for every test process; set before torch and the tokenizers are imported."""

import os

# Workers of pytest-xdist share few cores: one thread each is faster, and results do not depend on the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Tests need no network; what would reach for the hub fails at once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# A test may import mujoco before the package that chooses how to render.
os.environ.setdefault("MUJOCO_GL", "egl")
