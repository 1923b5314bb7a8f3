"""A page without a browser: reads the tiles of all streams and answers them, in a process of its own.

``python -m streamseg.benchmark.streams.page_client ws://HOST:PORT/ PATH ...`` prints ``ready`` once all
sockets are open, and, when its input ends, the ages of the outlines that arrived: for each path a list of
pairs, when the frame was captured and how old it was on arrival, both nanoseconds. It runs on the server's
machine, whose monotonic clock it reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from streamseg.core.errors import StallError

Arrivals = list[list[tuple[int, int]]]
"""For each path, when each outline's frame was captured, and its age on arrival; nanoseconds."""
READY_S = 60.0
"""Time in which all sockets have to be open."""


class PageClient:
    """The client's process, from its start to :meth:`close`."""

    def __init__(self, address: str, paths: Sequence[str]) -> None:
        """Open the sockets at ``address``, as that of a page, followed by each path. Raises StallError."""
        command = [sys.executable, "-m", __name__, address.replace("http://", "ws://", 1), *paths]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with ThreadPoolExecutor(1) as pool:
            line = pool.submit(self._read)
            with contextlib.suppress(TimeoutError):
                if line.result(READY_S) == b"ready\n":
                    return
            self._process.kill()
        raise StallError(f"no page could be opened at {address} within {READY_S:g} s")

    def _read(self) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def arrivals(self) -> Arrivals:
        """End it; what arrived at each path."""
        out, _ = self._process.communicate(b"", timeout=READY_S)
        return [[(captured, age) for captured, age in each] for each in json.loads(out)]

    def close(self) -> None:
        """End it in any case."""
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def watched(address: str, paths: Sequence[str]) -> Iterator[PageClient]:
    """A client for the ``with`` block."""
    client = PageClient(address, paths)
    try:
        yield client
    finally:
        client.close()


async def _watch(url: str, arrivals: list[tuple[int, int]], opened: asyncio.Barrier) -> None:
    origin = url.replace("ws://", "http://", 1).split("/", 3)
    async with connect(url, origin="/".join(origin[:3]), proxy=None, max_size=None) as socket:  # type: ignore[arg-type]
        await opened.wait()
        with contextlib.suppress(ConnectionClosed):
            async for message in socket:
                if isinstance(message, str):
                    continue
                now_ns = time.monotonic_ns()
                (length,) = struct.unpack_from("<I", message)
                view = json.loads(message[4 : 4 + length])
                age = None
                captured_ns = round(view.get("captured", 0) * 1e6)
                # As the page does it: the same frame comes again with other figures.
                if "found" in view and (not arrivals or captured_ns != arrivals[-1][0]):
                    age = (now_ns - captured_ns) / 1e6
                    arrivals.append((captured_ns, now_ns - captured_ns))
                await socket.send(json.dumps({"ack": view["view"], "age": age, "at": now_ns / 1e6}))


async def _main(address: str, paths: Sequence[str]) -> Arrivals:
    arrivals: Arrivals = [[] for _ in paths]
    opened = asyncio.Barrier(len(paths) + 1)
    tasks = [
        asyncio.ensure_future(_watch(f"{address}{path}", each, opened))
        for path, each in zip(paths, arrivals, strict=True)
    ]
    await opened.wait()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return arrivals


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_main(sys.argv[1], sys.argv[2:]))))
