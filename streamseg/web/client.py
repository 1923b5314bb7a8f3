"""One connected page: the views sent to it, its answers, and when it is dropped."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from typing import Any

from starlette.websockets import WebSocket

from streamseg.core.files import parse_json
from streamseg.core.latency import Percentiles
from streamseg.core.numbers import finite_number, whole_number
from streamseg.web.message import Packet

BEAT_S = 0.05
"""Longest pause between two messages to a page, so that silence means a lost link."""
ACK_S = 5.0
"""Time after which a page that has not answered a view is dropped."""
SEND_S = 2.0
"""Time after which a page whose network accepts no data is dropped."""
MESSAGES_PER_S = 300
"""Limit on messages from a page; ours sends at most a fifth of it."""
MAX_BYTES = 4096
"""Size limit of a message from a page."""
MAX_BYTES_PER_S = 64 << 10
"""Limit on everything that comes from a page, pings and empty fragments too; ours sends a tenth of it."""
MAX_FRAGMENTS = 64
"""Limit on the fragments of one message: empty ones count for no size."""
_AGES = 300
_MAX_AGE_MS = 600_000.0


class Dropped(Exception):  # noqa: N818 - not an error of the program
    """Ends a connection, with a WebSocket close code and a reason for the page."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Client:
    """A connected page. All methods run on the server's event loop."""

    def __init__(self, slot: int, websocket: WebSocket, viewer: str = "") -> None:
        self.slot = slot
        self.viewer = viewer
        """Where it comes from: pages of one address share places."""
        self.since_ns = time.monotonic_ns()
        self._displaced = ""
        self.wake = asyncio.Event()
        """Set when there is a new view or an answer."""
        self.view = 0
        """Number of the last view sent."""
        self.image_number = 0
        """Number of the image that the page holds."""
        self._websocket = websocket
        self._unanswered_ns: int | None = None
        self._sent_ns = 0
        self._ages: deque[int] = deque(maxlen=_AGES)
        self._window_ns = 0
        self._received = 0

    def displace(self, reason: str) -> None:
        """End this page soon: another one gets its place."""
        self._displaced = reason
        self.wake.set()

    @property
    def free(self) -> bool:
        """True if the page has answered everything it was sent. Raises Dropped if the answer is overdue, or
        if another page gets its place."""
        if self._displaced:
            raise Dropped(1013, self._displaced)
        if self._unanswered_ns is None:
            return True
        if time.monotonic_ns() - self._unanswered_ns > ACK_S * 1e9:
            raise Dropped(1008, f"no answer for {ACK_S:g} s")
        return False

    @property
    def ages(self) -> Percentiles:
        """Times from capture until drawn of the last views, as measured by the page."""
        return Percentiles.of(self._ages)

    async def send_view(self, packet: Packet) -> None:
        """Send a view; the page is not free again until it answers. Raises Dropped."""
        now = time.monotonic_ns()
        self.view = packet.view.number
        data = packet.message(now, self.image_number)
        self.image_number = packet.image_number or self.image_number
        self._unanswered_ns = now
        await self._send(data)

    async def beat(self, quiet_s: float) -> None:
        """Send a heartbeat if nothing else was sent for a while. Raises Dropped."""
        now = time.monotonic_ns()
        if now - self._sent_ns >= BEAT_S * 0.8e9:
            await self._send(json.dumps({"beat": now / 1e6, "quiet": round(quiet_s * 1e3)}))

    async def say(self, values: dict[str, Any]) -> None:
        """Send any other message. Raises Dropped."""
        await self._send(json.dumps(values))

    async def _send(self, data: bytes | str) -> None:
        self._sent_ns = time.monotonic_ns()
        try:
            async with asyncio.timeout(SEND_S):
                if isinstance(data, bytes):
                    await self._websocket.send_bytes(data)
                else:
                    await self._websocket.send_text(data)
        except TimeoutError as error:
            raise Dropped(1008, f"its network accepted no data for {SEND_S:g} s") from error

    async def receive(self) -> dict[str, Any]:
        """Wait for the next message, a JSON object. Raises Dropped for anything else, and for too many."""
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise Dropped(1000, "it left")
        self._count()
        try:
            values = parse_json(message.get("text") or "")
        except ValueError as error:
            raise Dropped(1003, "a message is not JSON text") from error
        if not isinstance(values, dict):
            raise Dropped(1003, "a message is not a JSON object")
        return values

    def answered(self, values: dict[str, Any]) -> None:
        """Handle ``{"ack": view, "age": ms or null}``. Raises Dropped for a view that was not sent."""
        age = values.get("age")
        if whole_number(values["ack"], 0, 10**15) != self.view or self._unanswered_ns is None:
            raise Dropped(1003, "it acknowledged a view that was not sent to it")
        if age is not None:
            self._ages.append(round(number(age, -_MAX_AGE_MS, _MAX_AGE_MS) * 1e6))
        self._unanswered_ns = None
        self.wake.set()

    def _count(self) -> None:
        now = time.monotonic_ns()
        if now - self._window_ns > 1e9:
            self._window_ns, self._received = now, 0
        self._received += 1
        if self._received > MESSAGES_PER_S:
            raise Dropped(1008, f"more than {MESSAGES_PER_S} messages in a second")


def number(value: object, minimum: float, maximum: float) -> float:
    """Check that a value is a finite number within a range. Raises Dropped."""
    found = finite_number(value, minimum, maximum)
    if found is None:
        raise Dropped(1003, "a message holds an invalid number")
    return found
