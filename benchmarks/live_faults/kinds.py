"""The faults: what goes wrong, how it begins and ends, and the run that it happens to."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.live_faults.account import Moments, account
from benchmarks.live_faults.scene import Counter, DiscEngine, Feeder, Glass, Watchdog, picture, wait_for
from streamseg.capture.live import CaptureOptions, open_live
from streamseg.core.view import RunObserver
from streamseg.live import LiveLoop, LiveOptions, LiveReport
from streamseg.recording import Recorder
from streamseg.segmentation.segmenter import Segmenter
from tests.capture.v4l2.device import PATH, EmulatedDevice, Mode, emulated_device
from tests.rtsp_server.proxy import Proxy
from tests.rtsp_server.server import Server, why_not

GOOD_S = 1.5
BACK_S = 20.0
AFTER_S = 1.0
OPEN_S = 30.0
DISK_BYTES = 6 << 20


class Scene:
    """Everything that a fault can touch."""

    server: Server
    proxy: Proxy
    feeder: Feeder
    device: EmulatedDevice
    watchdog: Watchdog

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine, self.glass, self.counter = DiscEngine(), Glass(), Counter()
        self.stop = threading.Event()
        self.recording: Recorder | None = None


Act = Callable[[Scene], object]


@dataclass(frozen=True, slots=True)
class Fault:
    """``begin``, so many seconds, ``end``.

    ``kind`` is rtsp, proxy (RTSP through it), v4l2 (with its pixel format) or disk (RTSP, and a recording).
    """

    name: str
    seconds: float
    begin: Act
    end: Act
    kind: str = "rtsp"
    from_start: bool = False
    """It is there before the run begins."""


def _nothing(scene: Scene) -> None:
    pass


def _set(part: str, **values: Any) -> Act:
    def act(scene: Scene) -> None:
        for name, value in values.items():
            setattr(getattr(scene, part), name, value)

    return act


def _cut(refuse: bool) -> Act:
    def act(scene: Scene) -> None:
        scene.proxy.refusing = refuse
        scene.proxy.cut()

    return act


def _restart(**options: Any) -> Act:
    return lambda scene: scene.server.restart(**options)


def _kill(scene: Scene) -> None:
    scene.server.kill()


def _device(**settings: str) -> Act:
    return lambda scene: scene.device.set(**settings)


def _fill(scene: Scene) -> None:
    """Leave no byte free."""
    try:
        with (scene.folder / "disk" / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
    except OSError:
        pass


FAULTS = [
    Fault("server not there at start", 3.0, _nothing, _restart(), from_start=True),
    Fault("server killed", 2.0, _kill, _restart()),
    Fault("server stalled (SIGSTOP), short", 1.0, lambda s: s.server.stop(), lambda s: s.server.cont()),
    Fault("server stalled (SIGSTOP), long", 3.5, lambda s: s.server.stop(), lambda s: s.server.cont()),
    Fault("restarted with another size", 1.0, _kill, _restart(width=480, height=360)),
    Fault("restarted with another codec", 1.0, _kill, _restart(codec="h265")),
    Fault("connection cut", 0.0, _cut(refuse=False), _nothing, "proxy"),
    Fault("connection cut, then refused", 2.0, _cut(refuse=True), _set("proxy", refusing=False), "proxy"),
    Fault("bytes corrupted", 3.0, _set("proxy", corrupt_rate=1e-4), _set("proxy", corrupt_rate=0.0), "proxy"),
    Fault("network stalled, short", 1.0, _set("proxy", stalled=True), _set("proxy", stalled=False), "proxy"),
    Fault("network stalled, long", 3.5, _set("proxy", stalled=True), _set("proxy", stalled=False), "proxy"),
    Fault(
        "network slower by 0.3 s",
        2.0,
        _set("proxy", delay_seconds=0.3),
        _set("proxy", delay_seconds=0.0),
        "proxy",
    ),
    Fault("grabber stalled, short", 1.0, _device(state="stall"), _device(state="run"), "v4l2 yuyv"),
    Fault("grabber stalled, long", 3.5, _device(state="stall"), _device(state="run"), "v4l2 yuyv"),
    Fault("grabber unplugged", 2.0, lambda s: s.device.unplug(), lambda s: s.device.plug(), "v4l2 yuyv"),
    Fault("grabber marks buffers as bad", 2.0, _device(damage="flag"), _device(damage="none"), "v4l2 yuyv"),
    Fault("grabber truncates JPEGs", 2.0, _device(damage="short"), _device(damage="none"), "v4l2 mjpeg"),
    Fault("scanner frozen", 3.0, _set("feeder", frozen=True), _set("feeder", frozen=False)),
    Fault("engine slow (300 ms)", 2.0, _set("engine", delay_s=0.3), _set("engine", delay_s=0.025)),
    Fault("engine fails", 0.0, _set("engine", broken=True), _nothing),
    Fault("display slow (300 ms a picture)", 2.0, _set("glass", put_s=0.3), _set("glass", put_s=0.0)),
    Fault("disk full while recording", 2.0, _fill, lambda s: (s.folder / "disk/filler").unlink(), "disk"),
]


@dataclass(frozen=True, slots=True)
class Ready:
    """How a fault's process is started; ``missing`` says why it cannot be."""

    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    wrap: tuple[str, ...] = ()
    missing: str = ""


@contextmanager
def prepared(fault: Fault, folder: Path) -> Iterator[Ready]:
    """What a fault's process needs before it starts: the grabber below it, or a small disk."""
    if not fault.kind.startswith("v4l2") and why_not():
        yield Ready(missing=why_not())
    elif fault.kind.startswith("v4l2"):
        if shutil.which("gcc") is None:
            yield Ready(missing="the emulated grabber is compiled with gcc, which is not here")
            return
        modes = [Mode(code, 320, 240) for code in ("YUYV", "MJPG")]
        with emulated_device(folder, [picture(number) for number in range(64)], modes=modes) as device:
            yield Ready(environment=device.env)
    elif fault.kind == "disk":
        disk = folder / "disk"
        disk.mkdir()
        wrap = (
            "unshare",
            "-rm",
            "sh",
            "-c",
            f'mount -t tmpfs -o size={DISK_BYTES} tmpfs {disk} && exec "$@"',
        )
        can = shutil.which("unshare") and not subprocess.run([*wrap, "sh", "true"], check=False).returncode
        yield Ready(wrap=(*wrap, "sh")) if can else Ready(missing="no small disk can be mounted (unshare)")
    else:
        yield Ready()


def run_one(name: str, folder: Path) -> dict[str, Any]:
    """Run one fault in this process, which was started as :func:`prepared` says."""
    fault = next(fault for fault in FAULTS if fault.name == name)
    scene = Scene(folder)
    with ExitStack() as opened:
        address, options = _open(scene, fault, opened)
        found: list[Moments] = []
        script = threading.Thread(target=_play, args=(scene, fault, found), name="fault-script")
        observers: list[RunObserver] = [scene.counter, *([scene.recording] if scene.recording else [])]
        live = LiveOptions(reconnect=True)
        scene.watchdog = Watchdog()
        opened.callback(scene.watchdog.close)
        script.start()
        report = LiveLoop(
            lambda: open_live(address, options),
            Segmenter(scene.engine),
            live,
            displays=[scene.glass],
            observers=observers,
        ).run(scene.stop)
        scene.stop.set()
        script.join()
    if not found:
        raise report.error or SystemExit(f"no outline within {OPEN_S:.0f} s, before the fault")
    sent = scene.feeder.sent_ns if hasattr(scene, "feeder") else {}
    return {
        **account(scene.glass, scene.counter, found[0], live.age_budget_s, sent),
        **_ending(scene, report),
    }


def _open(scene: Scene, fault: Fault, opened: ExitStack) -> tuple[str, CaptureOptions]:
    """Start the source; its address and how it is opened."""
    if fault.kind.startswith("v4l2"):
        scene.device = EmulatedDevice(scene.folder / "v4l2-control")
        return f"v4l2:{PATH}", CaptureOptions(pixel_format=fault.kind.split()[1])
    scene.server = Server(stdin=True, fps=30)
    opened.callback(scene.server.close)
    scene.feeder = Feeder(scene.server)
    opened.callback(scene.feeder.close)
    scene.proxy = opened.enter_context(Proxy(scene.server.port))
    if fault.from_start:
        scene.server.kill()
    if fault.kind == "disk":
        scene.recording = Recorder(scene.folder / "disk", header={}, full_frame=True, min_free=0)
    return scene.proxy.url() if fault.kind == "proxy" else scene.server.url, CaptureOptions()


def _play(scene: Scene, fault: Fault, found: list[Moments]) -> None:
    """Let the fault happen, and end the run; finds nothing where there was never an outline."""
    glass, stop = scene.glass, scene.stop
    try:
        if not fault.from_start:
            if not wait_for(lambda: glass.outline_after(0), OPEN_S, stop):
                return
            stop.wait(GOOD_S)
        began = time.monotonic_ns()
        fault.begin(scene)
        stop.wait(fault.seconds)
        fault.end(scene)
        ended = time.monotonic_ns()
        wait_for(lambda: glass.outline_after(ended), BACK_S, stop)
        back = glass.outline_after(ended)
        stop.wait(AFTER_S)
        found.append(Moments(began, ended, back, time.monotonic_ns()))
    finally:
        stop.set()


def _ending(scene: Scene, report: LiveReport) -> dict[str, Any]:
    more = [] if report.error is None else [f"the run ended: {report.error}"]
    if scene.recording is not None:
        more.append(scene.recording.status())
    return {
        "reconnects": report.reconnects,
        "held_up_ms": scene.watchdog.longest_s * 1e3,
        "more": "; ".join(more),
    }
