"""Where shipped data lies, and whether results can be written.

Shipped data (checkpoints, recipes, robot specs, cards, mixtures) is outside the packages: the wheel carries it as
`vla/shipped/`, a checkout has it at its root. Nothing else in the project knows these places.
"""

import difflib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from vla.errors import UserError

Kind = Literal["policy", "recipe", "contest", "robot", "card", "mixture"]

ROOTS = (Path(__file__).parent / "shipped", Path(__file__).parent.parent)
"""The installed copy first, then the checkout."""

_PLACES: dict[str, tuple[str, str]] = {
    "policy": ("policies", "*/tandem.json"),
    "recipe": ("policies/recipes", "*.yaml"),
    "contest": ("policies/contests", "*.yaml"),
    "robot": ("policies/robots", "*.yaml"),
    "card": ("datasets", "*.yaml"),
    "mixture": ("datasets/mixtures", "*.yaml"),
}


def find(kind: Kind, name: str | Path) -> Path:
    """The file or folder that `name` means.

    A policy is a shipped name, a folder with a `tandem.json`, or a hub id (`owner/name`, fetched). The others are a
    shipped name or the path of a file; for a robot also a dataset, its training cache or a checkpoint, which carry its
    spec. Files beside shipped ones, such as a robot's MJCF, are found by their full name. Raises UserError with what
    there is.
    """
    text = str(name)
    for folder in _folders(kind):
        for candidate in (folder / text, folder / f"{text}.yaml"):
            if "/" not in text and _is_one(kind, candidate):
                return candidate
    path = Path(os.path.expanduser(text))
    for candidate in (path, *(path / folder / "robot_spec.yaml" for folder in ("meta", "", "cache"))):
        if _is_one(kind, candidate) and (candidate == path or kind == "robot"):
            return candidate
    if kind == "policy" and not os.path.exists(path) and re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", text):
        return _from_hub(text)
    raise UserError(_not_found(kind, text, path))


def names(kind: Kind) -> list[str]:
    """The names of the shipped things of that kind, sorted."""
    pattern = _PLACES[kind][1]
    found = (hit for folder in _folders(kind) for hit in folder.glob(pattern))
    return sorted({hit.parent.name if kind == "policy" else hit.stem for hit in found})


def is_shipped(kind: Kind, path: Path) -> bool:
    """Whether it lies where shipped things of that kind do."""
    return path.resolve().parent in {folder.resolve() for folder in _folders(kind)}


def check_folder_writable(folder: Path, what: str = "output folder") -> None:
    """UserError unless `folder` can be made and written to; leaves the disk as it was. Call before long work."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    made: list[Path] = []
    try:
        for parent in reversed(missing):
            parent.mkdir(exist_ok=True)
            made.append(parent)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{what}: cannot write to {folder}: {error.strerror or error}; choose another") from None
    finally:
        for parent in reversed(made):
            parent.rmdir()


def check_file_writable(file: Path, what: str = "output file") -> None:
    """UserError unless `file` can be written; leaves the disk as it was. Call before long work."""
    if file.is_dir():
        raise UserError(f"{what}: {file} is a folder; give a file name")
    if file.exists() and not os.access(file, os.W_OK):
        raise UserError(f"{what}: {file} is write-protected; choose another")
    if not is_special(file):
        check_folder_writable(file.resolve().parent, what)


def write_file(file: Path, content: str | bytes, what: str = "output file") -> None:
    """All of it or nothing, in a folder that is made for it; a pipe or a device is written to, and a link stays one.

    Raises UserError if it cannot be written, or the disk is full.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        if is_special(file):
            file.write_bytes(data)
        else:
            _put_in_place(file.resolve(), data)
    except OSError as error:
        raise UserError(f"{what}: cannot write to {file}: {error.strerror or error}") from None


def is_special(file: Path) -> bool:
    """A pipe or a device, also one that a link leads to."""
    return file.exists() and not file.is_file()


def _put_in_place(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def _folders(kind: Kind) -> Iterator[Path]:
    for root in ROOTS:
        yield root / _PLACES[kind][0]


def _is_one(kind: Kind, path: Path) -> bool:
    """False for what can be no path: of the functions, those of `os.path` raise nothing."""
    return os.path.isfile(path / "tandem.json" if kind == "policy" else path)


def _not_found(kind: Kind, text: str, path: Path) -> str:
    if kind == "policy" and text.startswith(("ws://", "wss://")):
        return f"policy {text}: a server will not do here, this needs the policy's files: give a name or a folder"
    if kind == "policy" and os.path.isdir(path):
        return f"{kind} {text!r}: the folder has no tandem.json, so it holds no checkpoint"
    if kind == "robot" and _is_one("policy", path):
        robots = sorted(str(file.parent) for file in path.glob("robots/*/robot_spec.yaml"))
        hint = f"; give one of its robots: {', '.join(robots)}" if robots else ""
        return f"checkpoint {text}: no robot_spec.yaml{hint}"
    if kind == "robot" and os.path.isdir(path):
        return f"dataset {text}: no meta/robot_spec.yaml; draft one with vla spec init {text}"
    shipped = names(kind)
    near = difflib.get_close_matches(text, shipped, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    listed = ", ".join(shipped) or "none"
    what = "folder" if kind == "policy" else "file"
    return f"unknown {kind} {text!r}: no such {what}, and shipped are: {listed}{hint}"


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.yaml", "*.safetensors", "*.txt", "*.md"]))
    except Exception as error:  # the hub raises a dozen unrelated types: offline, unknown, gated, refused
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"unknown policy {name!r}: no such folder, and not to be had from the hub: {reason}") from None
