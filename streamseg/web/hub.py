"""Distributes views from the live loop to all pages: always the newest, each page at its own pace.

The loop hands over a view and continues. A page that is free (it has answered what it was sent) gets the
newest view; a frame is encoded once, in a separate thread, and only when a page waits for it. A slow page
therefore sees fewer frames, none of them late, without affecting the others; nothing queues up anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import threading
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from streamseg.core.errors import SinkError
from streamseg.core.latency import Percentiles
from streamseg.core.types import State
from streamseg.core.view import Command, View
from streamseg.web.client import BEAT_S, Client, Dropped, number
from streamseg.web.message import Packet, encode_jpeg
from streamseg.web.status import Status

_LOG = logging.getLogger(__name__)
_COMMANDS = 8
_FAREWELL_S = 0.2


class Hub:
    """The pages connected to one server.

    ``rate`` is the maximum number of views per second, ``quality`` that of the JPEGs (1..100), ``clients``
    the maximum number of pages; ``hello`` is sent to each new page; ``record`` allows pages to ask for
    recording, False ignores that and None ends the connection; ``proxied``: a proxy is in front.
    ``max_side`` limits the longer side of images, in pixels, and ``bare_rate`` the rate of views without a
    segmentation in an unchanged state: for pages that show many streams at a time.
    """

    def __init__(
        self,
        status: Status,
        *,
        rate: float,
        quality: int,
        clients: int,
        hello: dict[str, Any],
        record: bool | None,
        proxied: bool = False,
        max_side: int | None = None,
        bare_rate: float | None = None,
    ) -> None:
        self.status = status
        self.failure: SinkError | None = None
        """Why no frame can be shown; raised in the loop's thread."""
        self._interval_ns = round(1e9 / rate)
        self._bare_extra_ns = round(1e9 / (bare_rate or rate)) - self._interval_ns
        self._max_side = max_side
        self._quality, self._max_clients, self._hello, self._record = quality, clients, hello, record
        self._proxied = proxied
        self._commands: deque[Command] = deque(maxlen=_COMMANDS)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waking = False
        self._clients: dict[int, Client] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="streamseg-web-jpeg")
        self._packet: Packet | None = None
        self._preparing: asyncio.Task[Packet] | None = None
        self._news = asyncio.Event()
        """Set when there is a new view."""
        self._images = 0
        self._due_ns = 0

    # Any thread

    def show(self, view: View, now_ns: int) -> None:
        """Set the view that pages get from now on."""
        self.status.note(view, now_ns)
        self.wake()

    def wake(self) -> None:
        """Send the status's view to the pages, which is a new one."""
        with self._lock:
            loop = self._loop
            if loop is None or self._waking:
                return
            self._waking = True
            loop.call_soon_threadsafe(self._wake)

    def commands(self) -> list[Command]:
        """Commands from the pages since the last call."""
        commands = []
        while self._commands:
            commands.append(self._commands.popleft())
        return commands

    @property
    def places(self) -> int:
        """Maximum number of pages at a time."""
        return self._max_clients

    @property
    def connected(self) -> int:
        """Number of connected pages."""
        return len(self._clients)

    # The event loop

    def open(self) -> None:
        """Start in the running event loop."""
        with self._lock:
            self._loop = asyncio.get_running_loop()

    async def close(self) -> None:
        """Accept no more views, and tell the pages that this is the end: silence would be a lost link."""
        with self._lock:
            self._loop = None
        self._pool.shutdown(wait=False, cancel_futures=True)
        view = self.status.view
        end = {"end": (State.STARTING if view is None else view.state).value}
        tasks = [asyncio.ensure_future(client.say(end)) for client in self._clients.values()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_FAREWELL_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def ages(self) -> dict[int, Percentiles]:
        """The ages measured by each page, by slot."""
        return {slot: client.ages for slot, client in self._clients.items()}

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one page until it leaves or is dropped."""
        await websocket.accept()
        viewer = self._viewer(websocket)
        slot = self._place_for(viewer)
        if slot is None:
            await websocket.close(1013, f"all {self._max_clients} places are taken")
            return
        client = self._clients[slot] = Client(slot, websocket, viewer)
        tasks = [asyncio.ensure_future(work(client)) for work in (self._send, self._receive)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if self._clients.get(slot) is client:
                del self._clients[slot]
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        await _close(websocket, ends, ending=self._loop is None)

    def _place_for(self, viewer: str) -> int | None:
        """A free place; if there is none, the newest of the viewer that has the most.

        So whoever opens pages without end cannot lock others out. None if that viewer would then have as few
        as the new one.
        """
        for slot in range(self._max_clients):
            if slot not in self._clients:
                return slot
        counts = Counter(client.viewer for client in self._clients.values())
        ((crowd, most),) = counts.most_common(1)
        if counts[viewer] + 2 > most:
            return None
        of_crowd = [slot for slot, client in self._clients.items() if client.viewer == crowd]
        slot = max(of_crowd, key=lambda slot: self._clients[slot].since_ns)
        self._clients[slot].displace(f"others need this place; {crowd} had {most} of {self._max_clients}")
        return slot

    def _viewer(self, websocket: WebSocket) -> str:
        """The address that a page comes from; behind a proxy the one that the proxy has noted last.

        It decides who shares places and nothing else: without a proxy anyone could send that header.
        """
        address = "" if websocket.client is None else websocket.client.host
        if self._proxied:
            address = websocket.headers.get("x-forwarded-for", "").rpartition(",")[2].strip() or address
        with contextlib.suppress(ValueError):
            found = ipaddress.ip_address(address.strip("[]").partition("%")[0])
            # Everybody has a whole network of addresses in IPv6.
            return str(ipaddress.ip_network((found, 64 if found.version == 6 else 32), strict=False)[0])
        return "an unknown address"

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
            elif values.get("command") == Command.RECORD.value and self._record is not None:
                if self._record:
                    self._commands.append(_recording_command(values))
            else:
                raise Dropped(1003, "an unknown message")

    def _wake(self) -> None:
        with self._lock:
            self._waking = False
        self._news.set()
        for client in self._clients.values():
            client.wake.set()

    async def _newest(self) -> Packet:
        """The packet of the newest view; all waiting pages share it."""
        view, packet = self.status.view, self._packet
        if packet is not None and view is not None and packet.view.number == view.number:
            return packet
        if self._preparing is None or self._preparing.done():
            self._preparing = asyncio.ensure_future(self._prepare())
        return await asyncio.shield(self._preparing)

    async def _prepare(self) -> Packet:
        while (wait_s := (self._due() - time.monotonic_ns()) / 1e9) > 0:
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._news.wait()
        now = time.monotonic_ns()
        # One interval may be caught up: jitter must not thin out a source as fast as the limit.
        self._due_ns = max(self._due_ns, now - self._interval_ns) + self._interval_ns
        view, last = self.status.view, self._packet
        assert view is not None  # Views are never taken back.
        if view.frame is None or view.roi is None:
            packet = Packet(view, 0, b"")
        elif (
            last is not None
            and last.image_number
            and last.view.frame is view.frame
            and last.view.roi == view.roi
        ):
            packet = Packet(view, last.image_number, last.jpeg)
        else:
            jpeg = await self._encode(view)
            self._images += 1
            packet = Packet(view, self._images, jpeg)
        self._packet = packet
        return packet

    def _due(self) -> int:
        """When the newest view may be sent, monotonic nanoseconds."""
        view, last = self.status.view, self._packet
        bare = view is not None and view.segmentation is None
        same = last is not None and view is not None and last.view.state is view.state
        return self._due_ns + (self._bare_extra_ns if bare and same else 0)

    async def _encode(self, view: View) -> bytes:
        assert view.frame is not None
        assert view.roi is not None
        loop = asyncio.get_running_loop()
        try:
            work = loop.run_in_executor(
                self._pool, encode_jpeg, view.frame, view.roi, self._quality, self._max_side
            )
        except RuntimeError as error:  # the pool was shut down: the display is being closed
            raise Dropped(1001, "the program has ended") from error
        try:
            return await work
        except SinkError as error:
            self.failure = error
            raise


def _recording_command(values: dict[str, Any]) -> Command:
    """The command in a page's message: ``on`` true or false; without it, a toggle. Raises Dropped."""
    wish = values.get("on")
    if wish is None:
        return Command.RECORD
    if not isinstance(wish, bool):
        raise Dropped(1003, "a message asks for a recording that is neither on nor off")
    return Command.START_RECORDING if wish else Command.STOP_RECORDING


async def _close(websocket: WebSocket, ends: list[BaseException | None], *, ending: bool) -> None:
    """Close the connection with the reason, if the page still listens; while ``ending``, it knows that."""
    dropped = [end for end in ends if isinstance(end, Dropped)]
    known = (Dropped, asyncio.CancelledError, WebSocketDisconnect, SinkError, type(None))
    code, reason = (dropped[0].code, dropped[0].reason) if dropped else (1011, "the server failed")
    if ending:
        code, reason = 1001, ""
    try:
        async with asyncio.timeout(_FAREWELL_S):
            await websocket.close(code, reason)
    except (TimeoutError, RuntimeError, WebSocketDisconnect):
        pass  # It is gone, or accepts no data.
    for end in ends:
        if not isinstance(end, known):
            _LOG.error("the connection of a page failed", exc_info=end)
