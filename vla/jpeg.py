"""Pictures as JPEG."""

import cv2
import numpy as np
from numpy.typing import NDArray


def encode_jpeg(image: NDArray[np.uint8], quality: int, whole_colour: bool = False) -> bytes:
    """Of an RGB image (H, W, 3). whole_colour: colour is not subsampled (4:4:4), for what is trained on."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality]
    if whole_colour:
        settings += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), settings)
    assert done
    return encoded.tobytes()
