"""Pictures of an episode on one sheet, each with its time: how a model that reads single images sees all of it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

WIDTH, MARK, GAP = 224, 22, 4
"""Pixels: least width of a picture, height of the line above it with its time, and between pictures."""


def contact_sheet(pictures: Sequence[NDArray[np.uint8]], times: Sequence[float]) -> UInt8[np.ndarray, "H W 3"]:
    """RGB pictures of one size, row by row, under their times in seconds ("1.4 s")."""
    height, width = pictures[0].shape[:2]
    scale = max(1.0, WIDTH / width)
    height, width = round(height * scale), round(width * scale)
    columns = int(np.ceil(np.sqrt(len(pictures))))
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * (height + MARK + GAP) + GAP, columns * (width + GAP) + GAP, 3), 255, np.uint8)
    for index, (picture, time) in enumerate(zip(pictures, times, strict=True)):
        top = GAP + index // columns * (height + MARK + GAP)
        left = GAP + index % columns * (width + GAP)
        place = sheet[top + MARK : top + MARK + height, left : left + width]
        place[:] = cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
        at = (left + 2, top + MARK - 6)
        cv2.putText(sheet, f"{time:.1f} s", at, cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    return sheet
