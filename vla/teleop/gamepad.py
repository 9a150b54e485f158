"""A gamepad through SDL, which knows where each kind has its sticks and buttons."""

from __future__ import annotations

import importlib
import os
from typing import Any

import numpy as np

from vla.errors import UserError
from vla.teleop.devices import Grip, Wish
from vla.teleop.moment import Moment
from vla.teleop.plugged import DeviceGone, Look

DEAD_ZONE = 0.12
SLOWLY = 0.3
FULL = 32767
WISHES = {"start": "start", "back": "release", "b": "stop", "x": "discard"}
PAD_WISHES = {"dpad_up": "success", "dpad_down": "fail", "dpad_left": "undo", "dpad_right": "again"}
_ENVIRONMENT = {
    "SDL_VIDEODRIVER": "dummy",  # events need a video system, not a display
    "SDL_NO_SIGNAL_HANDLERS": "1",
    "SDL_JOYSTICK_ALLOW_BACKGROUND_EVENTS": "1",
    "PYGAME_HIDE_SUPPORT_PROMPT": "1",
}


class Gamepad:
    """The first one there is. Raises UserError without pygame."""

    name = "gamepad"
    about = (
        "Right shoulder take hold, let go    left stick forward, sideways    right stick up, turn    "
        "left shoulder: right stick tilts, rolls    left trigger slowly\n"
        "A gripper    B stop    Back release the stop    Start start    cross: up success, down failure, "
        "left undo, right again    X discard    Y policy"
    )

    def __init__(self) -> None:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            self._pygame: Any = importlib.import_module("pygame")
            self._controllers: Any = importlib.import_module("pygame._sdl2.controller")
        except ModuleNotFoundError:
            raise UserError("teleop: Python package pygame is missing: pip install 'vla[gamepad]'") from None
        self._pygame.display.init()
        self._controllers.init()
        self._pad: Any = None
        self._down: set[str] = set()
        self._slots = {
            name.removeprefix(f"CONTROLLER_{kind}_").lower(): getattr(self._pygame, name)
            for kind in ("BUTTON", "AXIS")
            for name in dir(self._pygame)
            if name.startswith(f"CONTROLLER_{kind}_")
        }

    def open(self) -> None:
        self._pygame.event.pump()
        for index in range(self._controllers.get_count()):
            if self._controllers.is_controller(index):
                self._pad = self._controllers.Controller(index)
                self._down = set()
                return
        raise DeviceGone

    def look(self, grip: Grip, moment: Moment) -> Look:
        self._pygame.event.pump()
        if self._pad is None or not self._pad.attached():
            self._pad = None
            raise DeviceGone
        pressed = self._pressed()
        if "rightshoulder" in pressed:
            grip.clutch = not grip.clutch
        if "a" in pressed:
            grip.open = not grip.open
        wishes: list[Wish] = [(wish, None) for name, wish in (WISHES | PAD_WISHES).items() if name in pressed]
        if "y" in pressed:
            wishes.append(("policy", not moment.policy_on))
        if "b" in pressed:
            grip.clutch = False
        return Look(self._move(), wishes=tuple(wishes))

    def close(self) -> None:
        self._pad = None
        self._controllers.quit()
        self._pygame.display.quit()

    def _move(self) -> np.ndarray:
        up, turn = self._stick("righty"), self._stick("rightx")
        tilting = "leftshoulder" in self._down
        move = np.array([self._stick("lefty"), self._stick("leftx"), 0, 0, 0, 0])
        if tilting:
            move[4], move[3] = up, -turn
        else:
            move[2], move[5] = up, turn
        return move * (SLOWLY if self._axis("triggerleft") > 0.5 else 1.0)

    def _stick(self, name: str) -> float:
        """Forward and left count up, where a gamepad counts down."""
        value = self._axis(name)
        return 0.0 if abs(value) < DEAD_ZONE else float(np.clip(-value, -1, 1))

    def _axis(self, name: str) -> float:
        return float(self._pad.get_axis(self._slots[name])) / FULL

    def _pressed(self) -> set[str]:
        """Buttons that went down since the last look."""
        names = ("rightshoulder", "leftshoulder", "a", "y", *WISHES, *PAD_WISHES)
        down = {name for name in names if self._pad.get_button(self._slots[name])}
        pressed, self._down = down - self._down, down
        return pressed
