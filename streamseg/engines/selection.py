"""Selects the engine that runs when none is named: the shipped one, or a faster one of the store."""

from __future__ import annotations

import math
from collections.abc import Mapping

from streamseg.core.errors import EngineError
from streamseg.core.hardware import Machine
from streamseg.core.numbers import finite_number
from streamseg.core.types import Say
from streamseg.engines.compatibility import export_command, incompatibilities
from streamseg.engines.manifest import Manifest
from streamseg.engines.store import EngineStore, StoredEngine, engine_name

MAX_RATIO = 0.97
"""An engine replaces the shipped one only if it surely takes at most this share of its time: by the upper end
of the ratio's interval."""


RUNS_CODE = frozenset({"compiled"})
"""Back ends whose engine files can run any code when they are loaded (torch unpickles its compiler's cache):
such an engine runs only if somebody names it."""


def candidates(
    store: EngineStore,
    shipped: Manifest,
    *,
    machine: Machine | None = None,
    versions: Mapping[str, str] | None = None,
    say: Say = lambda _: None,
) -> list[StoredEngine]:
    """The store's engines that may replace the shipped one, fastest first; often none.

    They have its weights and specification, take one frame at a time, fit the machine (None is this one),
    passed the accuracy gate, and were measured to be faster. Only manifests are read; files are hashed when
    an engine is loaded. ``say`` receives a line for each damaged engine and each faster one that does not
    fit, which are skipped, and for a store that cannot be read, which counts as empty.
    """
    try:
        entries = store.entries()
    except EngineError as error:
        say(f"{error}; going on without it")
        return []
    found = []
    for entry in entries:
        if entry.manifest is None or not entry.sealed:
            say(f"engine {entry.name} is passed over: {entry.error}")
        elif _stands_in(entry.manifest, shipped):
            if reasons := incompatibilities(entry.manifest, machine, versions):
                command = export_command(entry.manifest)
                say(
                    f"engine {entry.name} is passed over: it does not fit this machine "
                    f"({'; '.join(reasons)}); build it with: {command}"
                )
            elif entry.name != engine_name(entry.manifest):
                say(f"engine {entry.name} is passed over: its manifest is that of another engine")
            else:
                found.append((_ratio(entry.manifest), entry))
    return [entry for _, entry in sorted(found, key=lambda pair: (pair[0], pair[1].name))]


def _stands_in(manifest: Manifest, shipped: Manifest) -> bool:
    return (
        manifest.trained
        and manifest.folded
        and manifest.passed
        and manifest.batch == 1
        and manifest.net == shipped.net
        and manifest.checkpoint_sha256 == shipped.checkpoint_sha256
        and manifest.spec == shipped.spec
        and manifest.backend not in RUNS_CODE
        and _ratio(manifest, "ratio_high") <= MAX_RATIO
    )


def _ratio(manifest: Manifest, name: str = "ratio") -> float:
    """Its time divided by the shipped engine's, measured interleaved; infinite if not measured.

    Engines of earlier versions have no interval: of these the ratio itself counts.
    """
    return finite_number(manifest.speed.get(name, manifest.speed.get("ratio")), 1e-6, 1e6) or math.inf
