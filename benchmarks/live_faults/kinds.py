"""The faults: what goes wrong, how it begins and ends, and the run that it happens to."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.live_faults import stream
from benchmarks.live_faults.account import Moments, account, changes, misplaced_s, settled
from benchmarks.live_faults.scene import (
    BLACK,
    FPS,
    MENU,
    NO_SIGNAL,
    OTHER,
    SCREEN,
    USUAL,
    Counter,
    DiscEngine,
    Feeder,
    Glass,
    Watchdog,
    picture,
    wait_for,
)
from streamseg.capture.live import CaptureOptions, open_live
from streamseg.capture.screen.region import ImageRegion
from streamseg.core.types import Source, State
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
STEADY_S = 8.0
"""Changes of the state of a slow source are counted over the last seconds of it."""


class Scene:
    """Everything that a fault can touch."""

    server: Server
    proxy: Proxy
    rewriter: stream.Rewriter
    feeder: Feeder
    device: EmulatedDevice
    watchdog: Watchdog

    def __init__(self, folder: Path, *, on_screen: bool) -> None:
        self.folder = folder
        self.engine, self.counter = DiscEngine(), Counter()
        self.glass = Glass((USUAL, OTHER) if on_screen else ())
        self.open_files = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.stop = threading.Event()
        self.recording: Recorder | None = None


Act = Callable[[Scene], object]


@dataclass(frozen=True, slots=True)
class Fault:
    """``begin``, a number of seconds, ``end``.

    ``kind`` is rtsp, proxy or rewriter (RTSP through it), screen (RTSP; the image is a part of it that is
    searched for), v4l2 (with its pixel format) or disk (RTSP, and a recording).
    """

    name: str
    seconds: float
    begin: Act
    end: Act
    kind: str = "rtsp"
    from_start: bool = False
    """It is there before the run begins."""
    stays: bool = False
    """It does not end: what counts is the time from its beginning until the right state is back."""
    right: State = State.NERVE
    fps: int = FPS
    server: dict[str, Any] = field(default_factory=dict)
    """More options of the server."""


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


def _rewrite(rewrite: Callable[[], stream.Rewrite]) -> Act:
    def act(scene: Scene) -> None:
        scene.rewriter.rewrite = rewrite()

    return act


_pass_unchanged = _rewrite(lambda: stream.unchanged)


def _lose_one(scene: Scene) -> None:
    """Lose a packet, and the receiver's request for a key frame."""
    scene.rewriter.deaf = True
    scene.rewriter.rewrite = stream.without_one()


def _no_files(scene: Scene) -> None:
    """Let this process open no more files, and lose the connection."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, scene.open_files[1]))
    scene.server.kill()


def _files(scene: Scene) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, scene.open_files)
    scene.server.restart()


def _fill(scene: Scene) -> None:
    """Leave no byte free."""
    try:
        with (scene.folder / "disk" / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
    except OSError:
        pass


FAULTS = [
    Fault("server not there at start", 3.0, _kill, _restart(), from_start=True),
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
    *(
        Fault(
            f"{what} at start, then the image",
            4.0,
            _set("feeder", instead=shown),
            _set("feeder", instead=None),
            "screen",
            from_start=True,
        )
        for what, shown in (('"NO SIGNAL"', NO_SIGNAL), ("black", BLACK), ("a menu", MENU))
    ),
    Fault(
        "another layout at the same frame size (stays)",
        5.0,
        _set("feeder", place=OTHER),
        _nothing,
        "screen",
        stays=True,
    ),
    Fault("menu over the screen", 4.0, _set("feeder", instead=MENU), _set("feeder", instead=None), "screen"),
    Fault(
        "source of 5 fps (stays)",
        10.0,
        _nothing,
        _nothing,
        from_start=True,
        stays=True,
        right=State.SLOW,
        fps=5,
    ),
    *(
        Fault(
            f"{what} (stays)",
            8.0,
            _rewrite(lambda pace=pace: stream.paced(pace)),  # type: ignore[misc]
            _nothing,
            "rewriter",
            from_start=True,
            stays=True,
            fps=fps,
        )
        for what, pace, fps in (
            ("stamped at 30 fps, delivered at 25", 25 / 30, 25),
            ("stamped at 25 fps, delivered at 24", 24 / 25, 24),
            ("time stamps stand still", 0.0, 30),
            ("time stamps in milliseconds", 1 / 90, 30),
        )
    ),
    Fault(
        "one time stamp 0.9 s ahead",
        2.0,
        _rewrite(lambda: stream.shifted(0.9, pictures=1)),
        _pass_unchanged,
        "rewriter",
    ),
    Fault(
        "time stamps step back by 0.9 s (stays)",
        6.0,
        _rewrite(lambda: stream.shifted(-0.9)),
        _nothing,
        "rewriter",
        stays=True,
    ),
    Fault(
        "backlog of 1 s",
        6.0,
        _set("proxy", delay_seconds=1.0),
        _set("proxy", delay_seconds=0.0),
        "proxy",
    ),
    *(
        Fault(f"{what} (stays)", 4.0, _rewrite(make), _nothing, "rewriter", stays=True, server={"slices": 4})
        for what, make in (
            ("marker on every NAL unit", lambda: stream.EVERY_UNIT),
            ("marker on every slice", lambda: stream.EVERY_SLICE),
            ("NAL units of unknown types", lambda: stream.with_more(stream.UNKNOWN)),
            ("packets of padding alone", lambda: stream.with_more(stream.PADDING)),
            ("end of sequence after every picture", lambda: stream.ended),
        )
    ),
    Fault(
        "packet lost, next key frame in seconds", 0.0, _lose_one, _nothing, "rewriter", server={"gop": 180}
    ),
    Fault("no more files can be opened (EMFILE)", 2.0, _no_files, _files),
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
    scene = Scene(folder, on_screen=fault.kind == "screen")
    with ExitStack() as opened:
        address, options = _open(scene, fault, opened)
        found: list[Moments] = []
        script = threading.Thread(target=_play, args=(scene, fault, found), name="fault-script")
        observers: list[RunObserver] = [scene.counter, *([scene.recording] if scene.recording else [])]
        live = LiveOptions(reconnect=True)
        scene.watchdog = Watchdog()
        opened.callback(scene.watchdog.close)
        script.start()

        def opened_source() -> Source:
            return open_live(address, options, on_wait=loop.on_wait)

        loop = LiveLoop(
            opened_source,
            Segmenter(scene.engine),
            live,
            region=ImageRegion(search=fault.kind == "screen"),
            displays=[scene.glass],
            observers=observers,
        )
        report = loop.run(scene.stop)
        scene.stop.set()
        script.join()
    if not found:
        raise report.error or SystemExit(f"no outline within {OPEN_S:.0f} s, before the fault")
    sent = scene.feeder.sent_ns if hasattr(scene, "feeder") else {}
    return {
        **account(scene.glass, scene.counter, found[0], live.age_budget_s, sent, fps=fault.fps),
        **_ending(scene, fault, found[0], report),
    }


def _open(scene: Scene, fault: Fault, opened: ExitStack) -> tuple[str, CaptureOptions]:
    """Start the source; its address and how it is opened."""
    if fault.kind.startswith("v4l2"):
        scene.device = EmulatedDevice(scene.folder / "v4l2-control")
        return f"v4l2:{PATH}", CaptureOptions(pixel_format=fault.kind.split()[1])
    on_screen = fault.kind == "screen"
    size = {"width": SCREEN[1], "height": SCREEN[0], "bitrate": 4000} if on_screen else {}
    scene.server = Server(stdin=True, fps=fault.fps, **size, **fault.server)
    opened.callback(scene.server.close)
    scene.feeder = Feeder(scene.server, fault.fps, USUAL if on_screen else None)
    opened.callback(scene.feeder.close)
    scene.proxy = opened.enter_context(Proxy(scene.server.port))
    scene.rewriter = opened.enter_context(stream.Rewriter(scene.server.port))
    if fault.from_start:
        fault.begin(scene)
    if fault.kind == "disk":
        scene.recording = Recorder(scene.folder / "disk", header={}, full_frame=True, min_free=0)
    proxies = {"proxy": scene.proxy, "rewriter": scene.rewriter}
    proxy = proxies.get(fault.kind)
    return scene.server.url if proxy is None else proxy.url(), CaptureOptions()


def _play(scene: Scene, fault: Fault, found: list[Moments]) -> None:
    """Let the fault happen, and end the run; finds nothing where there was never an outline."""
    glass, stop = scene.glass, scene.stop
    try:
        if not fault.from_start:
            if not wait_for(lambda: glass.outline_after(0), OPEN_S, stop):
                return
            stop.wait(GOOD_S)
        began = time.monotonic_ns()
        if not fault.from_start:
            fault.begin(scene)
        elif fault.stays:
            if not wait_for(lambda: scene.counter.offered_ns, OPEN_S, stop):
                return
            began = scene.counter.offered_ns[0]
        stop.wait(fault.seconds)
        if fault.stays:
            ended = time.monotonic_ns()
            back = settled(list(glass.seen), fault.right, began, ended)
            found.append(Moments(began, ended, back, ended, stays=True))
            return
        fault.end(scene)
        ended = time.monotonic_ns()
        wait_for(lambda: glass.outline_after(ended), BACK_S, stop)
        back = glass.outline_after(ended)
        stop.wait(AFTER_S)
        found.append(Moments(began, ended, back, time.monotonic_ns()))
    finally:
        stop.set()


def _ending(scene: Scene, fault: Fault, moments: Moments, report: LiveReport) -> dict[str, Any]:
    more = [] if report.error is None else [f"the run ended: {report.error}"]
    more += report.notes
    if elsewhere_s := misplaced_s(scene.glass.seen, moments.stopped):
        more.append(f"in a region that was not the image's for {elsewhere_s:.2f} s")
    if fault.right is State.SLOW:
        count = changes(scene.glass.seen, moments.ended - round(STEADY_S * 1e9), moments.ended)
        more.append(f"{count} changes of state in the last {STEADY_S:.0f} s")
    if scene.recording is not None:
        more.append(scene.recording.status())
    return {
        "reconnects": report.reconnects,
        "held_up_ms": scene.watchdog.longest_s * 1e3,
        "more": "; ".join(more),
    }
