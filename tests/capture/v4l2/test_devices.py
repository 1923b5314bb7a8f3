"""Names by which video devices are found again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamseg.capture.v4l2.devices import VideoDevice, with_links
from streamseg.cli.doctor import device_lines

NAME = "USB3. 0 capture"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four device files, and the links of each by its port."""
    (tmp_path / "v4l" / "by-path").mkdir(parents=True)
    (tmp_path / "v4l" / "by-id").mkdir()
    for number in range(4):
        (tmp_path / f"video{number}").touch()
        (tmp_path / "v4l" / "by-path" / f"port-{number}-index0").symlink_to(f"../../video{number}")
    return tmp_path


def device(folder: Path, number: int, name: str = NAME, *, usable: bool = True) -> VideoDevice:
    mode, problem = ("yuyv 640x480 at 30", None) if usable else (None, "does not capture video")
    return VideoDevice(str(folder / f"video{number}"), name, "uvcvideo", mode=mode, problem=problem)


def link(folder: Path, name: str, number: int) -> None:
    (folder / "v4l" / "by-id" / name).symlink_to(f"../../video{number}")


def test_two_grabbers_with_one_name_are_warned_of(folder: Path) -> None:
    """The second has taken over the link of the first; each has a node for metadata, too."""
    link(folder, "usb-capture-video-index0", 2)
    link(folder, "usb-capture-video-index1", 3)
    listed = [
        device(folder, 0),
        device(folder, 1, usable=False),
        device(folder, 2),
        device(folder, 3, usable=False),
    ]
    found = with_links(listed, folder / "v4l")
    for number in (0, 2):
        by_path = str(folder / "v4l" / "by-path" / f"port-{number}-index0")
        assert found[number].by_path == by_path
        assert found[number].warning == (
            f"2 devices are named {NAME}, so /dev/v4l/by-id does not tell them apart; give {by_path}"
        )
        assert found[number].to_json()["by_path"] == by_path
    assert [found[number].warning for number in (1, 3)] == [None, None]
    lines = list(device_lines([json.loads(json.dumps(one.to_json())) for one in found]))
    assert sum("warning: 2 devices are named" in line for line in lines) == 2


def test_grabbers_with_names_of_their_own_are_not(folder: Path) -> None:
    link(folder, "usb-capture-A1-video-index0", 0)
    link(folder, "usb-capture-A2-video-index0", 2)
    for listed in (
        [device(folder, 0), device(folder, 2)],  # one model with serial numbers
        [device(folder, 0), device(folder, 1, "another")],
        [device(folder, 3)],
    ):
        found = with_links(listed, folder / "v4l")
        assert [one.warning for one in found] == [None] * len(listed)
        assert all(one.by_path for one in found)


def test_without_links_two_of_one_name_are_warned_of_all_the_same(folder: Path) -> None:
    found = with_links([device(folder, 0), device(folder, 2)], folder / "nothing")
    assert all(one.warning and one.by_path is None for one in found)
    assert "by_path" not in found[0].to_json()
