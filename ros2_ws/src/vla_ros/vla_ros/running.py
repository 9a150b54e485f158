"""How a node of ours lives: spun in threads beside its work, ended by SIGINT and SIGTERM while it can still speak."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import rclpy
from rclpy.action.server import RCLError
from rclpy.executors import MultiThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from vla.errors import UserError

THREADS = 4
"""Messages, lifecycle and services, an action's goal, and its cancelling."""


def run(make: Callable[[], Any], work: Callable[[Any, threading.Event], None] | None = None) -> NoReturn:
    """Make a node, spin it, and do `work(node, ended)` in this thread until a signal sets `ended`.

    rclpy's own signal handlers would take the context away, and with it the means to bring an arm to rest. A node has
    `close`, called while it is still spun. Ends the process, whatever a thread may still be loading.
    """
    code = _run(make, work)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run(make: Callable[[], Any], work: Callable[[Any, threading.Event], None] | None) -> int:
    ended = threading.Event()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        node = make()
    except UserError as error:
        print(f"vla: {error}", file=sys.stderr)
        rclpy.shutdown()
        return 2
    executor = MultiThreadedExecutor(THREADS)
    executor.add_node(node)
    faults: list[Exception] = []
    over = threading.Event()
    spinning = threading.Thread(target=_spin, args=(executor, ended, over, faults), name="rclpy", daemon=True)
    spinning.start()
    code = 0
    try:
        if work is not None:
            work(node, ended)
        ended.wait()
    except UserError as error:
        print(f"vla: {error}", file=sys.stderr)
        code = 2
    finally:
        node.close()
        over.set()
        spinning.join()
        executor.shutdown(timeout_sec=5)
        node.destroy_node()
        rclpy.shutdown()
    for fault in faults:
        traceback.print_exception(fault)
    return 1 if faults else code


def _spin(
    executor: MultiThreadedExecutor, ended: threading.Event, over: threading.Event, faults: list[Exception]
) -> None:
    while not over.is_set():
        try:
            executor.spin_once(timeout_sec=0.2)
        except RCLError as refused:  # such as a transition that there is none: the fault of whoever asked, not ours
            print(f"vla: {refused}", file=sys.stderr, flush=True)
        except Exception as fault:  # of a callback: the node cannot be trusted any more
            faults.append(fault)
            ended.set()
