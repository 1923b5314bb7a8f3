"""The state of the run for other programs: health for a watchdog, metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest

from streamseg.core.latency import Percentiles
from streamseg.core.printable import printable
from streamseg.core.types import State
from streamseg.core.view import Figures, View

PATIENCE_S = 5.0
"""Time without a view, or with the segmentation lagging, after which the run counts as unhealthy."""
_MAX_TEXT = 300
_QUANTILES = ("0.5", "0.95", "0.99")


class Status:
    """Follows the views. ``note`` is called from the loop's thread, everything else from the server's."""

    def __init__(self, now_ns: int) -> None:
        self._started_ns = now_ns
        self._outlined_ns = now_ns
        """When an outline was displayed last."""
        self._now: tuple[View, int, int] | None = None
        """The newest view, its time, and since when its state has lasted; replaced atomically."""
        self._over = False

    def note(self, view: View, now_ns: int) -> None:
        """Record that a view was displayed at ``now_ns``."""
        last = self._now
        if view.segmentation is not None:
            self._outlined_ns = now_ns
        since = last[2] if last is not None and last[0].state is view.state else now_ns
        self._now = (view, now_ns, since)

    def end(self) -> None:
        """The stream has ended with its newest view, and the program goes on with others."""
        self._over = True

    @property
    def view(self) -> View | None:
        """The newest view."""
        return self._now[0] if self._now else None

    def quiet_s(self, now_ns: int) -> float:
        """Seconds since the last view, or since the start; 0 once the stream has ended."""
        if self._over:
            return 0.0
        return (now_ns - (self._now[1] if self._now else self._started_ns)) / 1e9

    def health(self, now_ns: int) -> dict[str, Any]:
        """``ok``, ``state``, ``reason``, ``seconds_since_frame`` (capture to now; null before the first).

        Not ok: the source is lost, the segmentation has lagged for more than 5 s, or there was no view for
        more than 5 s.
        """
        quiet = self.quiet_s(now_ns)
        if self._now is None:
            state, since, frame, reason = State.STARTING, self._started_ns, None, ""
        else:
            view, _, since = self._now
            state, frame, reason = view.state, view.frame, view.reason
        # A net that is a little too slow lags all the time, but its outlines come and go.
        lagging = state is State.LAGGING and (now_ns - max(since, self._outlined_ns)) / 1e9 > PATIENCE_S
        ok = state is not State.SOURCE_LOST and not lagging and quiet <= PATIENCE_S
        return {
            "ok": ok,
            "state": state.value,
            "reason": printable(reason)[:_MAX_TEXT]
            if quiet <= PATIENCE_S
            else f"the program has shown nothing new for {quiet:.0f} s",
            "seconds_in_state": round((now_ns - since) / 1e9, 3),
            "seconds_since_frame": None if frame is None else round((now_ns - frame.captured_ns) / 1e9, 3),
        }


@dataclass(frozen=True, slots=True)
class MeasuredStream:
    """One stream whose figures are exported."""

    status: Status
    ages: Callable[[], Mapping[int, Percentiles]]
    """The ages from capture until drawn, as measured by each page, by its slot."""
    number: int | None = None
    """1, 2, ...: the label ``stream`` of its samples; None for a program's only stream, which have none."""
    source: str = ""
    """Its name, without credentials: what the label ``source`` says of a numbered stream."""

    @property
    def labels(self) -> dict[str, str]:
        return {} if self.number is None else {"stream": str(self.number)}


class Metrics:
    """Exports the figures of the run, and the ages measured by the pages, in Prometheus text format."""

    def __init__(self, streams: Sequence[MeasuredStream]) -> None:
        self._streams = streams
        self._now_ns = 0
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self, now_ns: int) -> bytes:
        """The response body. Call it from one thread."""
        self._now_ns = now_ns
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Describes nothing in advance: the registry would collect everything once for that."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """The metrics; called by the registry."""
        families: dict[str, Metric] = {}
        for stream in self._streams:
            for family in _families(stream, self._now_ns):
                known = families.setdefault(family.name, family)
                if known is not family:
                    known.samples += family.samples
        return families.values()


def _families(stream: MeasuredStream, now_ns: int) -> Iterable[Metric]:
    """All metrics of one stream."""
    labels, status = stream.labels, stream.status
    view, clients = status.view, stream.ages()
    figures = view.figures if view else Figures()
    if stream.number is not None:
        text = "1 for each stream, with the name of its source"
        info = GaugeMetricFamily("streamseg_stream_info", text, labels=["stream", "source"])
        info.add_metric([str(stream.number), stream.source], 1.0)
        yield info
    yield from _counters(figures, labels)
    state = GaugeMetricFamily(
        "streamseg_state", "1 for the state that is displayed", labels=[*labels, "state"]
    )
    for known in State:
        shown = known is (view.state if view else State.STARTING)
        state.add_metric([*labels.values(), known.value.replace(" ", "_")], float(shown))
    yield state
    health = status.health(now_ns)
    yield _gauge("healthy", "1 if /healthz reports ok", labels, float(health["ok"]))
    if health["seconds_since_frame"] is not None:
        text = "From the displayed frame's capture until now"
        yield _gauge("frame_age_seconds", text, labels, health["seconds_since_frame"])
    yield from _distributions(figures, labels)
    yield _gauge("web_clients", "Pages connected", labels, len(clients))
    ages = GaugeMetricFamily(
        "streamseg_web_age_seconds",
        "From capture until drawn, measured by the page",
        labels=[*labels, "client", "quantile"],
    )
    for slot, times in sorted(clients.items()):
        _add(ages, [*labels.values(), str(slot)], times)
    yield ages


def _gauge(name: str, text: str, labels: Mapping[str, str], value: float) -> Metric:
    family = GaugeMetricFamily(f"streamseg_{name}", text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def _counters(figures: Figures, labels: Mapping[str, str]) -> Iterable[Metric]:
    for name, text, value in (
        ("frames_offered", "Frames that the source delivered", figures.offered),
        ("frames_processed", "Frames that were segmented", figures.processed),
        ("frames_dropped", "Frames that a newer one replaced", figures.dropped),
        ("reconnects", "Times that the source was reopened", figures.reconnects),
    ):
        family = CounterMetricFamily(f"streamseg_{name}", text, labels=list(labels))
        family.add_metric(list(labels.values()), value)
        yield family
    recording = float(figures.recorded_time is not None)
    yield _gauge("recording", "1 while a recording runs", labels, recording)


def _distributions(figures: Figures, labels: Mapping[str, str]) -> Iterable[Metric]:
    names, values = list(labels), list(labels.values())
    text = "Frames per second of the last seconds"
    fps = GaugeMetricFamily("streamseg_fps", text, labels=[*names, "kind"])
    for kind, rate in (("offered", figures.offered_fps), ("processed", figures.processed_fps)):
        if rate is not None:
            fps.add_metric([*values, kind], rate)
    yield fps
    text = "From capture until displayed"
    age = GaugeMetricFamily("streamseg_age_seconds", text, labels=[*names, "quantile"])
    if figures.age is not None:
        _add(age, values, figures.age)
    yield age
    stages = GaugeMetricFamily(
        "streamseg_stage_seconds", "Time per segmented frame", labels=[*names, "stage", "quantile"]
    )
    for stage, times in figures.stages.items():
        _add(stages, [*values, stage], times)
    yield stages


def _add(family: GaugeMetricFamily, labels: Sequence[str], times: Percentiles) -> None:
    if times.count:
        for quantile, value in zip(_QUANTILES, (times.p50_ms, times.p95_ms, times.p99_ms), strict=True):
            family.add_metric([*labels, quantile], value / 1e3)
