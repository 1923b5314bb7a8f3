"""The rule that names the default engine, and its measurement on small engines."""

from dataclasses import replace
from pathlib import Path

import pytest

from streamseg.backends import load_backend
from streamseg.backends import loading as catalog
from streamseg.core.errors import UsageError
from streamseg.datasets.phantoms import draw_phantoms
from streamseg.export.choose_default import LEAD, Candidate, choose, main, measure
from tests.backends.small_engines import rewrite, write_engine

IMPROVED = Candidate("improved_unet", 0.70, 0.50, 0.05, (1.0, 0.97, 1.03))
LITE = replace(IMPROVED, net="lite_unet")
SLOW = (1.3, 1.2, 1.4)


@pytest.mark.parametrize(
    ("improved", "lite", "net", "why"),
    [
        (IMPROVED, LITE, "improved_unet", "best score within the cost"),
        (IMPROVED, replace(LITE, other=0.50 + LEAD), "improved_unet", "leads by 0.010, which is less"),
        (IMPROVED, replace(LITE, own=0.75, other=0.55), "lite_unet", "leads by 0.050 within the cost"),
        (IMPROVED, replace(LITE, own=0.9, ratio=SLOW), "improved_unet", "best score within the cost"),
        (replace(IMPROVED, ratio=SLOW), replace(LITE, own=0.6), "lite_unet", "is not within the cost"),
        (replace(IMPROVED, ratio=SLOW), replace(LITE, ratio=SLOW), "improved_unet", "no engine is within"),
    ],
)
def test_the_rule(improved: Candidate, lite: Candidate, net: str, why: str) -> None:
    for candidates in ([improved, lite], [lite, improved]):
        found, reason = choose(candidates)
        assert found == net
        assert why in reason


def test_both_shipped_engines_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(catalog, "WEIGHTS", tmp_path)
    monkeypatch.setattr("streamseg.export.gate.MAX_SECONDS", 0.2)
    draw_phantoms(tmp_path / "other", 3, lambda _: None)
    capsys.readouterr()
    for net, dice in (("improved_unet", 0.6), ("lite_unet", 0.7)):
        folder = write_engine(tmp_path / f"{net}-openvino-int8")
        rewrite(folder, name=folder.name, accuracy={"int8": {"validation": {"dice_mean": dice}}})
    main(["--other", str(tmp_path / "other"), "--without", "phantom:?frames=2&nerve=never"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["improved_unet", "0.600"], ["lite_unet", "0.700"]]
    assert lines[1].split()[2] == lines[2].split()[2]
    assert lines[3].startswith("default: ")


def test_an_engine_without_held_back_figures_is_refused(tmp_path: Path) -> None:
    folder = write_engine(tmp_path / "bare")
    with pytest.raises(UsageError, match="states no Dice on held-back images"):
        measure("lite_unet", folder, load_backend(folder), [], [])
