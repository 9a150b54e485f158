"""LeRobot's robots and teleoperators by their configuration, those of installed plugins included."""

from __future__ import annotations

import importlib
import inspect
import logging
import pkgutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import yaml

from vla.errors import UserError

Kind = Literal["robot", "teleoperator"]
_HOMES = {"robot": "lerobot.robots", "teleoperator": "lerobot.teleoperators"}
_BASES = {"robot": "RobotConfig", "teleoperator": "TeleoperatorConfig"}
_IN_A_FILE = {"robot": ("robot",), "teleoperator": ("teleop", "teleoperator")}
LOST = (ConnectionError, TimeoutError, OSError, RuntimeError)
"""What LeRobot's devices raise when they can be read no more."""


def make_device(kind: Kind, given: Sequence[str]) -> Any:
    """A device that is not connected yet. given: a YAML or JSON file as LeRobot's commands take it, then KEY=VALUE for
    what differs from it; or KEY=VALUE only, `type=so101_follower port=/dev/ttyACM0`.

    Raises UserError that names what is wrong with it, or the package that is missing.
    """
    try:
        draccus = importlib.import_module("draccus")
        home = importlib.import_module(_HOMES[kind])
        plugins = importlib.import_module("lerobot.utils.import_utils")
    except ModuleNotFoundError as error:
        raise UserError(f"LeRobot {kind}: Python package {error.name} is missing: pip install 'vla[data]'") from None
    settings = read_settings(kind, given)
    logging.getLogger("lerobot").setLevel(logging.ERROR)
    plugins.register_third_party_plugins()
    base = getattr(home, _BASES[kind])
    _import_all("lerobot.cameras")
    if settings["type"] not in base.get_known_choices():
        _import_all(_HOMES[kind])
    known = sorted(base.get_known_choices())
    if settings["type"] not in known:
        raise UserError(f"LeRobot {kind}: unknown type {settings['type']!r}; there are: {', '.join(known)}")
    try:
        return getattr(home, f"make_{kind}_from_config")(draccus.decode(base, settings))
    except Exception as error:  # draccus and every driver have their own
        raise UserError(f"LeRobot {kind} {settings['type']}: {error}") from None


def read_settings(kind: Kind, given: Sequence[str]) -> dict[str, Any]:
    """The settings as nested dictionaries, with a `type`."""
    settings: dict[str, Any] = {}
    for place, text in enumerate(given):
        name, equals, value = text.partition("=")
        if place == 0 and (not equals or Path(text).exists()):
            settings = _read_file(kind, Path(text))
        elif not equals:
            raise UserError(f"LeRobot {kind}: {text!r} is no KEY=VALUE")
        else:
            _put(settings, name.lstrip("-").split("."), _value(kind, name, value))
    if not isinstance(settings.get("type"), str):
        raise UserError(f"LeRobot {kind}: its configuration has no type, such as type=so101_follower")
    return settings


def scalar_names(features: Mapping[str, Any]) -> tuple[str, ...]:
    """The entries of a state or an action in LeRobot's order: those of its datasets' columns."""
    if {"dtype", "names"} <= features.keys():  # as some teleoperators write them
        return tuple(features["names"])
    return tuple(name for name, shape in features.items() if not isinstance(shape, tuple))


def connect(kind: Kind, device: Any) -> None:
    """Raises UserError if it cannot be connected, or is not calibrated: that asks questions, and is LeRobot's to do."""
    name = device.config.type
    asked = inspect.signature(device.connect).parameters
    quietly = {"calibrate": False} if "calibrate" in asked else {}  # what has nothing to calibrate may not know it
    try:
        device.connect(**quietly)
    except Exception as error:  # every driver has its own
        raise UserError(f"LeRobot {kind} {name}: cannot be connected: {error}") from None
    if device.is_calibrated is False:
        disconnect(device)
        what = "robot" if kind == "robot" else "teleop"
        raise UserError(
            f"LeRobot {kind} {name} is not calibrated: lerobot-calibrate --{what}.type={name} --{what}.id={device.id} "
            "and what else it needs"
        )


def disconnect(device: Any) -> None:
    """Whatever state it is in."""
    with suppress(*LOST):
        if device.is_connected:
            device.disconnect()


def _read_file(kind: Kind, path: Path) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"LeRobot {kind}: {path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise UserError(f"LeRobot {kind}: {path} is neither YAML nor JSON: {error}") from None
    if isinstance(settings, dict) and "type" not in settings:  # of a whole command, such as lerobot-record
        settings = next((settings[name] for name in _IN_A_FILE[kind] if name in settings), settings)
    if not isinstance(settings, dict):
        raise UserError(f"LeRobot {kind}: {path} holds no settings")
    return settings


def _value(kind: Kind, name: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"LeRobot {kind}: {name}: {text!r} cannot be read") from None


def _put(settings: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        settings = settings.setdefault(name, {})
        if not isinstance(settings, dict):
            raise UserError(f"{'.'.join(path)}: {name} has no settings of its own")
    settings[path[-1]] = value


def _import_all(package: str) -> None:
    """Configurations are known once their modules are imported; drivers that lack something stay unknown."""
    home = importlib.import_module(package)
    for module in pkgutil.iter_modules(home.__path__):
        if module.ispkg:
            with suppress(ImportError):
                importlib.import_module(f"{package}.{module.name}")
