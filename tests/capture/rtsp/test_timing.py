"""Old pictures that come late."""

from __future__ import annotations

import random

from streamseg.capture.rtsp.rtp import JUMP_NS, LatenessEstimator

MS = 1_000_000
START = 77_000 * MS


def test_prompt_pictures_count_from_their_arrival() -> None:
    promptness = LatenessEstimator()
    for k in range(100):
        assert promptness.captured_ns(33 * k * MS, START + 33 * k * MS) == START + 33 * k * MS


def test_what_a_stall_held_back_is_as_old_as_its_time_stamp_says() -> None:
    promptness = LatenessEstimator()
    for k in range(30):
        promptness.captured_ns(33 * k * MS, START + 33 * k * MS)
    back = START + (33 * 29 + 1000) * MS
    for k in range(30, 59):
        found = promptness.captured_ns(33 * k * MS, back)
        assert abs(found - (START + 33 * k * MS)) <= 10 * MS + 1, "one per cent of the stall is forgiven"
    k = 60
    assert promptness.captured_ns(33 * k * MS, START + 33 * k * MS) == START + 33 * k * MS


def test_no_picture_is_newer_than_its_arrival_whatever_the_time_stamps() -> None:
    chance = random.Random(1)
    promptness, arrived = LatenessEstimator(), START
    for _ in range(2000):
        arrived += chance.randrange(50 * MS)
        assert promptness.captured_ns(chance.randrange(10**12), arrived) <= arrived


def test_a_sender_s_clock_that_runs_slow_or_fast_is_forgiven() -> None:
    for pace in (0.992, 1.0, 1.008):
        promptness = LatenessEstimator()
        for k in range(3000):
            arrived = START + 33 * k * MS
            late = arrived - promptness.captured_ns(round(33 * k * MS * pace), arrived)
            assert late < MS


def test_time_stamps_that_begin_anew_are_no_delay() -> None:
    promptness = LatenessEstimator()
    promptness.captured_ns(10 * JUMP_NS, START)
    assert promptness.captured_ns(0, START + 33 * MS) == START + 33 * MS
    assert promptness.captured_ns(33 * MS, START + 66 * MS) == START + 66 * MS


def test_a_jump_ahead_is_no_delay_either() -> None:
    promptness = LatenessEstimator()
    promptness.captured_ns(0, START)
    assert promptness.captured_ns(10 * JUMP_NS, START + 33 * MS) == START + 33 * MS
    after = promptness.captured_ns(10 * JUMP_NS + 33 * MS, START + 66 * MS)
    assert after == START + 66 * MS


def test_pictures_out_of_display_order_do_not_begin_anew() -> None:
    promptness = LatenessEstimator()
    for k, sent in enumerate([0, 99, 33, 66, 198, 132, 165]):
        promptness.captured_ns(sent * MS, START + 33 * k * MS)
    late = promptness.captured_ns(231 * MS, START + (231 + 500) * MS)
    assert START + (231 + 500) * MS - late > 400 * MS
