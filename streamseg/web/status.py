"""The state of the run for other programs: health for a watchdog, metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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

    def note(self, view: View, now_ns: int) -> None:
        """Record that a view was displayed at ``now_ns``."""
        last = self._now
        if view.segmentation is not None:
            self._outlined_ns = now_ns
        since = last[2] if last is not None and last[0].state is view.state else now_ns
        self._now = (view, now_ns, since)

    @property
    def view(self) -> View | None:
        """The newest view."""
        return self._now[0] if self._now else None

    def quiet_s(self, now_ns: int) -> float:
        """Seconds since the last view, or since the start."""
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


class Metrics:
    """Exports the figures of the run, and the ages measured by the pages, in Prometheus text format."""

    def __init__(self, status: Status) -> None:
        self._status = status
        self._clients: Mapping[int, Percentiles] = {}
        self._now_ns = 0
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self, clients: Mapping[int, Percentiles], now_ns: int) -> bytes:
        """The response body; ``clients`` are the ages from capture until drawn, by slot of the page.

        Call it from one thread.
        """
        self._clients, self._now_ns = clients, now_ns
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Describes nothing in advance: the registry would collect everything once for that."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """The metrics; called by the registry."""
        view = self._status.view
        yield from _counters(view.figures if view else Figures())
        state = GaugeMetricFamily("streamseg_state", "1 for the state that is displayed", labels=["state"])
        for known in State:
            shown = known is (view.state if view else State.STARTING)
            state.add_metric([known.value.replace(" ", "_")], float(shown))
        yield state
        health = self._status.health(self._now_ns)
        yield GaugeMetricFamily("streamseg_healthy", "1 if /healthz reports ok", float(health["ok"]))
        if health["seconds_since_frame"] is not None:
            name, text = "streamseg_frame_age_seconds", "From the displayed frame's capture until now"
            yield GaugeMetricFamily(name, text, health["seconds_since_frame"])
        yield from _distributions(view.figures if view else Figures())
        yield GaugeMetricFamily("streamseg_web_clients", "Pages connected", len(self._clients))
        ages = GaugeMetricFamily(
            "streamseg_web_age_seconds",
            "From capture until drawn, measured by the page",
            labels=["client", "quantile"],
        )
        for slot, times in sorted(self._clients.items()):
            _add(ages, [str(slot)], times)
        yield ages


def _counters(figures: Figures) -> Iterable[Metric]:
    for name, text, value in (
        ("frames_offered", "Frames that the source delivered", figures.offered),
        ("frames_processed", "Frames that were segmented", figures.processed),
        ("frames_dropped", "Frames that a newer one replaced", figures.dropped),
        ("reconnects", "Times that the source was reopened", figures.reconnects),
    ):
        yield CounterMetricFamily(f"streamseg_{name}", text, value)
    recording = float(figures.recorded_time is not None)
    yield GaugeMetricFamily("streamseg_recording", "1 while a recording runs", recording)


def _distributions(figures: Figures) -> Iterable[Metric]:
    fps = GaugeMetricFamily("streamseg_fps", "Frames per second of the last seconds", labels=["kind"])
    for kind, rate in (("offered", figures.offered_fps), ("processed", figures.processed_fps)):
        if rate is not None:
            fps.add_metric([kind], rate)
    yield fps
    age = GaugeMetricFamily("streamseg_age_seconds", "From capture until displayed", labels=["quantile"])
    if figures.age is not None:
        _add(age, [], figures.age)
    yield age
    stages = GaugeMetricFamily(
        "streamseg_stage_seconds", "Time per segmented frame", labels=["stage", "quantile"]
    )
    for stage, times in figures.stages.items():
        _add(stages, [stage], times)
    yield stages


def _add(family: GaugeMetricFamily, labels: list[str], times: Percentiles) -> None:
    if times.count:
        for quantile, value in zip(_QUANTILES, (times.p50_ms, times.p95_ms, times.p99_ms), strict=True):
            family.add_metric([*labels, quantile], value / 1e3)
