"""A server beside the caller, in a thread and an event loop of its own: for measurements and tests in one process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

Serve = Callable[[Callable[[int], None], asyncio.Event], Coroutine[Any, Any, None]]
"""Given whom to tell the port and what ends it, as `vla.serve.server.PolicyServer.serve`."""


@contextmanager
def beside(serve: Serve) -> Iterator[str]:
    """The url of the server, which ends with the context. Raises RuntimeError if it ends before it is ready."""
    loop, stop, ports, settled = asyncio.new_event_loop(), asyncio.Event(), [0], threading.Event()

    def ready(port: int) -> None:
        ports[0] = port
        settled.set()

    def run() -> None:
        try:
            loop.run_until_complete(serve(ready, stop))
        finally:
            settled.set()

    thread = threading.Thread(target=run)
    thread.start()
    settled.wait()
    try:
        if not ports[0]:
            raise RuntimeError("the server ended before it was ready")
        yield f"ws://127.0.0.1:{ports[0]}"
    finally:
        if thread.is_alive():
            loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
