"""What serving a policy over a websocket costs beside the policy's own time, and beside a plain echo of the message."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.sync.client import ClientConnection, connect

from vla.bench.table import Row, report
from vla.policies import device_of, load_here
from vla.serve.background import beside
from vla.serve.codec import pack, unpack
from vla.serve.server import MAX_BYTES, PolicyServer

SIDE, ROUNDS, WARM_UP = 224, 200, 10


def bench_serve(policy: str, device: str = "cpu") -> dict[str, Any]:
    """Round trips of an observation with two 224x224 images on loopback, in turn; returns the benchmark document.

    Ours is the round trip less the time that the server spent in the model, as it reports it. The peer unpacks the same
    message with msgpack alone and sends as large an answer.
    """
    tandem = load_here(policy, device=device)
    rng = np.random.default_rng(0)
    images = {
        f"observation.images.{camera.name}": rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        for camera in tandem.spec.cameras
    }
    state = rng.normal(size=tandem.spec.state_size).astype(np.float32)
    message = pack({**images, "observation.state": state, "prompt": "lift the red cube"})
    with (
        beside(PolicyServer(tandem).serve) as ours,
        beside(_echo) as plain,
        _connected(ours) as policy_server,
        _connected(plain) as echo_server,
    ):
        unpack(policy_server.recv())  # type: ignore[arg-type]
        pairs = [(_overhead(policy_server, message), _round_trip(echo_server, message)[0]) for _ in range(ROUNDS)]
    over, echo = np.median(pairs[WARM_UP:], axis=0)
    row = Row("time beyond the model", over, "ms", "plain msgpack echo", echo)
    where = device_of(policy, device)
    return report(f"Serving on {where}, two 224x224 images on loopback", [row]) | {"device": where}


def _round_trip(connection: ClientConnection, message: bytes) -> tuple[float, Any]:
    """Milliseconds, and the answer."""
    begin = time.perf_counter()
    connection.send(message)
    answer = connection.recv()
    return 1e3 * (time.perf_counter() - begin), answer


def _overhead(connection: ClientConnection, message: bytes) -> float:
    spent, answer = _round_trip(connection, message)
    return spent - sum(unpack(answer)["policy_timing"].values())


async def _echo(ready: Callable[[int], None], stop: asyncio.Event) -> None:
    answer = msgpack.packb({"actions": bytes(4 * 16 * 7)})

    async def converse(connection: ServerConnection) -> None:
        async for data in connection:
            msgpack.unpackb(data)
            await connection.send(answer)

    async with serve(converse, "127.0.0.1", 0, compression=None, max_size=MAX_BYTES) as server:
        ready(server.sockets[0].getsockname()[1])
        await stop.wait()


def _connected(url: str) -> ClientConnection:
    return connect(url, compression=None, max_size=None)
