"""A policy on another machine. Needs numpy, websockets and msgpack, nothing else."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI, WebSocketException
from websockets.protocol import State
from websockets.sync.client import ClientConnection, connect

from vla.errors import Unreachable, UserError
from vla.serve.codec import MessageError, pack, unpack

if TYPE_CHECKING:
    from vla.spec import RobotSpec

Images = Mapping[str, NDArray[np.uint8]]

FACTS = ("spec", "replan_steps", "horizon", "max_age")
"""What a server must say of its policy."""
_PASSING = (429, 500, 502, 503, 504)
"""HTTP statuses of servers that are starting, or of proxies that do not reach them."""


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

    Each half has a connection of its own: `think` and `act` may be called from two threads at once. A connection that
    broke is made anew when its half is next asked. url: ws://host:port. timeout: seconds to wait for an answer.
    metadata: what the server has said of itself, if that is known: then it need not be there yet.
    Raises `Unreachable` if there is no server, it is gone, or it does not answer; any other UserError if it refuses, or
    is no longer the one that it was.
    """

    def __init__(
        self, url: str, api_key: str | None = None, timeout: float = 10.0, metadata: Mapping[str, Any] | None = None
    ) -> None:
        self._url = url
        self._slow, self._fast = (_Line(url, api_key, timeout, metadata) for _ in range(2))
        self.metadata = metadata or self._slow.open()
        self._fast.expected = self.metadata
        fast = SimpleNamespace(horizon=int(self.metadata["horizon"]), max_age=float(self.metadata["max_age"]))
        self.config = SimpleNamespace(replan_steps=int(self.metadata["replan_steps"]), fast=fast)

    @cached_property
    def spec(self) -> RobotSpec:
        """Of the robot the policy is for; this alone needs the rest of the package."""
        from vla.spec import RobotSpec

        return RobotSpec.from_dict(self.metadata["spec"], f"of {self._url}")

    def think(
        self, images: Images, instruction: str, stamp: float, instruction_id: int = 0, words: bool = False
    ) -> RemoteThought:
        """As `vla.tandem.TandemPolicy.think`."""
        asked = {"type": "think", "images": dict(images), "instruction": instruction, "stamp": float(stamp)}
        said = self._slow.ask(asked | {"instruction_id": instruction_id, "words": words})
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
        return np.array(self._fast.ask(asked | {"prefix": prefix})["actions"])

    def close(self) -> None:
        self._slow.close()
        self._fast.close()

    def __enter__(self) -> RemotePolicy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Line:
    """One connection, in use by one thread: a question, then its answer.

    A question that was not answered in time ends the connection: whatever comes late comes to nobody, and can never be
    taken for the answer to the next one. expected: what the server must say of itself, None if anything will do.
    """

    def __init__(self, url: str, api_key: str | None, timeout: float, expected: Mapping[str, Any] | None) -> None:
        self._url, self._timeout = url, timeout
        self._headers = {"Authorization": f"Api-Key {api_key}"} if api_key else None
        self._connection: ClientConnection | None = None
        self.expected = expected

    def open(self) -> Mapping[str, Any]:
        """Connect; returns what the server says of itself."""
        self._connect(time.monotonic() + self._timeout)
        assert self.expected is not None
        return self.expected

    def ask(self, message: Mapping[str, Any]) -> Any:
        deadline = time.monotonic() + self._timeout
        connection = self._connection
        if connection is None or connection.protocol.state is not State.OPEN:
            connection = self._connect(deadline)
        try:
            connection.send(pack(message))
            answer = connection.recv(max(deadline - time.monotonic(), 0.0))
        except TimeoutError:
            self.close()
            raise Unreachable(f"policy server {self._url} has not answered for {self._timeout:g} s") from None
        except (WebSocketException, OSError) as error:
            self.close()
            raise Unreachable(f"policy server {self._url} is gone: {_reason(error)}") from None
        except BaseException:  # interrupted between question and answer
            self.close()
            raise
        if isinstance(answer, str):
            raise UserError(f"policy server {self._url}: {answer}")
        return self._read(answer)

    def close(self) -> None:
        """Without waiting for the other side, which may be hung."""
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.socket.shutdown(socket.SHUT_RDWR)
            self._connection.close()
            self._connection = None

    def _connect(self, deadline: float) -> ClientConnection:
        self.close()
        try:
            self._connection = connect(
                self._url,
                additional_headers=self._headers,
                compression=None,
                max_size=None,
                open_timeout=max(deadline - time.monotonic(), 0.0),
                ping_interval=None,
                proxy=True if self._url.lower().startswith("wss:") else None,  # ws:// leads to one's own network
            )
            self._limit_sending(self._connection)
            said = self._connection.recv(max(deadline - time.monotonic(), 0.0))
        except (InvalidURI, ValueError) as error:  # urllib's, of a port that is none
            raise UserError(f"policy server {self._url}: {error}; give ws://HOST:PORT") from None
        except InvalidStatus as error:
            raise self._refused(error.response.status_code) from None
        except (OSError, InvalidHandshake, WebSocketException) as error:
            self.close()
            why = _reason(error)
            raise Unreachable(
                f"policy server {self._url} cannot be reached: {why}; is vla serve running there?"
            ) from None
        self._check(self._read(said))
        return self._connection

    def _limit_sending(self, connection: ClientConnection) -> None:
        """A peer that takes nothing any more must not block us for ever."""
        if hasattr(socket, "SO_SNDTIMEO"):
            half = self._timeout / 2  # it counts anew after a part was taken
            limit = struct.pack("ll", int(half), int(half % 1 * 1e6))
            with contextlib.suppress(OSError):  # it has hung up already: what it said is still to be read
                connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def _refused(self, status: int) -> UserError:
        if status in _PASSING:
            return Unreachable(f"policy server {self._url} cannot be reached: HTTP status {status}")
        why = "it wants another API key (VLA_API_KEY)" if status == 401 else f"HTTP status {status}"
        return UserError(f"policy server {self._url} refuses: {why}")

    def _read(self, answer: Any) -> Any:
        try:
            return unpack(answer)
        except (MessageError, TypeError):
            self.close()
            raise UserError(f"policy server {self._url} speaks another language; is it vla serve?") from None

    def _check(self, metadata: Any) -> None:
        if self.expected is not None and metadata != self.expected:
            self.close()
            raise UserError(f"policy server {self._url} offers another policy than before: start anew")
        if not isinstance(metadata, dict) or any(name not in metadata for name in FACTS):
            self.close()
            raise UserError(f"policy server {self._url} does not say what its policy is for; is it vla serve?")
        self.expected = metadata


def _reason(error: BaseException) -> str:
    if isinstance(error, ConnectionClosed):
        return "the connection broke"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
