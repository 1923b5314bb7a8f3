"""A report as a list of blocks, written as one HTML page or as Markdown that refers to image files."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True, slots=True)
class Paragraph:
    text: str


@dataclass(frozen=True, slots=True)
class Bullets:
    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text, each named by its first column."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: bool = True
    """Whether all columns but the first hold numbers, which are aligned to the right."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An SVG or PNG file's bytes."""

    name: str
    """File name, with its suffix."""
    data: bytes
    caption: str
    alt: str
    """Alternative text: what it shows."""
    shows_data: bool = False
    """Whether it shows images of the data set or something drawn from them, and so is never exported."""


Block = Heading | Paragraph | Bullets | Table | Picture

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; max-width: 76rem;
  margin: 0 auto; padding: 1.5rem 1rem 4rem; overflow-wrap: anywhere; }
h1, p, ul, figcaption { max-width: 62rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums;
  margin: 0.5rem 0 1.5rem; }
caption { text-align: left; font-weight: 600; padding: 0.4rem 0; white-space: nowrap; }
th, td { padding: 0.3rem 0.55rem; text-align: left; vertical-align: top; border-bottom: 1px solid #ddd; }
th, table.numbers td { overflow-wrap: normal; }
thead th { border-bottom: 2px solid #555; } tbody th { font-weight: 500; }
table.numbers tbody th { white-space: nowrap; }
table.numbers td, table.numbers thead th:not(:first-child) { text-align: right; }
table.numbers td { white-space: nowrap; } table.numbers thead th { vertical-align: bottom; }
figure { margin: 1rem 0 2rem; } figure img { max-width: 100%; height: auto; }
figcaption { font-size: 0.9rem; }
@media screen and (max-width: 40rem) {
  table.numbers tbody th { position: sticky; left: 0; min-width: 8.5rem; background: #fff;
    white-space: normal; overflow-wrap: anywhere; }
}
@media print {
  body { max-width: none; font-size: 10pt; } table, figure { break-inside: avoid; }
  .scroll { overflow: visible; } table { font-size: 7pt; } th, td { padding: 0.1rem 0.15rem; }
  table.numbers tbody th { white-space: normal; overflow-wrap: anywhere; }
}
""".strip()


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """One self-contained page."""
    body = "\n".join(_html(block) for block in blocks)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n"
        f"<h1>{html.escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def _html(block: Block) -> str:
    match block:
        case Heading():
            return f"<h{block.level}>{html.escape(block.text)}</h{block.level}>"
        case Paragraph():
            return f"<p>{html.escape(block.text)}</p>"
        case Bullets():
            return "<ul>\n" + "\n".join(f"<li>{html.escape(item)}</li>" for item in block.items) + "\n</ul>"
        case Table():
            return _html_table(block)
        case Picture():
            kind = "svg+xml" if block.name.endswith(".svg") else "png"
            source = f"data:image/{kind};base64,{base64.b64encode(block.data).decode()}"
            return (
                f'<figure>\n<img src="{source}" alt="{html.escape(block.alt)}">\n'
                f"<figcaption>{html.escape(block.caption)}</figcaption>\n</figure>"
            )


def _html_table(table: Table) -> str:
    head = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in table.header)
    rows = "\n".join(
        f'<tr><th scope="row">{html.escape(row[0])}</th>'
        + "".join(f"<td>{html.escape(text)}</td>" for text in row[1:])
        + "</tr>"
        for row in table.rows
    )
    kind = ' class="numbers"' if table.numbers else ""
    return (
        f'<div class="scroll"><table{kind}>\n<caption>{html.escape(table.caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>"
    )


def to_markdown(title: str, blocks: Sequence[Block], folder: str = "") -> str:
    """Markdown that refers to images by their names in ``folder`` (empty or ending in a slash)."""
    return "\n\n".join([f"# {title}", *(_markdown(block, folder) for block in blocks)]) + "\n"


def _markdown(block: Block, folder: str) -> str:
    match block:
        case Heading():
            return f"{'#' * block.level} {block.text}"
        case Paragraph():
            return _plain(block.text)
        case Bullets():
            return "\n".join(f"- {_plain(item)}" for item in block.items)
        case Table():
            rule = ["---", *(["---:" if block.numbers else "---"] * (len(block.header) - 1))]
            lines = [[_plain(text) for text in row] for row in (block.header, *block.rows)]
            table = "\n".join(f"| {' | '.join(cells)} |" for cells in (lines[0], rule, *lines[1:]))
            return f"**{_plain(block.caption)}**\n\n{table}"
        case Picture():
            return f"![{_plain(block.alt)}]({folder}{block.name})\n\n*{_plain(block.caption)}*"


def _plain(text: str) -> str:
    """Escapes the signs that Markdown would interpret."""
    for sign in "\\|*_<`[":
        text = text.replace(sign, f"\\{sign}")
    return text
