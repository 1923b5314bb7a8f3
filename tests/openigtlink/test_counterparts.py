"""Others as counterparts: the C++ library of Debian's libopenigtlink-dev, and pyigtl."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from streamseg.capture.live import open_live
from tests.openigtlink.viewer import Viewer, serving
from tests.optional import needs
from tests.waiting import wait_for
from tests.web.views import HEIGHT, WIDTH, contours_of, stills, view

HEADERS = Path("/usr/include/openigtlink")
needs_library = pytest.mark.skipif(
    not (HEADERS.is_dir() and shutil.which("g++")), reason="no g++ with libopenigtlink-dev here; install both"
)


@pytest.fixture(scope="module")
def counterpart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("igtl") / "counterpart"
    source = Path(__file__).parent / "counterpart.cpp"
    subprocess.run(
        ["g++", "-O0", f"-I{HEADERS}", "-o", program, source, "-lOpenIGTLink", "-lpthread"],
        check=True,
        capture_output=True,
    )
    return program


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@needs_library
@pytest.mark.slow
@pytest.mark.parametrize("colour", [False, True])
def test_the_library_accepts_every_message(counterpart: Path, colour: bool) -> None:
    with serving() as display:
        display.show(view(1, budget_s=60.0, colour=colour))
        with Viewer(display.port) as viewer:
            viewer.read_until("State")
        done = subprocess.run(
            [counterpart, "view", str(display.port), "4"],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
    image, mask, _ = stills()[0][1]
    contours = contours_of(mask)
    (row, column) = stills()[1]
    lines = [line.split(" ", 4) for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == ["intact"] * 4
    assert [line[1] for line in lines] == ["IMAGE", "IMAGE", "POLYDATA", "STRING"]
    assert [line[2] for line in lines] == ["Ultrasound", "Labels", "nerve", "State"]
    for line, message in zip(lines, viewer.messages, strict=True):
        assert float(line[3]) == pytest.approx(message.header.sent_ns / 1e9, abs=1e-5)
    channels = 3 if colour else 1
    centre = f"{(WIDTH - 1) / 2 * column:.3f} {(HEIGHT - 1) / 2 * row:.3f}"
    assert lines[0][4] == (
        f"{WIDTH}x{HEIGHT}x1 {column:.4f} {row:.4f} at {centre} sum {channels * int(image.sum())}"
    )
    assert lines[1][4].endswith(f"sum {int(mask.sum())}")
    assert lines[2][4] == f"{sum(map(len, contours))} points {len(contours)} lines"
    assert lines[3][4].startswith('{"state": "nerve"')


@pytest.fixture
def sender(counterpart: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The library as a server of images with so many components; its address."""
    port = free_port()
    process = subprocess.Popen(
        [counterpart, "send", str(port), str(request.param)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield f"igtl://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@needs_library
@pytest.mark.slow
@pytest.mark.parametrize("sender", [1, 3], indirect=True)
def test_images_of_the_library_are_read(sender: str) -> None:
    with open_live(sender) as source:
        frames = [frame for frame, _ in zip(source, range(5), strict=False)]
        assert source.info.clock == "driver"
    assert (source.info.width, source.info.height) == (64, 48)
    first = frames[0].image
    if first.ndim == 2:
        assert np.array_equal(first[0], np.arange(64))
    else:
        assert first[0, 0].tolist() == [20, 10, 0], "blue, green, red"
    assert frames[0].spacing_mm == pytest.approx((0.1, 0.1))
    ages = [time.monotonic_ns() - frame.captured_ns for frame in frames]
    assert min(ages) > 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_pyigtl_as_a_viewer(monkeypatch: pytest.MonkeyPatch) -> None:
    needs("pyigtl")
    import pyigtl

    # Version 0.3.4 cannot read any POLYDATA: it indexes a struct.Struct, and connects anew.
    monkeypatch.setattr(pyigtl.messages.PolyDataMessage, "_unpack_content", lambda self, content: None)
    image, mask, _ = stills()[0][1]
    with serving() as display:
        display.show(view(1, budget_s=60.0, colour=False))
        client = pyigtl.OpenIGTLinkClient(port=display.port)
        try:
            shown = client.wait_for_message("Ultrasound", timeout=60)
            labels = client.wait_for_message("Labels", timeout=60)
            state = client.wait_for_message("State", timeout=60)
        finally:
            client.stop()
    assert np.array_equal(shown.image[0], image)
    assert np.array_equal(labels.image[0], mask)
    assert shown.timestamp == labels.timestamp == state.timestamp
    assert state.string.startswith('{"state": "nerve"')
    assert np.diag(shown.ijk_to_world_matrix)[:2] == pytest.approx(stills()[1][::-1])


def test_pyigtl_as_a_sender() -> None:
    needs("pyigtl")
    import pyigtl

    port = free_port()
    server = pyigtl.OpenIGTLinkServer(port=port, local_server=True)
    image = np.arange(48 * 64, dtype=np.uint8).reshape(1, 48, 64)
    try:
        source = None

        def opened() -> object:
            nonlocal source
            server.send_message(pyigtl.ImageMessage(image, device_name="Image"), wait=False)
            try:
                source = open_live(f"igtl://127.0.0.1:{port}/Image")
            except Exception:
                return None
            return source

        wait_for(opened, "an image")
        assert source is not None
        frame = next(iter(source))
        source.close()
    finally:
        server.stop()
    assert np.array_equal(frame.image, image[0])
    assert frame.spacing_mm is None, "1 mm per pixel is no calibration"
