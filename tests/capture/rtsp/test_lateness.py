"""Old frames that come late, and clocks that only seem to make them late."""

from __future__ import annotations

import random

import pytest

from streamseg.capture.rtsp.lateness import LatenessEstimator

MS = 1_000_000
JUMP_NS = 1000 * MS
START = 77_000 * MS


def test_prompt_frames_count_from_their_arrival() -> None:
    estimator = LatenessEstimator()
    for k in range(100):
        assert estimator.captured_ns(33 * k * MS, START + 33 * k * MS) == START + 33 * k * MS


def test_what_a_stall_held_back_is_as_old_as_its_time_stamp_says() -> None:
    estimator = LatenessEstimator()
    for k in range(30):
        estimator.captured_ns(33 * k * MS, START + 33 * k * MS)
    back = START + (33 * 29 + 1000) * MS
    for k in range(30, 59):
        found = estimator.captured_ns(33 * k * MS, back)
        assert abs(found - (START + 33 * k * MS)) <= 10 * MS + 1, "one per cent of the stall is forgiven"
    k = 60
    assert estimator.captured_ns(33 * k * MS, START + 33 * k * MS) == START + 33 * k * MS


def test_no_frame_is_newer_than_its_arrival_whatever_the_time_stamps() -> None:
    chance = random.Random(1)
    estimator, arrived = LatenessEstimator(), START
    for _ in range(2000):
        arrived += chance.randrange(50 * MS)
        assert estimator.captured_ns(chance.randrange(10**12), arrived) <= arrived


def test_a_sender_s_clock_that_runs_slow_or_fast_is_forgiven() -> None:
    for pace in (0.992, 1.0, 1.008):
        estimator = LatenessEstimator()
        for k in range(3000):
            arrived = START + 33 * k * MS
            late = arrived - estimator.captured_ns(round(33 * k * MS * pace), arrived)
            assert late < MS


def test_time_stamps_that_begin_anew_are_no_delay() -> None:
    estimator = LatenessEstimator()
    estimator.captured_ns(10 * JUMP_NS, START)
    assert estimator.captured_ns(0, START + 33 * MS) == START + 33 * MS
    assert estimator.captured_ns(33 * MS, START + 66 * MS) == START + 66 * MS


def test_a_jump_ahead_is_no_delay_either() -> None:
    estimator = LatenessEstimator()
    estimator.captured_ns(0, START)
    assert estimator.captured_ns(10 * JUMP_NS, START + 33 * MS) == START + 33 * MS
    after = estimator.captured_ns(10 * JUMP_NS + 33 * MS, START + 66 * MS)
    assert after == START + 66 * MS


def test_frames_out_of_display_order_do_not_begin_anew() -> None:
    estimator = LatenessEstimator()
    for k, sent in enumerate([0, 99, 33, 66, 198, 132, 165]):
        estimator.captured_ns(sent * MS, START + 33 * k * MS)
    late = estimator.captured_ns(231 * MS, START + (231 + 500) * MS)
    assert START + (231 + 500) * MS - late > 400 * MS


Times = list[tuple[float, float]]
"""Of each frame: its time stamp and its arrival, milliseconds."""


def steady(count: int, stamped_ms: float, delivered_ms: float, jitter_ms: float = 3.0) -> Times:
    chance = random.Random(1)
    return [(k * stamped_ms, k * delivered_ms + abs(chance.gauss(0, jitter_ms))) for k in range(count)]


def late(times: Times) -> tuple[LatenessEstimator, list[float]]:
    """How late each frame is taken to be, milliseconds."""
    estimator = LatenessEstimator()
    found = []
    for stamp, arrival in times:
        arrived_ns = START + round(arrival * MS)
        found.append((arrived_ns - estimator.captured_ns(round(stamp * MS), arrived_ns)) / MS)
    return estimator, found


@pytest.mark.parametrize("jitter_ms", [0.0, 3.0, 10.0])
@pytest.mark.parametrize(
    ("stamped_ms", "delivered_ms"),
    [
        (33.33, 40.0),  # an encoder that stamps 30 a second and delivers 25
        (40.0, 33.33),
        (40.0, 41.7),  # PAL at the speed of film
        (40.0, 38.4),
        (33.3, 34.0),
        (0.0, 33.3),  # all stamps the same
        (33.3 / 90, 33.3),  # a server that counts milliseconds in a clock of 90 kHz
        (16.67, 20.0),
        (100.0, 120.0),
    ],
)
def test_a_pace_that_differs_from_the_beginning_is_the_clock_s(
    stamped_ms: float, delivered_ms: float, jitter_ms: float
) -> None:
    times = steady(1500, stamped_ms, delivered_ms, jitter_ms)
    estimator, found = late(times)
    after = [value for (_, arrival), value in zip(times, found, strict=True) if arrival > 2000]
    assert max(after) < 60
    assert estimator.note.startswith("the sender's")


@pytest.mark.parametrize("jitter_ms", [0.0, 3.0, 10.0])
@pytest.mark.parametrize("leap_ms", [300, 900, -300, -900, -5000, 5000])
@pytest.mark.parametrize("only_one", [True, False])
def test_a_jump_of_stamps_without_silence_makes_no_frame_old(
    leap_ms: int, only_one: bool, jitter_ms: float
) -> None:
    times = steady(1500, 33.33, 33.33, jitter_ms)
    shifted = range(700, 701 if only_one else 1500)
    estimator, found = late([(s + leap_ms * (k in shifted), a) for k, (s, a) in enumerate(times)])
    assert max(found) < 60
    assert "jumped" in estimator.note


@pytest.mark.parametrize("jitter_ms", [0.0, 3.0, 10.0])
def test_a_backlog_stays_old(jitter_ms: float) -> None:
    times = steady(3000, 33.33, 33.33, jitter_ms)
    delayed = [(s, a + 1000 * (k >= 1500)) for k, (s, a) in enumerate(times)]
    _, found = late(delayed)
    for k in range(1500, 3000):
        forgotten = 10 * (delayed[k][1] - delayed[1499][1]) / 1000
        assert found[k] > 1000 - forgotten - 50
    # Drained a tenth faster than it grows, it is gone when it has been drained, and not before.
    times = steady(3000, 33.33, 33.33, 0)
    drained, arrival = [], 0.0
    for k, (stamp, prompt) in enumerate(times):
        arrival = prompt + 1000 * (k == 1500) if k <= 1500 else max(prompt, arrival + 30)
        drained.append((stamp, arrival))
    _, found = late(drained)
    for (stamp, arrival), value in zip(drained, found, strict=True):
        assert abs(value - (arrival - stamp)) < 120


def test_a_network_that_becomes_too_slow_makes_frames_old() -> None:
    arrival, times = 0.0, []
    for k, (stamp, prompt) in enumerate(steady(3000, 33.33, 33.33, 1)):
        arrival = prompt if k < 1500 else arrival + 40
        times.append((stamp, arrival))
    _, found = late(times)
    assert min(found[1600:]) > 150


def test_frames_that_were_dropped_are_no_backlog() -> None:
    times = steady(3000, 33.33, 33.33)
    _, found = late(times[:1500] + times[1560:])
    assert max(found) < 60
    # A backlog that the sender throws away is over at once.
    flushed = [(s, a + 1000 * (1500 <= k < 1800)) for k, (s, a) in enumerate(times) if not 1800 <= k < 1830]
    _, found = late(flushed)
    assert min(found[1500:1800]) > 800
    assert max(found[1801:]) < 60


@pytest.mark.parametrize("rate", [10, 30, 60])
@pytest.mark.parametrize("poured", [3, 60])
def test_what_a_relay_had_stored_is_not_taken_for_new(rate: int, poured: int) -> None:
    """The relay sends the two seconds since its last key frame at once, or as fast as the network goes."""
    chance = random.Random(2)
    stamps = [k * 1000 / rate for k in range(10 * rate)]
    arrivals: list[float] = []
    for stamp in stamps:
        arrival = max(stamp, 2000 + stamp / poured) + abs(chance.gauss(0, 1))
        arrivals.append(max([arrival, *arrivals[-1:]]))
    _, found = late(list(zip(stamps, arrivals, strict=True)))
    ages = [arrival - stamp for stamp, arrival in zip(stamps, arrivals, strict=True)]
    # The first one has nothing to be compared with: the source holds it until the age is known.
    fresh = [k for k, (age, value) in enumerate(zip(ages, found, strict=True)) if age > 150 and value < 300]
    assert fresh in ([], [0])
    assert max(value for arrival, value in zip(arrivals, found, strict=True) if arrival > 4500) < 100


def known_at(times: Times) -> float:
    """The arrival of the frame with which the age of frames is known, milliseconds after the first one."""
    estimator = LatenessEstimator()
    for stamp, arrival in times:
        estimator.captured_ns(round(stamp * MS), START + round(arrival * MS))
        if estimator.age_known:
            return arrival - times[0][1]
    raise AssertionError("it is never known")


@pytest.mark.parametrize("rate", [10, 30, 60])
@pytest.mark.parametrize("hiccup_ms", [0, 25, 60])
def test_the_age_of_a_stream_s_first_frames_is_known_once_they_come_at_their_own_rate(
    rate: int, hiccup_ms: int
) -> None:
    prompt = [(k * 1000 / rate, k * 1000 / rate) for k in range(60)]
    assert known_at(prompt) < 101
    # A large key frame takes a moment, then a relay's two seconds come at the speed of the network.
    poured = [(s, hiccup_ms * (k > 0) + 0.5 * k) for k, (s, _) in enumerate(prompt) if s < 2000]
    after = [(2000 + k * 1000 / rate, hiccup_ms + 30 + k * 1000 / rate) for k in range(1, 30)]
    assert known_at(poured + after) >= after[0][1]


@pytest.mark.parametrize("stamped_ms", [0.0, 0.37, 33.3, 40.0])
def test_odd_clocks_and_networks_that_gather_frames_do_not_keep_the_age_unknown(stamped_ms: float) -> None:
    assert known_at(steady(60, stamped_ms, 33.3)) < 150
    gathered = [(k * stamped_ms, (k // 3 + 1) * 100 + 0.1 * k) for k in range(60)]
    assert known_at(gathered) < 750


def test_a_burst_at_the_beginning_counts_as_old_and_what_follows_it_as_fresh() -> None:
    """Servers send what their encoder made while the session began."""
    times = [(k * 16.7, max(k * 16.7, 150 + k)) for k in range(60)]
    _, found = late(times)
    assert min(found[1:9]) > 900
    assert max(found[16:]) < 5


@pytest.mark.parametrize("rate", [15, 30, 60, 120])
def test_frames_that_a_network_gathers_stay_fresh(rate: int) -> None:
    """Wi-Fi holds up to ten frames together."""
    chance = random.Random(4)
    times: Times = []
    while len(times) < 60 * rate:
        count = chance.choice([1, 1, 1, 3, 5, 10] if rate > 30 else [1, 1, 1, 3])
        last = (len(times) + count - 1) * 1000 / rate
        times += [((len(times) + k) * 1000 / rate, last + 0.1 * k) for k in range(count)]
    _, found = late(times)
    assert max(found) < 10_500 / rate + 20


@pytest.mark.parametrize("rate", [25, 30, 60])
@pytest.mark.parametrize("pace", [0.8, 0.9, 0.98, 1.05, 1.2])
def test_a_clock_is_measured_over_a_network_that_gathers_frames(rate: int, pace: float) -> None:
    chance = random.Random(3)
    times: Times = []
    while len(times) < 60 * rate:
        count = chance.choice([1, 1, 1, 1, 1, 3, 5])
        last = (len(times) + count - 1) * 1000 / rate + abs(chance.gauss(0, 2))
        times += [((len(times) + k) * 1000 / rate * pace, last + 0.1 * k) for k in range(count)]
    _, found = late(times)
    old = [arrival for (_, arrival), value in zip(times, found, strict=True) if value > 300]
    assert not old or max(old) < 6000
    assert len(old) < 2 * rate


@pytest.mark.parametrize("stalled_ms", range(0, 1200, 100))
def test_a_moment_s_stall_at_the_beginning_of_an_odd_clock_leaves_nothing_late_for_good(
    stalled_ms: int,
) -> None:
    for pace, interval_ms in ((1 / 90, 33), (25 / 30, 40)):
        estimator, held_ms = LatenessEstimator(), stalled_ms + 200
        for k in range(150):
            at_ms = k * interval_ms
            arrived = START + (held_ms if stalled_ms <= at_ms < held_ms else at_ms) * MS + k
            late = arrived - estimator.captured_ns(round(at_ms * MS * pace), arrived)
        assert late < 60 * MS, "counted from arrival, but for what one interval is uncertain by"


@pytest.mark.parametrize("jitter_ms", [0.0, 3.0, 10.0])
@pytest.mark.parametrize("busy_ms", [0, 800, 1600])
@pytest.mark.parametrize("pace", [0.0, 1 / 90])
def test_stamps_that_mean_nothing_make_no_frame_old_from_the_third_on(
    pace: float, busy_ms: int, jitter_ms: float
) -> None:
    """Servers that count milliseconds in a clock of 90 kHz, and hold frames up while they start."""
    chance = random.Random(7)
    times: Times = []
    for k in range(300):
        at_ms = k * 1000 / 30
        held_ms = chance.choice([0, 0, 20, 45]) + 130 * (k // 12 % 3 == 0) if at_ms < busy_ms else 0
        arrival = max([at_ms + held_ms + abs(chance.gauss(0, jitter_ms)), *[last for _, last in times[-1:]]])
        times.append((round(at_ms) * pace, arrival))
    _, found = late(times)
    assert max(value for (_, arrival), value in zip(times, found, strict=True) if arrival > 350) < 100


def reported(
    times: Times, *, wall_pace: float = 1.0, set_at: int | None = None, every: int = 150
) -> list[float]:
    """How late each frame is taken to be if the sender reports its clock with every so many frames."""
    estimator, found = LatenessEstimator(), []
    for k, (stamp, arrival) in enumerate(times):
        if k % every == 0:
            wall_ms = 4e12 + stamp * wall_pace + (3_600_000 if set_at is not None and k >= set_at else 0)
            estimator.take_report(round(wall_ms * MS), round(stamp * MS))
        arrived_ns = START + round(arrival * MS)
        found.append((arrived_ns - estimator.captured_ns(round(stamp * MS), arrived_ns)) / MS)
    return found


def test_a_backlog_that_stays_is_not_forgotten_where_the_sender_reports_its_clock() -> None:
    times = [(s, a + 1000 * (k >= 600)) for k, (s, a) in enumerate(steady(6000, 33.33, 33.33))]
    assert late(times)[1][-1] < 10, "without reports it is forgotten after 100 seconds"
    found = reported(times)
    assert max(found[:600]) < 20
    assert min(found[600:]) > 850


def test_a_delay_that_creeps_up_is_noticed_where_the_sender_reports_its_clock() -> None:
    """Half a per cent: 5 ms a second, as a buffer grows between two clocks."""
    times = [(s, a * 1.005) for s, a in steady(6000, 33.33, 33.33)]
    assert max(late(times)[1]) < 60
    found = reported(times)
    assert found[-1] > 700


@pytest.mark.parametrize("drift", [-0.008, 0.004, 0.008])
def test_a_video_clock_that_drifts_makes_no_frame_old_where_the_sender_reports_it(drift: float) -> None:
    times = [(s * (1 + drift), a) for s, a in steady(6000, 33.33, 33.33)]
    found = reported(times, wall_pace=1 / (1 + drift))
    assert max(found) < 60


@pytest.mark.parametrize("wall_pace", [0.0, 0.5, 1.3, -1.0])
@pytest.mark.parametrize("set_at", [None, 700])
def test_reports_that_make_no_sense_and_clocks_that_are_set_change_nothing(
    wall_pace: float, set_at: int | None
) -> None:
    times = [(s, a + 1000 * (k >= 1500)) for k, (s, a) in enumerate(steady(3000, 33.33, 33.33))]
    assert reported(times, wall_pace=wall_pace, set_at=set_at) == late(times)[1]
    steady_clock = reported(times[:1500], set_at=set_at)
    assert max(steady_clock) < 60
