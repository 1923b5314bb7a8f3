"""Health and figures for machines."""

import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamseg.core.latency import Percentiles
from streamseg.core.types import State
from streamseg.core.view import View
from streamseg.web.status import MeasuredStream, Metrics, Status
from tests.waiting import wait_for
from tests.web.feeding import Reader, get, serving
from tests.web.views import view

SECOND = 1_000_000_000


def samples(text):
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name, *sorted(sample.labels.items())] = sample.value
    return found


def metrics(status, now_ns, pages=None):
    return Metrics([MeasuredStream(status, lambda: pages or {})]).text(now_ns).decode()


def test_health_before_the_first_view():
    status = Status(0)
    assert status.health(SECOND) == {
        "ok": True,
        "state": "starting",
        "reason": "",
        "seconds_in_state": 1.0,
        "seconds_since_frame": None,
    }
    assert not status.health(6 * SECOND)["ok"]  # the loop has not given one for too long


def test_lost_source_is_unhealthy_at_once():
    status = Status(0)
    status.note(View(1, SECOND, State.SOURCE_LOST, "no frame for 1 s"), SECOND)
    health = status.health(SECOND)
    assert (health["ok"], health["reason"]) == (False, "no frame for 1 s")


def test_the_words_of_a_server_are_bounded_and_harmless():
    status = Status(0)
    said = "rtsp://me:s3cret@host/x: \x1b]0;\u202e" + "no" * 5000
    status.note(View(1, SECOND, State.SOURCE_LOST, said), SECOND)
    reason = status.health(SECOND)["reason"]
    assert reason.startswith("rtsp://host/x: \\x1b]0;\\u202enono")
    assert len(reason) == 300


def test_lagging_is_unhealthy_after_a_while():
    status = Status(0)
    for number in range(1, 8):
        status.note(View(number, number * SECOND, State.LAGGING), number * SECOND)
        assert status.health(number * SECOND)["ok"] == (number <= 6)
    status.note(View(8, 8 * SECOND, State.NERVE), 8 * SECOND)
    assert status.health(8 * SECOND)["ok"]


def test_loop_that_hangs_is_unhealthy():
    status = Status(0)
    status.note(View(1, SECOND, State.NERVE), SECOND)
    assert status.health(5 * SECOND)["ok"]
    health = status.health(7 * SECOND)
    assert not health["ok"]
    assert health["reason"] == "the program has shown nothing new for 6 s"


def test_health_over_http():
    with serving() as display:
        display.show(view(1, age_s=2.0, outline=False))
        code, _, text = get(display, "/healthz")
        health = json.loads(text)
        assert (code, health["ok"], health["state"]) == (200, True, "nerve")
        assert health["seconds_since_frame"] >= 2
        display.show(view(2, State.SOURCE_LOST))
        code, _, text = get(display, "/healthz")
        assert (code, json.loads(text)["ok"]) == (503, False)


def test_metrics_before_the_first_view():
    found = samples(metrics(Status(0), SECOND))
    assert found["streamseg_frames_offered_total",] == 0
    assert found["streamseg_state", ("state", "starting")] == 1
    assert found["streamseg_web_clients",] == 0
    assert ("streamseg_frame_age_seconds",) not in found


def test_metrics_of_a_view():
    status = Status(0)
    shown = view(7)
    status.note(shown, shown.at_ns)
    found = samples(metrics(status, shown.at_ns, {3: Percentiles(9, 50.0, 60.0, 70.0, 80.0)}))
    assert found["streamseg_frames_offered_total",] == 14
    assert found["streamseg_frames_processed_total",] == 7
    assert found["streamseg_frames_dropped_total",] == 7
    assert found["streamseg_reconnects_total",] == 1
    states = {key: value for key, value in found.items() if key[0] == "streamseg_state"}
    assert len(states) == len(State)
    assert sum(states.values()) == found["streamseg_state", ("state", "nerve")] == 1
    assert found["streamseg_fps", ("kind", "processed")] == 29.9
    assert found["streamseg_age_seconds", ("quantile", "0.95")] == 0.061
    assert found["streamseg_stage_seconds", ("quantile", "0.5"), ("stage", "infer")] == 0.0241
    assert found["streamseg_web_age_seconds", ("client", "3"), ("quantile", "0.99")] == 0.07
    assert 0.039 < found["streamseg_frame_age_seconds",] < 0.1


@pytest.mark.parametrize(
    ("recording", "runs"),
    [
        (None, 0),
        ("recording", 1),
        ("recording 0:12", 1),
        ("recording 61:07, 3 left out", 1),
        ("recording stopped: disk full", 0),
        ("recorded 0:12", 0),
        ("no recording: 3 were started in 30 s; next one in 9 s", 0),
    ],
)
def test_metrics_know_whether_a_recording_runs(recording, runs):
    status = Status(0)
    status.note(view(1, recording=recording), SECOND)
    assert samples(metrics(status, SECOND))["streamseg_recording",] == runs


def test_metrics_over_http_include_what_pages_measured():
    with serving() as display, Reader(display.port) as reader:
        for number in range(1, 4):
            display.show(view(number))
            reader.read_views(1, age=40.0 + number)
        wait_for(
            lambda: (
                samples(get(display, "/metrics")[2]).get(
                    ("streamseg_web_age_seconds", ("client", "0"), ("quantile", "0.5"))
                )
                == 0.042
            ),
            "the page's ages",
        )
        assert samples(get(display, "/metrics")[2])["streamseg_web_clients",] == 1
