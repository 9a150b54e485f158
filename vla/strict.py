"""Strict mappings: YAML into frozen dataclasses and back, every mistake named by its path."""

import difflib
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from vla.errors import UserError


def read_yaml(path: Path, what: str) -> Any:
    """The content of a YAML file; UserError with file and line if it is missing or malformed."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{what}: {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{what}: cannot read {path}: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise UserError(f"{what}: {where} is not YAML: {getattr(error, 'problem', None) or error}") from None


def parse[T](cls: type[T], data: Any, what: str, path: str = "") -> T:
    """Build the dataclass `cls` from a mapping.

    `what` opens every message ("robot spec"), `path` is where `data` sits in the whole. Raises UserError for an
    unknown key, a missing one, a value of the wrong type, and for what `cls.__post_init__` refuses with ValueError.
    """
    if not isinstance(data, Mapping):
        raise UserError(f"{what}: {path or 'the file'} must be a mapping, got {_kind(data)}")
    known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
    for key in data:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
            raise UserError(f"{what}: unknown key {_join(path, key)}; {hint}")
    hints = get_type_hints(cls)
    values = {}
    for name, field in known.items():
        if name in data:
            values[name] = _value(hints[name], data[name], what, _join(path, name))
        elif field.default is MISSING and field.default_factory is MISSING:
            raise UserError(f"{what}: {_join(path, name)} is missing")
    try:
        return cls(**values)
    except ValueError as error:
        raise UserError(f"{what}: {_join(path, '') if path else ''}{error}") from None


def to_plain(value: Any) -> Any:
    """Dataclasses and tuples as dicts and lists, for YAML; None and empty lists that are defaults are left out."""
    if is_dataclass(value):
        plain = {field: to_plain(getattr(value, field.name)) for field in fields(value)}
        return {
            field.name: item
            for field, item in plain.items()
            if item not in (None, []) or item != to_plain(_default(field))
        }
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _value(hint: Any, data: Any, what: str, path: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if data is None and type(None) in args:
            return None
        return _value(next(arg for arg in args if arg is not type(None)), data, what, path)
    if origin is Literal:
        if data not in args or isinstance(data, bool):
            raise UserError(f"{what}: {path} must be one of {', '.join(map(repr, args))}; got {data!r}")
        return data
    if origin is tuple:
        return _items(args, data, what, path)
    if origin is Mapping:
        if not isinstance(data, Mapping):
            raise UserError(f"{what}: {path} must be a mapping, got {_kind(data)}")
        return {
            _value(args[0], key, what, f"{path}: key"): _value(args[1], item, what, _join(path, key))
            for key, item in data.items()
        }
    if isinstance(hint, type) and is_dataclass(hint):
        return parse(hint, data, what, path)
    if hint is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if hint is Path and isinstance(data, str):
        return Path(data)
    if not isinstance(data, hint) or (isinstance(data, bool) and hint is not bool):
        raise UserError(f"{what}: {path} must be {_NAMES.get(hint, hint.__name__)}, got {_kind(data)}")
    return data


def _items(args: tuple[Any, ...], data: Any, what: str, path: str) -> tuple[Any, ...]:
    if not isinstance(data, list | tuple):
        raise UserError(f"{what}: {path} must be a list, got {_kind(data)}")
    hints = args[:1] * len(data) if args[-1] is Ellipsis else args
    if len(hints) != len(data):
        raise UserError(f"{what}: {path} must have {len(hints)} entries, got {len(data)}")
    pairs = enumerate(zip(hints, data, strict=True))
    return tuple(_value(hint, item, what, f"{path}[{i}]") for i, (hint, item) in pairs)


_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path"}


def _kind(data: Any) -> str:
    return "nothing" if data is None else f"{_NAMES.get(type(data), 'a ' + type(data).__name__)} ({data!r:.60})"


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)
