"""Which keys JSON values have, and which types: as a flat list that can be committed and compared.

A path names a key through all levels: ``engine.name``; ``outputs[].path`` of every object in a list;
``states.*`` where the keys are data (names of states, of images) and no part of the format. Beside a path
stand its types (``number``, ``string``, ``bool``, ``null``, ``list``, ``object``; ``any`` where the machine
decides), and ``or absent`` where only some objects have the key.

The committed lists are ``json_keys.json`` and ``commands.json``. To renew them after a change that users
must be told of:

    STREAMSEG_RENEW=1 .venv/bin/python -m pytest tests/compat -m "slow or not slow"

Keys that are gone leave the list and new ones join it; a type or an ``or absent`` that was listed stays,
since one run need not show all of them. Look at the difference before it is committed.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RENEW = os.environ.get("STREAMSEG_RENEW", "") not in ("", "0")
KEYS = Path(__file__).parent / "json_keys.json"
ABSENT = "or absent"

DATA_KEYS = {
    *("states", "states_before", "states_after", "reasons", "outlined", "sizes"),
    *("precision_found", "versions", "files", "gate.limits"),
    *("run.absent", "run.limits", "run.limits.*.kernels", "open_choices", "nets", "plugins"),
}
"""Objects whose keys are data: all of their values have one path. The end of a path, at any level."""
MACHINE_DECIDES = {
    *("gpu", "video_devices"),
    *(
        f"run.machine.power.{key}"
        for key in ("boost", "clock_mhz", "governor", "gpu", "hypervisor", "supply")
    ),
}
"""Values that differ from machine to machine: only the key is compared."""
LEAVING = {"run.machine.monai"}
"""Keys that may go: MONAI is no longer compared with."""


@dataclass
class Shape:
    """Paths of some objects, with their types."""

    types: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    objects: Counter[str] = field(default_factory=Counter)
    """How many objects there were at a path."""
    holders: Counter[str] = field(default_factory=Counter)
    """How many objects had this key."""

    @classmethod
    def of(cls, samples: Iterable[object], *, plain: Iterable[str] = ()) -> Shape:
        """The paths of all samples together. ``plain``: of DATA_KEYS those that are keys here after all."""
        shape, data_keys = cls(), DATA_KEYS - set(plain)
        for sample in samples:
            shape._add(sample, "", data_keys)
        assert shape.objects[""], "there is nothing to look at"
        return shape

    def _add(self, value: object, path: str, data_keys: set[str]) -> None:
        if path in MACHINE_DECIDES:
            self.types[path].add("any")
            return
        if path:
            self.types[path].add(_kind(value))
        if isinstance(value, Mapping):
            self.objects[path] += 1
            for key, item in value.items():
                own = "*" if _ends_in(path, data_keys) else key
                child = f"{path}.{own}" if path else own
                if child not in LEAVING:
                    self.holders[child] += 1
                    self._add(item, child, data_keys)
        elif isinstance(value, list):
            for item in value:
                self._add(item, f"{path}[]", data_keys)

    def to_json(self) -> dict[str, str]:
        """Path by path what is committed."""
        return {path: self._words(path) for path in sorted(self.types)}

    def _words(self, path: str) -> str:
        absent = not _is_item(path) and self.holders[path] < self.objects[_parent(path)]
        return "|".join(sorted(self.types[path])) + (f", {ABSENT}" if absent else "")

    def differences(self, pinned: Mapping[str, str]) -> list[str]:
        """What is otherwise than pinned, a line for each key."""
        found = [
            f"key {path!r} is missing"
            for path, words in pinned.items()
            if not _is_item(path) and not words.endswith(ABSENT)
            if self.holders[path] < self.objects[_parent(path)]
        ]
        for path in sorted(self.types):
            known = set(pinned.get(path, "").partition(",")[0].split("|"))
            if path not in pinned:
                found.append(f"key {path!r} is new ({self._words(path)})")
            elif more := self.types[path] - known:
                found.append(f"key {path!r} is {' or '.join(sorted(more))}, was {pinned[path]}")
        return found


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    kinds = {int: "number", float: "number", str: "string", list: "list", dict: "object"}
    return kinds[type(value)]


def _ends_in(path: str, names: set[str]) -> bool:
    return any(path == name or path.endswith(f".{name}") for name in names)


def _parent(path: str) -> str:
    above = path.rpartition(".")[0]
    return _parent(above) if above.count('"') % 2 else above  # quantile="0.5"


def _is_item(path: str) -> bool:
    return path.endswith(("[]", ".*"))


def check_keys(document: str, samples: Iterable[object], *, plain: Iterable[str] = ()) -> None:
    """Compare the keys of a document's objects with those that are committed; or commit them, see above."""
    check(document, Shape.of(samples, plain=plain))


def check(document: str, shape: Shape) -> None:
    """Compare a shape with the committed one of a document's name."""
    pinned = json.loads(KEYS.read_text()) if KEYS.exists() else {}
    if RENEW:
        pinned[document] = _merged(shape, pinned.get(document, {}))
        KEYS.write_text(json.dumps(pinned, indent=1, sort_keys=True) + "\n")
        return
    assert document in pinned, f"{KEYS.name} has no document {document!r}; renew it, see {__name__}"
    found = shape.differences(pinned[document])
    assert not found, "\n".join([f"{document} is not what users' scripts read:", *found])


def _merged(shape: Shape, old: Mapping[str, str]) -> dict[str, str]:
    merged = {}
    for path, words in shape.to_json().items():
        kinds, _, absent = words.partition(", ")
        before, _, was_absent = old.get(path, "").partition(", ")
        kinds = "|".join(sorted({*kinds.split("|"), *before.split("|")} - {""}))
        merged[path] = ", ".join([kinds, *([ABSENT] if absent or was_absent else [])])
    # What lies in lists and objects that were empty, or null, this time. A path sorts after what it lies in.
    for path in sorted(old.keys() - merged.keys()):
        holder = path[:-2] if _is_item(path) else _parent(path)
        if holder in merged and (_is_item(path) or not shape.objects[holder]):
            merged[path] = old[path]
    return dict(sorted(merged.items()))


def read_lines(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The objects of JSON lines by their ``type``."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in path.read_text().splitlines():
        value = json.loads(line)
        found[value["type"]].append(value)
    return found
