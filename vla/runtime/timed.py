"""How long a policy computes. That a simulator draws what is looked at only when it is looked at is not its time."""

import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

Images = Mapping[str, NDArray[np.uint8]]


def timed[T](work: Callable[[Images], T], images: Images) -> tuple[T, float]:
    """What `work` makes of the images, and how many milliseconds it took, less those until the images were there."""
    seen = _Seen(images)
    begin = time.perf_counter()
    result = work(seen)
    return result, 1e3 * (time.perf_counter() - begin - seen.waited_s)


class _Seen(Images):
    def __init__(self, images: Images) -> None:
        self._images = images
        self.waited_s = 0.0

    def __getitem__(self, camera: str) -> NDArray[np.uint8]:
        begin = time.perf_counter()
        image = self._images[camera]
        self.waited_s += time.perf_counter() - begin
        return image

    def __iter__(self) -> Iterator[str]:
        return iter(self._images)

    def __len__(self) -> int:
        return len(self._images)
