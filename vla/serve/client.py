"""A policy on another machine. Needs numpy, websockets and msgpack, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI, WebSocketException
from websockets.sync.client import ClientConnection, connect

from vla.errors import UserError
from vla.serve.codec import pack, unpack

if TYPE_CHECKING:
    from vla.spec import RobotSpec

Images = Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class RemoteThought:
    """As `vla.s2.thought.Thought`, with latents (K, D) as a numpy array."""

    latents: NDArray[np.float32]
    stamp: float
    instruction_id: int = 0
    text: str | None = None

    def age(self, now: float) -> float:
        return now - self.stamp


class RemotePolicy:
    """Both halves of a served policy, for `vla.runtime.loop.ControlLoop` or a loop of your own.

    Each half has a connection of its own: `think` and `act` may be called from two threads at once. url: ws://host:port.
    timeout: seconds to wait for an answer. Raises UserError if there is no server, it refuses, or it does not answer.
    """

    def __init__(self, url: str, api_key: str | None = None, timeout: float = 10.0) -> None:
        self._url, self._timeout = url, timeout
        self._headers = {"Authorization": f"Api-Key {api_key}"} if api_key else None
        self._slow, self.metadata = self._connect()
        self._fast, _ = self._connect()
        self.config = SimpleNamespace(replan_steps=int(self.metadata["replan_steps"]))

    @property
    def spec(self) -> RobotSpec:
        """Of the robot the policy is for; this alone needs the rest of the package."""
        from vla.spec import RobotSpec

        return RobotSpec.from_dict(self.metadata["spec"], f"of {self._url}")

    def think(
        self, images: Images, instruction: str, stamp: float, instruction_id: int = 0, words: bool = False
    ) -> RemoteThought:
        """As `vla.tandem.TandemPolicy.think`."""
        asked = {"type": "think", "images": dict(images), "instruction": instruction, "stamp": float(stamp)}
        said = self._ask(self._slow, asked | {"instruction_id": instruction_id, "words": words})
        return RemoteThought(said["latents"], said["stamp"], said["instruction_id"], said["text"])

    def act(
        self,
        images: Images,
        state: NDArray[np.float32],
        thought: RemoteThought | None,
        now: float,
        prefix: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """As `vla.tandem.TandemPolicy.act`: a chunk (H, A) in robot units."""
        known = None
        if thought is not None:
            known = {"latents": thought.latents, "stamp": thought.stamp, "instruction_id": thought.instruction_id}
        asked = {"type": "act", "images": dict(images), "state": state, "thought": known, "now": float(now)}
        return np.array(self._ask(self._fast, asked | {"prefix": prefix})["actions"])

    def close(self) -> None:
        self._slow.close()
        self._fast.close()

    def __enter__(self) -> RemotePolicy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connect(self) -> tuple[ClientConnection, dict[str, Any]]:
        try:
            connection = connect(
                self._url, additional_headers=self._headers, compression=None, max_size=None, open_timeout=self._timeout
            )
            return connection, unpack(connection.recv(self._timeout))  # type: ignore[arg-type]
        except InvalidStatus as error:
            status = error.response.status_code
            why = "it wants another API key" if status == 401 else f"HTTP status {status}"
            raise UserError(f"policy server {self._url} refuses: {why}") from None
        except (OSError, InvalidHandshake, InvalidURI, WebSocketException, ValueError) as error:
            raise UserError(f"policy server {self._url} cannot be reached: {error}") from None

    def _ask(self, connection: ClientConnection, message: dict[str, Any]) -> dict[str, Any]:
        try:
            connection.send(pack(message))
            answer = connection.recv(self._timeout)
        except TimeoutError:
            raise UserError(f"policy server {self._url} has not answered for {self._timeout:g} s") from None
        except WebSocketException as error:
            raise UserError(f"policy server {self._url} is gone: {error}") from None
        if isinstance(answer, str):
            raise UserError(f"policy server {self._url}: {answer}")
        return unpack(answer)
