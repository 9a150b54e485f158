"""What a body needs of whatever carries ROS 2 messages: DDS without ROS (`vla.robots.dds_bus`), or rclpy."""

from __future__ import annotations

import ctypes
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal, Protocol

from vla.ros_types import MessageTypes

Qos = Literal["sensor", "reliable", "transient_local"]
Handler = Callable[[Any, int], None]

DEPTH = {"sensor": 10, "reliable": 10, "transient_local": 1}
"""Messages kept for readers that are slow or late."""
KEPT_BYTES = 256 * 2**20
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>


class Publisher(Protocol):
    """Writes messages of one type on one topic; reliable always, since ROS's default subscribers ask for it."""

    topic: str
    type: str

    def publish(self, message: Any) -> None: ...

    @property
    def readers(self) -> int:
        """Subscribers that get what is published."""
        ...


class MessageBus(ABC):
    """Messages are handed over in threads of its own, holding `changed`.

    domain: of DDS. faults: topic -> why the last message on it could not be read.
    """

    def __init__(self, types: MessageTypes, domain: int) -> None:
        self.types, self.domain = types, domain
        self.changed = threading.Condition()
        self.faults: dict[str, str] = {}
        self._broken: Exception | None = None
        _keep_freed_memory()

    @abstractmethod
    def subscribe(self, topic: str, ros_type: str, qos: Qos, handler: Handler, depth: int | None = None) -> None:
        """Have `handler(message, received)` called for every message; received: ns since 1970. Before `start`."""

    @abstractmethod
    def advertise(self, topic: str, ros_type: str, qos: Qos, depth: int | None = None) -> Publisher: ...

    @abstractmethod
    def start(self) -> None:
        """From now on messages are handed over."""

    @abstractmethod
    def close(self) -> None:
        """Leave no publisher and no subscriber behind."""

    @abstractmethod
    def complaints(self) -> list[str]:
        """What keeps our endpoints from those of others on the same topics: QoS, types, and messages that are none."""

    def now(self) -> int:
        """The time (ns) for a robot that has no clock of its own."""
        return time.time_ns()

    def wait(self, ready: Callable[[], bool], timeout: float) -> bool:
        """Until `ready()` says so, which is asked after every message; False after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        with self.changed:
            while True:
                if self._broken is not None:
                    raise RuntimeError("the thread that reads DDS has died") from self._broken
                if ready():
                    return True
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self.changed.wait(min(left, 0.2))

    def wake(self) -> None:
        """Have whoever waits look again."""
        with self.changed:
            self.changed.notify_all()

    def hand_over(self, topic: str, ros_type: str, cdr: bytes, handler: Handler, received: int) -> None:
        """Read one message and give it to its handler; the caller holds `changed`."""
        try:
            message = self.types.from_cdr(cdr, ros_type)
        except ValueError as error:
            self.faults[topic] = str(error)
            return
        handler(message, received)


def _keep_freed_memory() -> None:
    """Have the C library keep what is freed for what is allocated next.

    glibc otherwise gives the memory of each large message back to the kernel and gets it anew, empty, page by page,
    which takes several times as long as to write the message.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES // 8)
