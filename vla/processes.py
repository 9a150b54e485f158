"""Processes of ours: how they begin, how they are told to end, and how they ask for real time."""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import operator
import os
import re
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from vla.errors import UserError

SPAWN = multiprocessing.get_context("spawn")
"""Forking a process that has threads (torch has, and so has OpenGL) copies locks that nobody will release."""
_PREFIX = "vla-"
"""Before the names of parts, among the processes of the system."""
_TERMINATIONS = (signal.SIGTERM, signal.SIGHUP)


def default_workers(device: str = "cpu") -> int:
    """One per core that this process may use; one in all where each would load a policy onto the same GPU."""
    return 1 if device.startswith("cuda") else len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Maker:
    """How another process makes an object: "module:function" or "module:Class.method", and plain arguments."""

    path: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def make(self, *given: Any) -> Any:
        """Call it. UserError if there is no such thing."""
        module, _, name = self.path.partition(":")
        try:
            found = operator.attrgetter(name)(importlib.import_module(module))
        except (ImportError, AttributeError, ValueError, TypeError) as error:
            raise UserError(f"{self.path!r} cannot be made: {error}; give it as module:function") from None
        return found(*given, **self.arguments)


class Part:
    """One process of a running system, which may be started again after it ended.

    main: called in the process with `arguments` (plain values and shared memory). It must end when `Ending` says so.
    """

    def __init__(self, name: str, main: Callable[..., None], *arguments: Any) -> None:
        self.name = name
        self._main, self._arguments = main, arguments
        self._process: Any = None

    def start(self) -> None:
        self._process = SPAWN.Process(
            target=self._main, args=(*self._arguments, os.getpid()), name=_PREFIX + self.name, daemon=True
        )
        self._process.start()

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.is_alive()

    @property
    def exitcode(self) -> int | None:
        return None if self._process is None else self._process.exitcode

    def kill(self) -> None:
        if self.alive:
            self._process.kill()
            self._process.join()

    def tell_to_end(self) -> None:
        """SIGTERM; does not wait."""
        if self.alive:
            self._process.terminate()

    def close(self, timeout: float = 10.0) -> None:
        """Tell it to end, and kill it after `timeout` (s); returns when it is gone. May be called twice."""
        if self.alive:
            self.tell_to_end()
            self._process.join(timeout)
            self.kill()


class Running(ABC):
    """Started and closed as a context; what fails to start is closed too."""

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Ending:
    """True once the process is told to end: by SIGTERM or by the death of its parent. What a terminal sends to all of
    its processes, Ctrl-C and the hang-up, is the parent's to handle.

    interrupt: end at those too.
    """

    def __init__(self, parent: int, interrupt: bool = False) -> None:
        self._parent = parent
        self._told = False
        signal.signal(signal.SIGTERM, self._note)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note if interrupt else signal.SIG_IGN)

    def __bool__(self) -> bool:
        return self._told or self.orphaned

    @property
    def orphaned(self) -> bool:
        return os.getppid() != self._parent

    def _note(self, *_: object) -> None:
        self._told = True


def sleep_until(moment: float) -> float:
    """Sleep until `moment` on `time.monotonic`; returns how late it became (s)."""
    while (left := moment - time.monotonic()) > 0:
        time.sleep(left)
    return -left


def anonymous_mb(pid: int | None = None) -> float | None:
    """Memory (MB) of a process (None: this one) but for pages of files, which the system can drop at any time.

    None if there is no such process, or the system does not say (it is not Linux).
    """
    try:
        status = Path(f"/proc/{pid or 'self'}/status").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"^RssAnon:\s*(\d+) kB", status, re.MULTILINE)
    return None if found is None else int(found[1]) * 1024e-6


def memory_of_parts() -> dict[str, float]:
    """Memory (MB) as `anonymous_mb` counts it: of this process, called main, and of each `Part` that it has running."""
    parts = (one for one in SPAWN.active_children() if one.name.startswith(_PREFIX))
    pids = {"main": os.getpid()} | {one.name.removeprefix(_PREFIX): one.pid for one in parts}
    return {name: held for name, pid in pids.items() if (held := anonymous_mb(pid)) is not None}


def settle() -> None:
    """All that was made up to now stays: the garbage collector need not look through it again, which takes 10 ms."""
    gc.collect()
    gc.freeze()


def real_time(priority: int, core: int | None) -> str:
    """Ask for SCHED_FIFO at `priority` (0: do not) and one core (-1: the last; None: any); what came of it, in words.

    For the thread that calls; threads that it starts later have no priority. Neither is needed to run.
    """
    told = []
    if priority:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
            told.append(f"SCHED_FIFO {priority}")
        except OSError as error:
            told.append(f"no SCHED_FIFO ({error.strerror})")
    if core is not None:
        core = max(os.sched_getaffinity(0)) if core < 0 else core
        try:
            os.sched_setaffinity(0, {core})
            told.append(f"core {core}")
        except OSError as error:
            told.append(f"not pinned to core {core} ({error.strerror})")
    return ", ".join(told) or "as the system schedules it"


@contextmanager
def interruption_noted() -> Iterator[Callable[[], bool]]:
    """Gives whether Ctrl-C, SIGTERM or a hang-up has come, raised as Ctrl-C at the end of the block. For loops on
    libraries that call back: Python drops what is raised within a callback of C code, and the interruption with it.
    """
    came: list[int] = []
    with _handled((signal.SIGINT, *_TERMINATIONS), came.append):
        yield lambda: bool(came)
    if came:
        raise KeyboardInterrupt


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM and a hang-up unwind the stack as Ctrl-C does, so that processes are ended in order.

    A hang-up comes twice where a shell dies with its terminal: after the first signal no hang-up is heard.
    """

    def interrupt(number: int) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        raise KeyboardInterrupt

    with _handled(_TERMINATIONS, interrupt):
        yield


@contextmanager
def _handled(numbers: Iterable[signal.Signals], handle: Callable[[int], None]) -> Iterator[None]:
    """But for hang-ups under nohup, which are ignored."""
    heard = [one for one in numbers if one != signal.SIGHUP or signal.getsignal(one) != signal.SIG_IGN]
    before = {number: signal.signal(number, lambda number, _: handle(number)) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
