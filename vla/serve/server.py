"""The policy server: a websocket a client, S2 and S1 each in a thread of its own, so that neither waits for the other.

`openpi-client`'s WebsocketClientPolicy connects as it is; `vla.serve.client.RemotePolicy` uses both speeds. A message
that cannot be used is answered with a line of text (a text frame, as openpi's clients expect of errors), and the
connection stays open.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http
import logging
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from websockets.asyncio.server import Request, Response, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from vla.errors import UserError
from vla.s2.thought import Thought
from vla.serve.codec import MessageError, pack, unpack
from vla.serve.requests import Act, Expected, Observe, Think, read_request

if TYPE_CHECKING:  # loads torch, which serving as such has no use for
    from vla.tandem import TandemPolicy

MAX_BYTES = 32 * 2**20
"""Of a message: a few full-size camera images."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class PolicyServer:
    """Serves one policy to any number of clients; they share its two threads, first come, first served.

    api_key: if given, clients must send the header `Authorization: Api-Key <key>`. max_bytes: longest message taken.
    A web page in a browser on this machine is refused by its Origin, which clients do not send.
    Raises UserError if the policy would be open to a network without a key.
    """

    def __init__(
        self,
        policy: TandemPolicy,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        if host not in LOOPBACK and not api_key:
            raise UserError(f"serve: {host} is open to others: give a key they must know (--api-key-env NAME)")
        self._policy, self._host, self._port = policy, host, port
        self._key, self._max_bytes = api_key, max_bytes
        self._expected = Expected(
            tuple(policy.s2.config.cameras),
            tuple(policy.s1.config.cameras),
            policy.spec.state_size,
            policy.spec.action_size,
            policy.s1.latent_shape,
        )
        self.metadata: dict[str, Any] = {
            "spec": policy.spec.to_dict(),
            "replan_steps": policy.config.replan_steps,
            "horizon": policy.config.fast.horizon,
            "max_age": policy.config.fast.max_age,
            "weights": _digest(policy),
            "action_size": policy.spec.action_size,
        }

    def run(self, ready: Callable[[int], None] | None = None) -> None:
        """Serve until SIGINT or SIGTERM; `ready` is told the port. Raises UserError if the port cannot be had."""
        asyncio.run(self.serve(ready))

    async def serve(self, ready: Callable[[int], None] | None = None, stop: asyncio.Event | None = None) -> None:
        """As `run`, in a running event loop; `stop` ends it too."""
        stop = stop or asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(number, stop.set)
            except (RuntimeError, ValueError):  # only the main thread may: whoever runs us elsewhere has `stop`
                break
        # Handshakes of scanners and the like are no news.
        logging.getLogger("websockets.server").setLevel(logging.CRITICAL)
        with ThreadPoolExecutor(1, "s2") as slow, ThreadPoolExecutor(1, "s1") as fast:
            self._slow, self._fast = partial(loop.run_in_executor, slow), partial(loop.run_in_executor, fast)
            try:
                server = await serve(
                    self._converse, self._host, self._port, process_request=self._admit, origins=[None],
                    compression=None, max_size=self._max_bytes,
                )  # fmt: skip
            except OSError as error:
                raise UserError(f"serve: {self._host}:{self._port} cannot be had: {error.strerror}") from None
            async with server:
                if ready:
                    ready(server.sockets[0].getsockname()[1])
                await stop.wait()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "ok\n")
        given = request.headers.get("Authorization", "").removeprefix("Api-Key ")
        if self._key and not hmac.compare_digest(given.encode(), self._key.encode()):
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "this server wants its key\n")
        return None

    async def _converse(self, connection: ServerConnection) -> None:
        try:
            await connection.send(pack(self.metadata))
            async for data in connection:
                try:
                    answer: bytes | str = pack(await self._answer(data, connection))
                except _ClientGone:
                    return
                except (MessageError, UserError) as error:
                    answer = str(error)
                except Exception as error:  # one request's trouble is not the server's
                    logging.getLogger("vla.serve").exception("a request failed")
                    answer = f"the policy failed on this request: {type(error).__name__}: {error}"
                await connection.send(answer)
        except ConnectionClosed:
            pass

    async def _answer(self, data: bytes | str, client: ServerConnection) -> dict[str, Any]:
        begin = time.perf_counter()
        if isinstance(data, str):
            raise MessageError("this server takes binary msgpack messages, not text")
        message = unpack(data)
        if isinstance(message, dict) and "__ctrl__" in message:
            return {"__ack__": message["__ctrl__"] if isinstance(message["__ctrl__"], str) else "ignored"}
        request = read_request(message, self._expected)
        if isinstance(request, Think):
            thought, slow_ms = await self._slow(_timed, client, self._think, request)
            latents = np.asarray(thought.latents, np.float32)
            answer = {"latents": latents, "stamp": thought.stamp, "instruction_id": thought.instruction_id}
            return answer | {"text": thought.text, "timing": {"s2_ms": slow_ms}}
        if isinstance(request, Act):
            actions, fast_ms = await self._fast(_timed, client, self._act, request)
            return {"actions": actions, "timing": {"s1_ms": fast_ms}}
        thought, slow_ms = await self._slow(_timed, client, self._look, request)
        actions, fast_ms = await self._fast(_timed, client, self._follow, request, thought)
        total = 1e3 * (time.perf_counter() - begin)
        timing = {"s2_ms": slow_ms, "s1_ms": fast_ms}
        return {"actions": actions, "server_timing": {"infer_ms": total}, "policy_timing": timing}

    def _think(self, request: Think) -> Thought:
        return self._policy.think(
            request.images, request.instruction, request.stamp, request.instruction_id, request.words
        )

    def _look(self, request: Observe) -> Thought:
        return self._policy.think(request.images, request.instruction, 0.0)

    def _follow(self, request: Observe, thought: Thought) -> np.ndarray:
        return self._policy.act(request.images, request.state, thought, 0.0)

    def _act(self, request: Act) -> np.ndarray:
        thought = None
        if request.latents is not None and request.stamp is not None:
            latents: Any = request.latents
            thought = Thought(latents, request.stamp, request.instruction_id)
        return self._policy.act(request.images, request.state, thought, request.now, request.prefix)


class _ClientGone(Exception):
    """Nobody waits for the answer any more."""


def _timed(client: ServerConnection, work: Callable[..., Any], *args: Any) -> tuple[Any, float]:
    """What it returns, and how long it took (ms). What a client that left had still waiting is not computed."""
    if client.state is not State.OPEN:
        raise _ClientGone
    begin = time.perf_counter()
    return work(*args), 1e3 * (time.perf_counter() - begin)


def _digest(policy: TandemPolicy) -> str:
    """Which weights S1 has: a client that finds others after a break must not go on with the old thoughts."""
    digest = hashlib.sha256()
    for name, weight in policy.s1.state_dict().items():
        digest.update(name.encode() + weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
