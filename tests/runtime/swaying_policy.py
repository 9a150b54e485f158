"""A policy that sways the tool from side to side, thinks nothing, and does wrong when a file tells it to."""

import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from vla import assets
from vla.spec import RobotSpec


class SwayingPolicy:
    """mood: a file that may say "nan" or "jump", "slow" (S1 takes 0.4 s, S2 2 s), "mute" (S2 never ends), "broken" (S2
    raises) or "wide" (latents of 16 MB).
    """

    spec = RobotSpec.load(assets.find("robot", "tabletop"))
    config = SimpleNamespace(replan_steps=4)

    def __init__(self, mood: str) -> None:
        self._mood = Path(mood)

    def think(self, images, instruction, stamp, instruction_id=0, words=False):
        while self._mood.read_text() == "mute":
            time.sleep(0.01)
        if self._mood.read_text() == "slow":
            time.sleep(2.0)
        if self._mood.read_text() == "broken":
            raise RuntimeError("it thinks no more")
        shape = (1024, 4096) if self._mood.read_text() == "wide" else (2, 3)
        return SimpleNamespace(
            latents=np.zeros(shape, np.float32), stamp=stamp, instruction_id=instruction_id, text=None
        )

    def act(self, images, state, thought, now, prefix):
        if self._mood.read_text() == "slow":
            time.sleep(0.4)
        times = now + np.arange(40) / self.spec.rate_hz
        chunk = np.zeros((40, 7), np.float32)
        # Towards the middle as well, so that chunks that are lost do not add up to a way out of the workspace.
        chunk[:, 1] = 0.004 * np.cos(2 * times) - 0.01 * state[self.spec.state_slices["ee_position"]][1]
        chunk[:, 6] = 1
        mood = self._mood.read_text()
        if mood == "nan":
            chunk[3, 2] = np.nan
        elif mood == "jump":
            chunk[1:, 0] = 0.3
        return chunk
