"""Charts by matplotlib: one style, colours for the colour-blind that also print in grey, bars labelled with
their figures, and SVG that is the same bytes for the same data."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from streamseg.core.errors import MissingExtra

try:
    import matplotlib as mpl
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
    from matplotlib.transforms import Bbox
except ImportError as error:  # pragma: no cover - the extra is installed wherever tests run
    raise MissingExtra("a chart", "matplotlib", "bench") from error

WIDTH = 6.6
"""Inches, at 72 points each: fits the report's column."""
DARK, LIGHT, GREY, ALARM, GREEN = "#0072B2", "#E69F00", "#BBBBBB", "#D55E00", "#009E73"
"""Of Okabe and Ito's palette, but for the grey."""


@contextmanager
def style() -> Iterator[None]:
    """The style of a chart, which holds while it is drawn and saved. Text stays text: readable and small."""
    settings = {
        "font.size": 9,
        "axes.titlesize": 9,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "svg.fonttype": "none",
        "text.parse_math": False,  # a clip's name may hold dollars
        "svg.hashsalt": "streamseg",  # the same figure is the same bytes
    }
    with mpl.rc_context(settings):  # type: ignore[arg-type]
        yield


def blank(height: float) -> Figure:
    """An empty figure, ``height`` inches high."""
    return Figure(figsize=(WIDTH, height), layout="constrained")


def svg(figure: Figure) -> bytes:
    """The figure as SVG; the same bytes whenever it is drawn."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:  # the layout's solver differs in the last bits, and names in the SVG with them
        axes.set_position(Bbox(axes.get_position().get_points().round(5)))
    return _save(figure, "svg", {"Date": None})


def png(figure: Figure) -> bytes:
    """The figure as PNG, for photographs."""
    return _save(figure, "png", None)


def _save(figure: Figure, kind: str, metadata: dict[str, None] | None) -> bytes:
    target = io.BytesIO()
    figure.savefig(target, format=kind, metadata=metadata)
    return target.getvalue()


def write_beside(axes: Axes, values: Sequence[float], places: Sequence[float], words: Sequence[str]) -> None:
    """Write a word at the end of each horizontal bar, and make room for the longest."""
    top = max(values, default=0.0)
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    for value, place, word in zip(values, places, words, strict=True):
        axes.annotate(
            word, (value, place), (4, 0), textcoords="offset points", va="center", fontsize=8, bbox=paper
        )
    widest = max((len(word) for word in words), default=0)
    axes.set_xlim(0, top * (1.06 + 0.018 * widest) if top > 0 else 1.0)


def rows_of(axes: Axes, names: Sequence[str]) -> None:
    """Name horizontal bars at 0, 1, ..., the first on top."""
    axes.set_yticks(range(len(names)), [short(name) for name in names])
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)


def short(name: str, length: int = 44) -> str:
    """A name of at most this length: the middle of a longer one is left out."""
    half = (length - 1) // 2
    return name if len(name) <= length else f"{name[:half]}…{name[-half:]}"


def decades(axis: Axis, steps: Sequence[float] = (1.0, 2.0, 5.0)) -> None:
    """Label a logarithmic axis with plain numbers, at 1, 2, 5, 10, ... or at ``steps`` of each decade."""
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
