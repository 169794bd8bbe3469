"""The pages of the documentation, as tests follow them: their code, in its order."""

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
BLOCK = re.compile(
    r"^(?P<indent> *)\.\. code-block:: (?P<language>\w+)\n"
    r"(?P<options>(?:(?P=indent)   :.*\n)*)\n"
    r"(?P<code>(?:(?P=indent)   .*\n|\n)+)",
    re.MULTILINE,
)
FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
CAPTION = re.compile(r":caption: (.+)")


class Block(NamedTuple):
    """A block of code; its caption is the file that it belongs into, if there is one."""

    language: str
    code: str
    caption: str = ""


def text_of(page):
    """Return what is in a page of ``docs``, named without its ``.rst``."""
    return (DOCS / f"{page}.rst").read_text()


def blocks_of(page):
    """Return all code blocks of a page."""
    return blocks_in(text_of(page))


def blocks_in(text):
    """Return the code blocks of a text."""
    return [
        Block(match["language"], textwrap.dedent(match["code"]).strip("\n") + "\n", caption(match))
        for match in BLOCK.finditer(text + "\n")
    ]


def caption(match):
    found = CAPTION.search(match["options"])
    return found[1] if found else ""


def python_of(page):
    """Return the Python blocks of a page."""
    return [block.code for block in blocks_of(page) if block.language == "python"]


def fenced_in(text):
    """Return the code blocks of a text in Markdown."""
    return [Block(match["language"], match["code"]) for match in FENCE.finditer(text)]


def without_dots(code):
    """Return code without the dots that stand for what is the reader's own."""
    for dots in (r", \.\.\.,?(?=\s*[}\])])", r"(?<=[{\[(])\.\.\., ", r"^ *\.\.\.,\n", r"\.\.\.,$"):
        code = re.sub(dots, "", code, flags=re.MULTILINE)
    return code
