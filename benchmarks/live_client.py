"""A web page's part of the conversation, without a browser: takes every view and answers it at once.

    python -m benchmarks.live_client URL

Prints ``connected`` once the server has greeted it, and how many views and bytes came once it is gone.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from streamseg.benchmark.provenance import ROOT


def main() -> None:
    """Command line."""
    address = sys.argv[1].replace("http://", "ws://").rstrip("/") + "/ws"
    views = received = 0
    with connect(address, max_size=None, compression=None, close_timeout=0.2) as link:
        link.recv(timeout=10)
        print("connected", flush=True)
        try:
            for message in link:
                received += len(message)
                if isinstance(message, str):  # a sign of life
                    continue
                (length,) = struct.unpack_from("<I", message)
                body = json.loads(message[4 : 4 + length])
                views += 1
                link.send(json.dumps({"ack": body["view"], "age": None}))
        except ConnectionClosed:
            pass
    print(views, received, flush=True)


@contextmanager
def connected(url: str) -> Iterator[subprocess.Popen[str]]:
    """A client in a process of its own, connected; its last line tells what it got."""
    command = [sys.executable, "-m", "benchmarks.live_client", url]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "connected":
            raise RuntimeError(f"no client could connect to {url}")
        yield process
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    main()
