"""The cockpit: one page in a browser from which one person drives and others watch.

Every request must carry the session's token. What the page shows comes over one websocket: the state ten times a
second, and pictures as fast as the page says that it has drawn them. What the operator does comes back over it; when
it falls silent, the clutch opens (`vla.teleop.devices.Clutch`).
"""

from __future__ import annotations

import asyncio
import hmac
import http
import importlib.resources
import json
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.server import Request, Response, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed

from vla.data.live import KeptTake, LiveRecorder
from vla.data.spool import Take
from vla.errors import UserError
from vla.jpeg import encode_jpeg
from vla.page import data_url
from vla.serve.codec import MessageError
from vla.teleop.devices import Reading
from vla.teleop.messages import MAX_BYTES, Gone, Hand, Lead, Seen, Wish, read_message
from vla.teleop.pictures import Picture, Pictures
from vla.teleop.session import Session
from vla.teleop.state import state_message, takes_message

STATE_S = 0.1
PICTURES_S = 1 / 30
"""A page gets no more than one round of pictures in so many seconds."""
LOOK_S = 0.005
"""New ones are looked for this often: a picture should not wait to be sent."""
UNSEEN = 2
"""So many rounds of pictures may be on their way to a page; its next has to wait."""
QUALITIES = ((1.0, 90), (1.0, 75), (1.0, 55), (0.5, 70), (0.5, 45))
"""Scale and JPEG quality, best first: a page goes down when it is slow to draw, and up again when it is not."""
SMALL = 240
"""Pictures of so many pixels a side are not scaled: there is nothing to be won."""
SLOW_S, QUICK_S = 0.2, 0.08
FILES = {
    "/": ("cockpit.html", "text/html; charset=utf-8"),
    "/cockpit.css": ("cockpit.css", "text/css; charset=utf-8"),
    "/cockpit.js": ("cockpit.js", "text/javascript; charset=utf-8"),
}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class WebDevice:
    """The hand of whoever operates the page. That it let go is read once, however soon it takes hold again."""

    name = "web"

    def __init__(self) -> None:
        self._newest: Reading | None = None
        self._let_go = False

    def put(self, reading: Reading | None) -> None:
        self._newest = reading
        if reading is None or not reading.clutch:
            self._let_go = True

    def read(self) -> Reading | None:
        newest = self._newest
        if newest is None or not self._let_go:
            return newest
        self._let_go = False
        return replace(newest, clutch=False)

    def close(self) -> None:
        self._newest = None


@dataclass
class _Page:
    """What is known of one open page. sent: rounds of pictures on their way, and when they left."""

    connection: ServerConnection
    quality: int = 1
    quick: int = 0
    sent: deque[tuple[int, float]] = field(default_factory=deque)
    shown: dict[str, int] = field(default_factory=dict)
    takes: tuple[KeptTake, ...] | None = None
    instructions: tuple[str, ...] | None = None


class Cockpit:
    """Serves one session on `host`; port 0 takes a free one. `url` holds the token, and is complete while it serves."""

    def __init__(
        self,
        session: Session,
        recorder: LiveRecorder,
        device: WebDevice,
        pictures: Pictures,
        host: str = "127.0.0.1",
        port: int = 0,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self._session, self._recorder, self._device, self._pictures = session, recorder, device, pictures
        self._host, self._port, self._about = host, port, dict(about or {})
        self.token = secrets.token_urlsafe(24)
        self._pages: list[_Page] = []
        self._operator: _Page | None = None
        self._thumbnails: dict[str, str] = {}
        self._encoded: dict[tuple[str, int], tuple[int, bytes]] = {}

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}/?token={self.token}"

    async def serve(
        self, ready: Callable[[int], None] | None = None, stop: asyncio.Event | threading.Event | None = None
    ) -> None:
        """Until `stop` or the session's end; its error is raised. UserError if the port is taken."""
        stop = stop or asyncio.Event()
        logging.getLogger("websockets.server").setLevel(logging.CRITICAL)
        try:
            server = await serve(
                self._converse, self._host, self._port, process_request=self._admit,
                compression=None, server_header=None, max_size=MAX_BYTES,
                ping_interval=5, ping_timeout=5, close_timeout=1,
            )  # fmt: skip
        except OSError as error:
            raise UserError(f"teleop: {self._host}:{self._port} cannot be had: {error.strerror}") from None
        async with server:
            self._port = server.sockets[0].getsockname()[1]
            if ready:
                ready(self._port)
            while not stop.is_set() and self._session.alive:
                await asyncio.sleep(0.1)
        if self._session.error is not None:
            raise self._session.error

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        try:
            parts = urlsplit(request.path)
            given = parse_qs(parts.query).get("token", [""])[0]
            origins = [urlsplit(origin).netloc for origin in request.headers.get_all("Origin")]
        except ValueError:  # an address that is none
            return _respond(http.HTTPStatus.UNAUTHORIZED)
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            return _respond(http.HTTPStatus.UNAUTHORIZED)
        if any([origin] != request.headers.get_all("Host") for origin in origins):
            return _respond(http.HTTPStatus.FORBIDDEN)
        if parts.path == "/live":
            return None
        if parts.path not in FILES:
            return _respond(http.HTTPStatus.NOT_FOUND)
        name, kind = FILES[parts.path]
        text = importlib.resources.files("vla.teleop").joinpath("page", name).read_text(encoding="utf-8")
        return _respond(http.HTTPStatus.OK, text.replace("{{token}}", self.token), kind)

    async def _converse(self, connection: ServerConnection) -> None:
        page = _Page(connection)
        self._pages.append(page)
        if self._operator is None:
            self._operator = page
        tasks = [asyncio.create_task(work(page)) for work in (self._tell_state, self._send_pictures)]
        try:
            async for text in connection:
                try:
                    message = read_message(text)
                    self._hear(page, message)
                    if isinstance(message, Hand):
                        await connection.send(json.dumps({"t": "echo", "at": message.at, "now": time.monotonic()}))
                except MessageError as error:
                    await connection.send(json.dumps({"t": "error", "text": str(error)}))
        except ConnectionClosed:
            pass
        finally:
            self._pages.remove(page)
            self._let_go(page)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _hear(self, page: _Page, message: Hand | Wish | Gone | Lead | Seen) -> None:
        if isinstance(message, Seen):
            self._note_seen(page, message.number)
        elif isinstance(message, Wish) and message.what == "stop":
            self._session.ask("stop")  # whoever sees a reason may stop the arm
        elif isinstance(message, Lead):
            if self._operator is None:
                self._operator = page
        elif page is not self._operator:
            raise MessageError("only the operator may do that")
        elif isinstance(message, Hand):
            self._device.put(Reading(message.move, message.gripper, message.clutch, time.monotonic()))
        elif isinstance(message, Gone):
            self._device.put(None)
        else:
            self._session.ask(message.what, message.value)

    def _let_go(self, page: _Page) -> None:
        if page is self._operator:
            self._operator = None
            self._device.put(None)

    async def _tell_state(self, page: _Page) -> None:
        with suppress(ConnectionClosed):
            while True:
                status = self._recorder.status()
                role = "operator" if page is self._operator else "free" if self._operator is None else "watcher"
                about = {**self._about, "role": role, "pages": len(self._pages), "quality": page.quality}
                moment = self._session.moment()
                if moment.instructions != page.instructions:
                    page.instructions = moment.instructions
                    await page.connection.send(json.dumps({"t": "scene", "instructions": page.instructions}))
                await page.connection.send(state_message(moment, status, about))
                if status.takes is not page.takes:
                    page.takes = status.takes
                    await page.connection.send(takes_message(status, self._thumbnail))
                await asyncio.sleep(STATE_S)

    async def _send_pictures(self, page: _Page) -> None:
        with suppress(ConnectionClosed):
            due = judged = 0.0
            while True:
                await asyncio.sleep(max(LOOK_S, due - time.monotonic()))
                began = time.monotonic()
                if len(page.sent) >= UNSEEN:
                    if began - max(judged, page.sent[0][1]) > SLOW_S:
                        judged = began
                        self._judge(page, slow=True)
                    continue
                newest = self._pictures.newest().items()
                fresh = [(camera, picture) for camera, picture in newest if page.shown.get(camera) != picture.number]
                if not fresh:
                    continue
                due = began + PICTURES_S
                page.sent.append((max(picture.number for _, picture in fresh), began))
                for camera, picture in fresh:
                    page.shown[camera] = picture.number
                    data = await asyncio.to_thread(self._encode, camera, picture, page.quality)
                    head = json.dumps({"camera": camera, "captured": picture.captured, "number": picture.number})
                    await page.connection.send(len(head).to_bytes(2, "big") + head.encode() + data)

    def _note_seen(self, page: _Page, number: int) -> None:
        while page.sent and page.sent[0][0] <= number:
            took = time.monotonic() - page.sent.popleft()[1]
            self._judge(page, slow=took > SLOW_S, quick=took < QUICK_S)

    def _judge(self, page: _Page, slow: bool, quick: bool = False) -> None:
        page.quick = page.quick + 1 if quick else 0
        if slow and page.quality < len(QUALITIES) - 1:
            page.quality += 1
        elif page.quick > 20 and page.quality > 0:
            page.quality, page.quick = page.quality - 1, 0

    def _encode(self, camera: str, picture: Picture, quality: int) -> bytes:
        known = self._encoded.get((camera, quality))
        if known is not None and known[0] == picture.number:
            return known[1]
        scale, jpeg = QUALITIES[quality]
        scale = 1.0 if min(picture.image.shape[:2]) <= SMALL else scale
        image = picture.image
        if scale != 1.0:
            image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        data = encode_jpeg(image, jpeg)
        self._encoded[camera, quality] = picture.number, data
        return data

    def _thumbnail(self, take: Take, image: NDArray[np.uint8]) -> str:
        if take.started not in self._thumbnails:
            self._thumbnails[take.started] = data_url(encode_jpeg(image, 80), "image/jpeg")
        return self._thumbnails[take.started]


def _respond(status: http.HTTPStatus, text: str = "", kind: str = "text/plain") -> Response:
    body = text.encode()
    headers = Headers({**HEADERS, "Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"})
    return Response(status.value, status.phrase, headers, body)
