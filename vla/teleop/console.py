"""A session in the terminal: a local device is polled, and one line says how things stand."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Event
from types import FrameType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from vla.data.live import LiveRecorder, LiveStatus
from vla.s2.places import plain_words
from vla.teleop.devices import LocalDevice
from vla.teleop.moment import Moment
from vla.teleop.session import Session

SHOW_S = 0.1
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
OUTPUTS = (1, 2)


def drive(session: Session, recorder: LiveRecorder, device: LocalDevice, rate_hz: float) -> None:
    """Until Ctrl-C, SIGTERM, the terminal's end, the device's wish or the session's end; its error is raised."""
    with ending_signals() as (ending, hang_up), _screen() as show:
        told, shown = 0, 0.0
        while not ending.is_set() and session.alive:
            moment = session.moment()
            try:
                wishes = device.poll(moment)
            except EOFError:
                hang_up()
                break
            for what, value in wishes:
                if what == "end":
                    ending.set()
                else:
                    session.ask(what, value)
            status, now = recorder.status(), time.monotonic()
            new = [note for note in moment.notes if note.number > told]
            if new or now - shown >= SHOW_S:
                told, shown = max([told, *(note.number for note in new)]), now
                notes = [Text(note.text, "bold red" if note.bad else "") for note in new]
                try:
                    show(notes, status_line(moment, status, rate_hz, device.prompt, device.trouble))
                except OSError:
                    hang_up()
    if session.error is not None:
        raise session.error


def status_line(
    moment: Moment, status: LiveStatus, rate_hz: float, prompt: str | None = None, trouble: str = ""
) -> Text:
    """How things stand, most urgent first: what is cut off on a narrow terminal matters least."""
    if prompt is not None:
        return Text.assemble(("Instruction: ", "bold"), prompt, ("▏", "blink"), ("   Enter takes it", "dim"))
    parts = [_who(moment), _tape(status, moment, rate_hz)]
    slow = moment.rate_hz < 0.9 * rate_hz
    parts.append(Text(f"{moment.rate_hz:.1f} of {rate_hz:g} Hz", "red" if slow else ""))
    if moment.rules:
        parts.append(Text(f"limited: {', '.join(moment.rules)}", "yellow"))
    parts += [Text(told, "bold red") for told in (trouble, status.trouble) if told]
    if moment.success:
        parts.append(Text("the scene says: done", "green"))
    if moment.policy_on:
        pilot = moment.pilot
        age = "none yet" if pilot.age_s is None else f"{pilot.age_s:.2f} s old"
        parts.append(Text(f"S2 {age}{': ' if pilot.words else ''}{plain_words(pilot.words)}"))
    parts.append(Text(moment.instruction or "no instruction: / to give one", "dim"))
    line = Text("   ", no_wrap=True, overflow="ellipsis").join(parts)
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _who(moment: Moment) -> Text:
    if moment.stopped is not None:
        return Text(f"Stopped: {moment.stopped}", "bold red")
    if moment.driver == "person":
        return Text("You correct" if moment.policy_on else "You drive", "bold green")
    if moment.driver == "policy":
        return Text("The policy drives", "bold blue")
    return Text("You hold the arm" if moment.engaged else "The arm holds", "bold")


def _tape(status: LiveStatus, moment: Moment, rate_hz: float) -> Text:
    if status.recording:
        dropped = f", {status.dropped} dropped" if status.dropped else ""
        return Text(f"● {status.frames / rate_hz:.1f} s{dropped}", "red")
    return Text(f"{len(status.takes)} take{'' if len(status.takes) == 1 else 's'}")


@contextmanager
def _screen() -> Iterator[Callable[[list[Text], Text], None]]:
    """Shows notes, and below them a line that is redrawn; on anything but a terminal, notes only."""
    console = Console(highlight=False)
    redrawn: AbstractContextManager[Live | None] = nullcontext()
    if console.is_terminal:
        redrawn = Live(console=console, auto_refresh=False)
    with redrawn as live:

        def show(notes: list[Text], line: Text) -> None:
            for note in notes:
                console.print(note, soft_wrap=live is None)
            if live is not None:
                live.update(line, refresh=True)

        yield show


@contextmanager
def ending_signals() -> Iterator[tuple[Event, Callable[[], None]]]:
    """Set by the signals that end a session, and when the terminal hangs up; handlers before it are put back.

    A hang-up comes twice where a shell dies with its terminal: after the first, no other is heard.
    """
    event = Event()
    shown = [output for output in OUTPUTS if os.isatty(output)]

    def hang_up() -> None:
        """Nobody reads what is said from now on: the takes are written all the same."""
        event.set()
        before[signal.SIGHUP] = signal.SIG_IGN
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        nothing = os.open(os.devnull, os.O_WRONLY)
        for output in shown:
            os.dup2(nothing, output)

    def end(number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            hang_up()
        event.set()

    before: dict[signal.Signals, Any] = {number: signal.signal(number, end) for number in SIGNALS}
    try:
        yield event, hang_up
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
