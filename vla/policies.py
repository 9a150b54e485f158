"""Which policy a name means: one that is loaded here, or one on a server; either has both halves, think and act."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vla import assets
from vla.errors import UserError
from vla.processes import Maker

if TYPE_CHECKING:
    from vla.runtime.pilot import Policy
    from vla.serve.client import RemotePolicy
    from vla.spec import RobotSpec
    from vla.tandem import TandemPolicy

API_KEY = "VLA_API_KEY"
"""The environment variable with the key that a server may want."""
PATIENCE_S = 60.0
"""How long an answer is waited for where the world waits too."""
REAL_TIME_PATIENCE_S = 5.0
"""And where it does not: shorter than a part may go without a sign of life (`RunSettings.hung`)."""


def is_remote(name: str) -> bool:
    """Whether it is the address of a server: `ws://host:port`, or `wss://` through TLS."""
    return name.startswith(("ws://", "wss://"))


def check_policy(name: str) -> None:
    """UserError if there is no such policy, before any work: no weights are loaded, a server is asked who it is."""
    if is_remote(name):
        connect(name).close()
    elif not is_peer(name):
        assets.find("policy", name)


def is_peer(name: str) -> bool:
    """Whether it is a folder with a checkpoint of LeRobot's, which can be driven, but not trained or served."""
    folder = Path(os.path.expanduser(name))
    files = ("config.json", "model.safetensors")
    return all(os.path.isfile(folder / file) for file in files) and not (folder / "tandem.json").is_file()


def weights_of(name: str) -> str:
    """A digest of a policy's weights, wherever they lie: one that was trained on in its place is another.

    Raises UserError as `check_policy` does.
    """
    if is_remote(name):
        with connect(name) as remote:
            return str(remote.metadata.get("weights", ""))[:16]
    folder = Path(name).expanduser() if is_peer(name) else assets.find("policy", name)
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def device_of(name: str, device: str) -> str:
    """Where that policy computes: what `device` is on this machine, or on a server "its server's"."""
    if is_remote(name):
        return "its server's"
    from vla.training.precision import device_named

    return device_named(device)


def load_policy(name: str, timeout: float = PATIENCE_S, robot: RobotSpec | None = None, device: str = "cpu") -> Policy:
    """A shipped name, a folder or a hub id is loaded in this process; at the address of a server that one is asked.

    A folder may also be a checkpoint of LeRobot's. timeout: seconds to wait for a server's answer. robot: which it is
    to drive; of those it knows, if several. device: as `device_named` takes it; a server has its own. Raises UserError
    if there is no such policy, its files are damaged, or it is of other robots, and as `device_named` and
    `RemotePolicy` do.
    """
    if not is_remote(name) and not is_peer(name):
        return load_here(name, robot, device)
    policy = cast("Policy", connect(name, timeout)) if is_remote(name) else _load_peer(name, device)
    if robot is not None:
        policy.spec.check_robot(robot)
    return policy


def _load_peer(name: str, device: str) -> Policy:
    if importlib.util.find_spec("lerobot") is None:
        raise UserError(f"policy {name} is LeRobot's, and Python package lerobot is missing: pip install 'vla[data]'")
    from vla.peers.policy import PeerPolicy
    from vla.training.precision import device_named

    return PeerPolicy.from_pretrained(Path(name).expanduser(), device_named(device))


def load_here(name: str, robot: RobotSpec | str | None = None, device: str = "cpu") -> TandemPolicy:
    """As `load_policy`, for what needs the model itself: no server will do."""
    folder = assets.find("policy", name)
    from vla.tandem import TandemPolicy
    from vla.training.precision import device_named

    return TandemPolicy.from_pretrained(folder, device_named(device), robot)


def can_be_exported(name: str) -> bool:
    """Whether `vla export` would make a faster policy of it on a CPU, and has not yet."""
    if is_remote(name) or is_peer(name):
        return False
    folder = assets.find("policy", name)
    from vla.tandem import ENGINE_FILE, read_config

    return not (folder / ENGINE_FILE).exists() and read_config(folder).fast.head != "fast"


def policy_maker(name: str, robot: RobotSpec | None = None, device: str = "cpu") -> Maker:
    """How the processes of S1 and S2 get it in real time. Raises UserError as `check_policy` does.

    A server must be there now; when it goes away later, they go on asking.
    """
    if is_peer(name):
        raise UserError(f"policy {name} is LeRobot's: --real-time plays ours only")
    if not is_remote(name):
        folder = str(assets.find("policy", name))
        return Maker(f"{__name__}:load_here", {"name": folder, "robot": robot, "device": device})
    with connect(name) as remote:
        known = remote.metadata
    return Maker(f"{__name__}:connect", {"url": name, "timeout": REAL_TIME_PATIENCE_S, "metadata": known})


def connect(url: str, timeout: float = PATIENCE_S, metadata: Mapping[str, Any] | None = None) -> RemotePolicy:
    """With the key in VLA_API_KEY, if any; otherwise as `RemotePolicy`."""
    try:
        from vla.serve.client import RemotePolicy
    except ModuleNotFoundError as error:
        raise UserError(f"policy {url}: Python package {error.name} is missing: pip install 'vla[serve]'") from None
    return RemotePolicy(url, os.environ.get(API_KEY), timeout, metadata)
