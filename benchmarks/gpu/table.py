"""The human-readable result of the GPU's benchmark, and its verdict on the project's aims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamseg.reporting.formatting import table

HEAD = ("variant", "end to end ms", "p99", "frames/s", "x eager FP16", "device ms", "TFLOP/s")
SHARES = ("of matrix rate", "of bandwidth", "found")
MAIN = "improved_unet 416x576"


def claims(result: Mapping[str, Any]) -> dict[str, Any]:
    """The aims, what was measured, and whether it holds; None if it was not measured."""
    single, eight = (_rows(result, f"{MAIN} b{batch}") for batch in (1, 8))
    fastest = _best(single, lambda row: row["end_to_end_ms"]["median"], least=True)
    busiest = _best(eight, lambda row: row["of_matrix_rate"])
    quickest = _best(single, lambda row: row["ratio_fp16"]["median"] if row["ratio_fp16"] else None)
    compared: list[dict[str, Any]] = list(result.get("folding", {}).values())
    folding = compared[0].get("ratio", {}).get("median") if compared else None
    return {
        "improved U-Net, 416x576, batch 1, end to end <= 1.0 ms": _claim(fastest, lambda v: v <= 1.0),
        "improved U-Net, 416x576, batch 8, >= 40 % of the matrix rate": _claim(busiest, lambda v: v >= 0.4),
        "improved U-Net, 416x576, batch 1, >= 3 x torch eager FP16": _claim(quickest, lambda v: v >= 3),
        "improved within 3 % of U-Net": _claim(
            None if folding is None else ("", folding), lambda v: abs(v - 1) <= 0.03
        ),
        "checks hold": _checks(result),
    }


def _rows(result: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Rows of a point's engines: torch eager is what they are compared with."""
    rows = result.get("points", {}).get(key, {}).get("variants", {})
    return {n: row for n, row in rows.items() if "absent" not in row and not n.startswith("eager")}


def _best(rows: Mapping[str, Any], value: Any, *, least: bool = False) -> tuple[str, float] | None:
    found = [(name, value(row)) for name, row in rows.items() if value(row) is not None]
    return (min if least else max)(found, key=lambda pair: pair[1]) if found else None


def _claim(found: tuple[str, float] | None, holds: Any) -> dict[str, Any]:
    if found is None:
        return {"holds": None, "measured": None}
    return {"holds": bool(holds(found[1])), "measured": found[1], "by": found[0]}


def _checks(result: Mapping[str, Any]) -> dict[str, Any]:
    """Every check that ran, by name."""
    verdicts: dict[str, bool] = {}
    for name, check in result.get("checks", {}).items():
        rows = check if name == "parity" else {"": check}
        for variant, row in rows.items():
            if isinstance(row, dict) and "holds" in row:
                verdicts[f"{name} {variant}".strip()] = bool(row["holds"])
    return {"holds": all(verdicts.values()) if verdicts else None, "measured": verdicts}


def lines(result: Mapping[str, Any]) -> list[str]:
    """Lines of a Markdown document."""
    machine = result["machine"]
    where = machine.get("gpu") or f"{machine['processor']} (no GPU: a dry run, its figures mean nothing)"
    text = [f"# Engines on {where}, {result['date']}", ""]
    text += [f"Versions and settings are in the JSON file. Commit {machine['commit']}.", "", "## Aims", ""]
    words = {True: "yes", False: "no", None: "not measured"}
    aims = [
        (aim, words[found["holds"]], _figure(found["measured"]), found.get("by", ""))
        for aim, found in result.get("claims", {}).items()
    ]
    text += [*table(("aim", "holds", "measured", "by"), aims), "", "## Limits", ""]
    limits = result.get("limits", {}).get("device", {})
    text += [
        f"- {kind}: {limit['giga_per_s'] / 1e3:.1f} {'TB/s' if kind == 'copy' else 'TFLOP/s'}"
        for kind, limit in limits.items()
        if isinstance(limit, dict)
    ]
    for key, point in result.get("points", {}).items():
        text += ["", f"## {key}", "", *_point(point)]
    text += ["", "## Start, seconds to the first mask", "", *_starts(result.get("start", {}))]
    return text


def _figure(value: Any) -> Any:
    return f"{sum(value.values())} of {len(value)}" if isinstance(value, dict) else value


def _point(point: Mapping[str, Any]) -> list[str]:
    if "not_measured" in point:
        return [f"Not measured: {point['not_measured']}."]
    rows: list[tuple[object, ...]] = []
    absent = []
    for name, row in point["variants"].items():
        if "absent" in row:
            absent.append(f"- {name} is absent: {row['absent']}")
            continue
        shares = ", ".join(f"{kind} {share:.0%}" for kind, share in row["found"].items())
        spread, ratio = row["end_to_end_ms"], row["ratio_fp16"]
        rows.append(
            (
                name,
                spread["median"],
                spread["p99"],
                row["frames_per_s"],
                ratio and ratio["median"],
                row["device_ms"],
                row["tflop_per_s"],
                row["of_matrix_rate"],
                row["of_bandwidth"],
                shares,
            )
        )
    note = [] if point["trained"] else ["Random weights: for speed only.", ""]
    return [*note, *table((*HEAD, *SHARES), rows), *([""] if absent else []), *absent]


def _starts(starts: Mapping[str, Any]) -> list[str]:
    rows: list[tuple[object, ...]] = []
    for name, found in starts.items():
        reason = found.get("absent") or found.get("not_measured")
        if reason:
            rows.append((name, None, None, reason))
        else:
            warm = [run["first_mask"] for run in found["warm"]]
            rows.append((name, found["cold"]["first_mask"], min(warm), ""))
    return table(("engine", "cold", "warm", "note"), rows)
