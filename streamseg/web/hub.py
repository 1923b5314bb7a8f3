"""From the loop's thread to every page: newest view first, each page at its own pace.

The loop hands a view over and goes on. A page that is free (it has answered what it was sent) gets the newest
view there is; a picture is encoded once, in a thread of its own, and only when a page waits for it. So a slow
page sees fewer pictures, none of them late, and nobody else notices; nothing queues up anywhere.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from streamseg.core.errors import SinkError
from streamseg.core.latency import Percentiles
from streamseg.core.view import Command, View
from streamseg.web.client import BEAT_S, Client, Dropped, number
from streamseg.web.message import Packet, encode_jpeg
from streamseg.web.status import Status

_COMMANDS = 8
_FAREWELL_S = 0.2


class Hub:
    """The pages connected to one server.

    ``rate`` is the largest number of views per second that is sent, ``quality`` the JPEGs' (1..100),
    ``clients`` the largest number of pages; ``hello`` is sent to each as it comes; ``record`` allows pages to
    ask for recording.
    """

    def __init__(
        self, status: Status, *, rate: float, quality: int, clients: int, hello: dict[str, Any], record: bool
    ) -> None:
        self.status = status
        self.failure: SinkError | None = None
        """Why no picture can be shown; the loop's thread raises it."""
        self._interval_ns = round(1e9 / rate)
        self._quality, self._most, self._hello, self._record = quality, clients, hello, record
        self._commands: deque[Command] = deque(maxlen=_COMMANDS)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waking = False
        self._clients: dict[int, Client] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="streamseg-web-jpeg")
        self._packet: Packet | None = None
        self._making: asyncio.Task[Packet] | None = None
        self._pictures = 0
        self._due_ns = 0

    # Any thread

    def show(self, view: View, now_ns: int) -> None:
        """Make this the view that pages get from now on."""
        self.status.note(view, now_ns)
        with self._lock:
            loop = self._loop
            if loop is None or self._waking:
                return
            self._waking = True
            loop.call_soon_threadsafe(self._wake)

    def commands(self) -> list[Command]:
        """What the pages asked for since the last call."""
        asked = []
        while self._commands:
            asked.append(self._commands.popleft())
        return asked

    @property
    def connected(self) -> int:
        """Pages connected."""
        return len(self._clients)

    # The event loop

    def open(self) -> None:
        """Begin, in the running event loop."""
        with self._lock:
            self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Take no more views."""
        with self._lock:
            self._loop = None
        self._pool.shutdown(wait=False, cancel_futures=True)

    def ages(self) -> dict[int, Percentiles]:
        """Per page, by slot, the ages that it measured."""
        return {slot: client.ages for slot, client in self._clients.items()}

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one page until it leaves or is dropped."""
        await websocket.accept()
        free = (slot for slot in range(self._most) if slot not in self._clients)
        slot = next(free, None)
        if slot is None:
            await websocket.close(1013, f"all {self._most} places are taken")
            return
        client = self._clients[slot] = Client(slot, websocket)
        tasks = [asyncio.ensure_future(work(client)) for work in (self._send, self._receive)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._clients[slot]
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        await _part(websocket, ends)

    async def _send(self, client: Client) -> None:
        await client.say(self._hello)
        while True:
            client.wake.clear()
            view = self.status.view
            if client.free and view is not None and view.number != client.view:
                await client.send_view(await self._newest())
                continue
            await client.beat(self.status.quiet_s(time.monotonic_ns()))
            try:
                async with asyncio.timeout(BEAT_S):
                    await client.wake.wait()
            except TimeoutError:
                continue

    async def _receive(self, client: Client) -> None:
        while True:
            values = await client.receive()
            if "ack" in values:
                client.answered(values)
            elif "ping" in values:
                sent = number(values["ping"], 0, 1e15)
                await client.say({"pong": sent, "now": time.monotonic_ns() / 1e6})
            elif values.get("command") == Command.RECORD.value and self._record:
                self._commands.append(Command.RECORD)
            else:
                raise Dropped(1003, "a message asks for nothing that there is")

    def _wake(self) -> None:
        with self._lock:
            self._waking = False
        for client in self._clients.values():
            client.wake.set()

    async def _newest(self) -> Packet:
        """The newest view, made ready; all who wait share one."""
        view, packet = self.status.view, self._packet
        if packet is not None and view is not None and packet.view.number == view.number:
            return packet
        if self._making is None or self._making.done():
            self._making = asyncio.ensure_future(self._make())
        return await asyncio.shield(self._making)

    async def _make(self) -> Packet:
        now = time.monotonic_ns()
        if now < self._due_ns:
            await asyncio.sleep((self._due_ns - now) / 1e9)
            now = time.monotonic_ns()
        # One interval may be made up for: a source as fast as the limit is not thinned out by its jitter.
        self._due_ns = max(self._due_ns, now - self._interval_ns) + self._interval_ns
        view, last = self.status.view, self._packet
        assert view is not None  # Views are never taken back.
        if view.frame is None or view.roi is None:
            packet = Packet(view, 0, b"")
        elif (
            last is not None and last.picture and last.view.frame is view.frame and last.view.roi == view.roi
        ):
            packet = Packet(view, last.picture, last.jpeg)
        else:
            jpeg = await self._encode(view)
            self._pictures += 1
            packet = Packet(view, self._pictures, jpeg)
        self._packet = packet
        return packet

    async def _encode(self, view: View) -> bytes:
        assert view.frame is not None
        assert view.roi is not None
        loop = asyncio.get_running_loop()
        try:
            work = loop.run_in_executor(self._pool, encode_jpeg, view.frame.image, view.roi, self._quality)
        except RuntimeError as error:  # the pool was shut down: the display is being closed
            raise Dropped(1001, "the program has ended") from error
        try:
            return await work
        except SinkError as error:
            self.failure = error
            raise


async def _part(websocket: WebSocket, ends: list[BaseException | None]) -> None:
    """Tell the page why, if it still listens."""
    dropped = [end for end in ends if isinstance(end, Dropped)]
    known = (Dropped, asyncio.CancelledError, WebSocketDisconnect, SinkError, type(None))
    code, reason = (dropped[0].code, dropped[0].reason) if dropped else (1011, "the server failed")
    try:
        async with asyncio.timeout(_FAREWELL_S):
            await websocket.close(code, reason)
    except (TimeoutError, RuntimeError, WebSocketDisconnect):
        pass  # It is gone, or takes nothing.
    for end in ends:
        if not isinstance(end, known):
            raise end
