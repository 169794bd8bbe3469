"""What people see in the terminal while the demo runs and when it has ended."""

import sys
from collections.abc import Mapping
from typing import Self

from example.tally import Tally

WIDTH = 24
HEADINGS = (
    *("", "requests", "reads", "by followers"),
    *("own writes", "looked for", "not seen", "failed"),
)


class Progress:
    """One line on standard error that fills up; where nobody watches, a line for each step.

    The line is gone when the block ends.
    """

    def __init__(self) -> None:
        self._is_watched = sys.stderr.isatty()
        self._step = ""

    def show(self, step: str, done: float = 0) -> None:
        """Show the step, and how much of the whole is done, from 0 to 1."""
        if self._is_watched:
            bar = ("█" * round(done * WIDTH)).ljust(WIDTH, "░")
            self._write(f"\r\x1b[K{bar} {done:4.0%}  {step}")
        elif step != self._step:
            self._write(f"{done:4.0%}  {step}\n")
        self._step = step

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def show_part(self, step: str, number: int, parts: int, done: float) -> None:
        """Show how much of one of several equal parts is done."""
        self.show(step, (number + done) / parts)

    def clear(self) -> None:
        """Take the line away, to make room for something that stays."""
        if self._is_watched:
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


def table(results: Mapping[str, Tally]) -> str:
    """Return one line for each way of routing."""
    rows = [HEADINGS, *(_row(name, tally) for name, tally in results.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(_cells(row, widths)) for row in rows]
    return "\n".join([lines[0], "  ".join("─" * width for width in widths), *lines[1:]])


def _row(name: str, tally: Tally) -> tuple[str, ...]:
    counts = (tally.writes, tally.looks, tally.unseen, tally.failed)
    reads = tally.follower_reads + tally.leader_reads
    share = f"{tally.follower_share:.0%}"
    return (name, f"{tally.requests:,}", f"{reads:,}", share, *(f"{count:,}" for count in counts))


def _cells(row: tuple[str, ...], widths: list[int]) -> list[str]:
    name, *numbers = row
    cells = [cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True)]
    return [name.ljust(widths[0]), *cells]
