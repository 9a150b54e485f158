"""`vla describe`: ask S2 about a picture."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vla.errors import UserError
from vla.policies import load_here

MAX_WORDS = 96
"""Longest answer in tokens: a caption that names everything on a full table fits."""


def describe(policy: str, image: Path, question: str, loaded: Any | None = None, device: str = "cpu") -> str:
    """S2's answer, with its place tokens. `loaded` is used instead of loading `policy`.

    Raises UserError if the policy is unknown or the image cannot be read.
    """
    import torch

    tandem: Any = loaded if loaded is not None else load_here(policy, device=device)
    camera = tandem.spec.camera(tandem.s2.config.cameras[0])
    pixels = read_image(image, camera.height, camera.width)
    # An S2 with several cameras is asked about the one picture there is, seen by all of them.
    views = np.stack([pixels] * len(tandem.s2.config.cameras))[None]
    with torch.inference_mode():
        return tandem.s2.speak(torch.from_numpy(views), [question], max_new_tokens=MAX_WORDS)[0]


def read_image(path: Path, height: int, width: int) -> NDArray[np.uint8]:
    """A picture file as (height, width, 3) uint8 RGB, squeezed to that size; UserError if it is not one."""
    try:
        encoded = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise UserError(f"image: cannot read {path}: {error.strerror or error}") from None
    bgr = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if encoded.size else None
    if bgr is None:
        raise UserError(f"image: {path} is no picture that OpenCV can read; give a PNG or JPEG")
    return np.ascontiguousarray(cv2.resize(bgr, (width, height), interpolation=cv2.INTER_AREA)[..., ::-1], np.uint8)
