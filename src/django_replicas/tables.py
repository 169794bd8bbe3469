"""Rows of text, aligned."""

from collections.abc import Callable, Sequence

Row = Sequence[str]
Style = Callable[[str], str]


def aligned(header: Row, rows: Sequence[Row], style: Style = str) -> list[str]:
    """Return the lines of a table; *style* is put on every cell, the header's aside, once padded.

    Columns in which no row says anything are left out.
    """
    used = [number for number in range(len(header)) if any(row[number] for row in rows)]
    widths = {number: max(len(row[number]) for row in [header, *rows]) for number in used}

    def line(row: Row, style: Style) -> str:
        cells = [(row[number], row[number].ljust(widths[number])) for number in used]
        return "  ".join(style(padded) if text else padded for text, padded in cells).rstrip()

    return [line(header, str), *(line(row, style) for row in rows)]
