"""The part of ``streamseg doctor`` that lists frame grabbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def video_devices(paths: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The machine's video devices and those at ``paths``: formats with sizes and rates, or what is wrong."""
    from streamseg.capture.v4l2.devices import device_paths, list_devices

    every = dict.fromkeys([*device_paths(), *paths])
    return [device.to_json() for device in list_devices(every)]


def device_lines(devices: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The same for people, a line per device and one per pixel format."""
    for device in devices:
        named = f"{device['name']} ({device['driver']}), " if device["name"] else ""
        usable = f"would be read as {device['mode']}" if device["mode"] else device["problem"]
        yield f"  {device['path']}: {named}{usable}"
        for item in device["formats"]:
            name = item["format"] or f"{item['code']} (cannot be read)"
            yield f"    {name}: {'; '.join(map(_size, item['sizes'])) or 'any size'}"


def _size(size: Mapping[str, Any]) -> str:
    upper = "x".join(map(str, size["up_to"] or ()))
    joint = " to " if size["continuous_rates"] else ", "
    rates = joint.join(f"{rate:.4g}" for rate in size["rates"])
    return (
        f"{size['width']}x{size['height']}" + (f" to {upper}" if upper else "") + (rates and f" at {rates}")
    )
