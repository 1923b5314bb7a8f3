"""Blocks as HTML and as Markdown."""

import base64
from html.parser import HTMLParser

from streamseg.reporting.document import (
    Bullets,
    Heading,
    Paragraph,
    Picture,
    Table,
    to_html,
    to_markdown,
)

BLOCKS = [
    Heading("What <comes>"),
    Paragraph("a_b < c | d * e"),
    Bullets(["one", "two & three"]),
    Table("Counts", ["net", "a|b"], [["x_y", "1.0"], ["z", "<2>"]]),
    Picture("loss.svg", b"<svg/>", "Falls.", 'a "curve"'),
]


class Reader(HTMLParser):
    """Text, sources of pictures, and whether every element is closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.sources = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.sources.append(dict(attributes)["src"])
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_html_holds_all_and_needs_nothing_else():
    page = to_html("A & B", BLOCKS)
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    text = "".join(reader.text)
    assert all(words in text for words in ("A & B", "What <comes>", "a_b < c | d * e", "two & three", "<2>"))
    (source,) = reader.sources
    assert base64.b64decode(source.removeprefix("data:image/svg+xml;base64,")) == b"<svg/>"
    assert "http" not in page


def test_markdown_escapes_and_refers():
    text = to_markdown("A", BLOCKS, "pictures/")
    assert text.startswith("# A\n\n## What <comes>\n\n")
    assert r"a\_b \< c \| d \* e" in text
    assert "| net | a\\|b |\n| --- | ---: |\n| x\\_y | 1.0 |" in text
    assert '![a "curve"](pictures/loss.svg)\n\n*Falls.*' in text
    assert "- one\n- two & three" in text


def test_text_columns_are_not_set_to_the_right():
    table = Table("Words", ["a", "b"], [["1", "2"]], numbers=False)
    assert "| --- | --- |" in to_markdown("A", [table])
    assert 'class="numbers"' not in to_html("A", [table])
