"""Draws the architecture page's picture: the path of a frame in a live run.

    python docs/draw_frame_path.py    # writes docs/frame-path.svg

The picture follows the reader's colour scheme and has its own background, so it can be read on any page.
"""

from __future__ import annotations

from pathlib import Path

WIDTH, HEIGHT = 640, 816
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
PICTURE = Path(__file__).with_name("frame-path.svg")
STYLE = """
.page { fill: #ffffff } .band { fill: #eef2f6 } .box { fill: #ffffff; stroke: #b9c4cf }
.accent { fill: #fff7c2; stroke: #b59a00 } .line { stroke: #57606a } .head, .muted { fill: #57606a }
.title { fill: #1b1f24; font-size: 17px; font-weight: 650 } .line { fill: none; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
  .page { fill: #131416 } .band { fill: #1d2227 } .box { fill: #2a313a; stroke: #4d5966 }
  .accent { fill: #3a3610; stroke: #e8dd3c } .line { stroke: #a4adb6 } .head, .muted { fill: #a4adb6 }
  .title { fill: #e6e9ec }
}
"""


def draw() -> str:
    """The picture as SVG text."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-10 -10 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" font-family="{FONT}" font-size="15">',
        "<title>The path of a frame in a live run</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
        'orient="auto"><path class="head" d="M0 0 10 5 0 10z"/></marker></defs>',
        f'<rect class="page" x="-10" y="-10" width="{WIDTH}" height="{HEIGHT}" rx="8"/>',
    ]

    def text(x: float, y: float, words: str, kind: str = "muted", anchor: str = "middle") -> None:
        parts.append(f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{words}</text>')

    def rectangle(kind: str, x: float, y: float, *, w: float, h: float) -> None:
        parts.append(f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="8"/>')

    def thread(x: float, y: float, w: float, h: float, name: str) -> None:
        rectangle("band", x, y, w=w, h=h)
        text(x + 16, y + 19, name, anchor="start")

    def box(x: float, y: float, w: float, h: float, title: str, *lines: str, kind: str = "box") -> None:
        rectangle(kind, x, y, w=w, h=h)
        top = y + h / 2 - 9.5 * len(lines) + 6
        text(x + w / 2, top, title, "title")
        for at, line in enumerate(lines, 1):
            text(x + w / 2, top + 20 * at, line)

    def arrow(path: str) -> None:
        parts.append(f'<path class="line" d="{path}" marker-end="url(#head)"/>')

    thread(8, 6, 400, 196, "reader thread")
    box(24, 32, 368, 60, "Source", "grabber, RTSP, recording, phantom")
    arrow("M208 93V113")
    box(
        24,
        114,
        368,
        78,
        "One slot for the newest frame",
        "a newer frame replaces an older one,",
        "which is counted",
    )
    thread(8, 228, 400, 180, "segmentation thread")
    arrow("M208 193V255")
    box(24, 256, 368, 60, "Prepare", "image region, letterbox, tensor")
    arrow("M208 317V337")
    box(24, 338, 368, 60, "Engine", "tensor in, probability of nerve out")
    thread(8, 434, 400, 116, "finish thread")
    arrow("M208 399V461")
    box(
        24,
        462,
        368,
        78,
        "Finish",
        "out-of-distribution check, temporal filter,",
        "outline in the frame's own pixels",
    )
    arrow("M208 541V593")
    # The presenter hears of every frame: a late net delays outlines, not the video.
    arrow("M393 153H470V593")
    for at, line in enumerate(
        ("every frame also", "goes past the net", "and is checked for", "a frozen scanner")
    ):
        text(480, 344 + 20 * at, line, anchor="start")
    box(
        8,
        594,
        604,
        64,
        "Presenter",
        "decides the view: state, frame, outline, when the outline expires",
        kind="accent",
    )
    thread(8, 690, 296, 98, "caller's thread")
    arrow("M156 659V717")
    box(24, 718, 264, 60, "Display", "window, web page")
    thread(316, 690, 296, 98, "writer thread")
    arrow("M464 659V717")
    box(332, 718, 264, 60, "Recorder", "frames, results and views")
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
