"""A two-speed vision-language-action policy: a slow S2 thinks, a fast S1 acts.

Importing this package loads nothing heavy; import the room you need (`vla.tandem`, `vla.runtime`, ...).
"""

import os

os.environ.setdefault("MUJOCO_GL", "egl")  # before mujoco is imported: no window is needed anywhere
os.environ.setdefault("LP_NUM_THREADS", "1")  # software rasteriser threads only wait on each other in small images

__version__ = "0.1.0"
