"""How the cores of one machine are shared among workers."""

import pytest

from streamseg.archive import local


@pytest.mark.parametrize(
    ("cores", "workers", "threads"),
    [
        (1, None, [1]),
        (2, None, [2, 2]),
        (3, None, [2, 2]),
        (7, 2, [4, 3]),
        (8, None, [2] * 5),
        (16, None, [2] * 9),
        (16, 1, [16]),
        (16, 3, [6, 5, 5]),
        (2, 4, [2] * 4),
        (1, 2, [1, 1]),
    ],
)
def test_workers_have_all_cores_and_one_more_fills_what_they_leave(
    cores: int, workers: int | None, threads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "usable_cores", lambda: cores)
    assert local.share_cores(workers) == threads
