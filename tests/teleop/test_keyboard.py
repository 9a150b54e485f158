"""The terminal as a device: what its bytes mean, and a whole session in a real pseudo-terminal."""

import json
import os
import pty
import re
import select
import termios
import threading
import time

import numpy as np
import pytest
from terminal_rig import terminal

from vla.cli import main
from vla.teleop import terminal as terminal_module
from vla.teleop.keys import ESCAPE_S, HOLD_S, REPEAT_S, SLOWLY, KeyReader, Keys


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"wW g\r\x7f", ["w", "W", "space", "g", "enter", "backspace"]),
        (b"\x1b[H\x1b[1~\x1bOH", ["home"] * 3),
        (b"\x1b[A\x1b[3;5~w", ["w"]),  # arrows and others mean nothing
        (b"w\x1b[24;80Rw", ["w", "answer", "w"]),
        (b"\x1bw", ["escape", "w"]),  # Alt and a key: stops rather than moves
        (b"\x1b\x1b[24;80R", ["escape", "answer"]),
        ("ü".encode(), ["ü"]),
        (b"\xff\xfew", ["\ufffd", "\ufffd", "w"]),
    ],
)
def test_what_a_terminal_sends_is_read_as_keys(data, keys):
    assert KeyReader().feed(data, 0.0) == keys
    one_by_one = KeyReader()
    assert [key for byte in data for key in one_by_one.feed(bytes([byte]), 0.0)] == keys


def test_escape_alone_is_the_key_once_nothing_follows():
    reader = KeyReader()
    assert reader.feed(b"\x1b", 0.0) == [] and reader.feed(b"", ESCAPE_S / 2) == []
    assert reader.feed(b"", 1.1 * ESCAPE_S) == ["escape"]
    assert reader.feed(b"", 1.0) == []


def test_a_key_is_held_while_it_repeats_and_a_moment_longer():
    keys = Keys()
    for now in np.arange(0, 1, 0.04):
        keys.press("w", now)
        np.testing.assert_array_equal(keys.move(now + 0.03), [1, 0, 0, 0, 0, 0])
    assert keys.move(0.96 + HOLD_S / 2)[0] == 1 and not keys.move(0.96 + 1.01 * HOLD_S).any()


def test_keys_add_up_shift_is_slow_and_opposite_ones_cancel():
    keys = Keys()
    keys.press("W", 0.0)
    keys.press("l", 0.0)
    np.testing.assert_array_equal(keys.move(0.01), [SLOWLY, 0, 0, 0, 0, -1])
    keys.press("j", 0.02)
    assert keys.move(0.03)[5] == 0


def test_typing_an_instruction_lets_go_of_the_arm_and_moves_nothing():
    keys = Keys()
    keys.press("space", 0.0)
    assert keys.reading(0.0, 0.0).clutch
    assert keys.press("/", 0.0) == []
    for key in ("l", "i", "f", "f", "backspace", "t", "space", "i", "t"):
        assert keys.press(key, 0.0) == []
    assert keys.typing == "lift it" and not keys.move(0.0).any() and not keys.reading(0.0, 0.0).clutch
    assert keys.press("enter", 0.0) == [("instruct", "lift it")] and keys.typing is None


def test_escape_stops_also_while_an_instruction_is_typed():
    keys = Keys()
    keys.press("/", 0.0)
    keys.press("y", 0.0)
    assert keys.press("escape", 0.0) == [("stop", None)] and keys.typing is None


@pytest.mark.parametrize(("key", "wish"), [("t", "again"), ("z", "undo"), ("enter", "start")])
def test_a_key_that_is_held_asks_once_and_one_pressed_anew_asks_again(key, wish):
    keys = Keys()
    repeats = (0.0, 0.5, *np.arange(0.53, 2, 0.033))  # as terminals repeat
    assert [asked for now in repeats for asked in keys.press(key, now)] == [(wish, None)]
    assert keys.press(key, 2 + REPEAT_S) == [(wish, None)]


def test_a_held_space_never_takes_hold_again_and_letting_go_is_never_too_soon():
    keys = Keys()
    keys.press("space", 0.0)
    assert keys.grip.clutch
    held = []
    for now in (0.1, 0.5, *np.arange(0.53, 2, 0.033)):
        keys.press("space", now)
        held.append(keys.grip.clutch)
    assert not any(held)


def test_the_answer_of_a_terminal_that_is_far_away_is_not_typed_into_the_shell(monkeypatch):
    ours, theirs = pty.openpty()
    monkeypatch.setattr(terminal_module, "LEAVE_S", 60.0)
    with open(theirs, closefd=False) as keys, open(theirs, "w", closefd=False) as screen:
        monkeypatch.setattr("sys.stdin", keys)
        monkeypatch.setattr("sys.stdout", screen)
        far = terminal_module.Terminal()
        far.pressed()
        answer = threading.Timer(5 * terminal_module.POLL_S, os.write, (ours, b"\x1b[24;1R"))
        answer.start()
        far.close()
        answer.join()
        assert os.read(ours, 100) == b"\x1b[6n"
        time.sleep(terminal_module.POLL_S)
        assert not select.select([ours], [], [], 0)[0], "nothing is echoed, and nothing more is asked"
    os.close(ours)
    os.close(theirs)


def test_without_a_terminal_it_says_so(tmp_path, capsys, monkeypatch):
    with open("/dev/null") as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        assert main(["teleop", "--device", "keyboard", "--out", str(tmp_path / "data")]) == 2
    assert "standard input is none" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


SESSION = ("teleop", "--device", "keyboard", "--heartbeat", "5", "--operator", "me", "--out")


def record_a_take(tty):
    tty.await_text("The arm holds")
    tty.press(b"\r", "recording: ")
    tty.press(b" ", "You (drive|hold)")
    tty.hold(b"a", "You drive.*● [1-9]")
    tty.press(b"y", "kept as a success")
    tty.await_text("1 take ")


def test_a_session_at_the_keyboard_of_a_terminal(tmp_path):
    out = tmp_path / "data"
    with terminal(*SESSION, str(out)) as tty:
        record_a_take(tty)
        tty.press(b"\r", "recording: ")
        tty.await_text("● [0-9]\\.[3-9]")
        tty.press(b"\x1b", "Stopped: emergency stop")
        tty.press(b"\x1b[H", "the stop is released")
        tty.press(b"n", "kept as a failure")
        tty.await_text("2 takes")
        tty.press(b"/tidy up\r", "you judge")
        tty.press(b"\r", "recording: tidy up")
        tty.press(b"x", "discarded")
        tty.press(b"z", "newest take is gone")
        tty.press(b"\r", "recording: ")
        tty.await_text("● [0-9]\\.[3-9]")
        assert tty.settings()[3] & termios.ECHO == 0
        assert tty.end() == 0
        assert re.search(r"the open take \(\d+ steps\) was not ended: it is thrown away", tty.text())
        assert "1 takes added to" in tty.text()
        assert tty.settings() == tty.before, "the terminal is as it was"
    (take,) = json.loads((out / "meta" / "takes.json").read_text())
    assert take["success"] and take["device"] == "keyboard" and take["operator"] == "me"


def test_a_terminal_that_falls_silent_lets_go_of_the_arm_and_one_that_hangs_up_ends_the_session(tmp_path):
    with terminal(*SESSION, str(tmp_path / "data")) as tty:
        tty.await_text("The arm holds")
        tty.press(b" ", "You (drive|hold)")
        mark = tty.mark
        tty.answers = False  # a connection that stalls: nothing comes, and nothing says so
        tty.await_text("heartbeat was lost: the arm holds", since=mark)
        tty.answers = True
        tty.hang_up()
        assert tty.process.wait(300) == 0
