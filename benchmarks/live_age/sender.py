"""A machine that streams: a real RTSP server whose every image shows when it was handed to the encoder.

    python -m benchmarks.live_age.sender FPS

A process of its own, so that it takes no part in what is measured but processor time. Prints the address, and
streams until its standard input ends. Sender and receiver share the machine's monotonic clock.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.common import HEIGHT, WIDTH, images_of_phantom, stamped
from streamseg.benchmark.provenance import ROOT
from tests.rtsp_server.server import feeding, serve

KBITS = 4000
SECONDS = 4


def main() -> None:
    """Command line."""
    fps = int(sys.argv[1])
    images = images_of_phantom(SECONDS * fps, fps)
    # Forwards and backwards, so that no jump costs the encoder bits.
    images += images[-2:0:-1]

    def picture(number: int) -> object:
        return stamped(images[number % len(images)], time.monotonic_ns())

    settings = {"width": WIDTH, "height": HEIGHT, "fps": fps, "bitrate": KBITS, "gop": fps, "stdin": True}
    with serve(**settings) as server, feeding(server, picture):  # type: ignore[arg-type]
        print(server.url, flush=True)
        sys.stdin.read()


@contextmanager
def sending(fps: int) -> Iterator[str]:
    """The address of a stream at this rate."""
    command = [sys.executable, "-m", "benchmarks.live_age.sender", str(fps)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise SystemExit("the RTSP server did not start; it needs gst-rtsp-server, see .ci/packages")
        yield url
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
