"""The page of the documentation that shows the counts side by side."""

import platform
import signal
from datetime import UTC, datetime
from pathlib import Path

import django

from .driver import OURS, THEIRS
from .scenarios import COUNTED, SCENARIOS

PAGE = Path(__file__).parents[2] / "docs" / "figures" / "races.rst"
NOT_RUN = "\N{EN DASH}"
END = f"""
{NOT_RUN} is for what was not run, or where nobody could begin. After the scenarios that kill,
``write_sessions`` ran once, with ours. Connections are counted when nobody has asked anything for
a while, and not where processes were killed, whose connections ended with them; nor are reads
judged where the cache is emptied. django-distributed's lost updates differ with the distance.
"""


def publish(runs):
    """Write the page of the last run of each engine."""
    lines = [
        *_beginning(runs),
        "",
        ".. list-table:: django-replicas / django-distributed 0.3",
        "   :header-rows: 1",
        f"   :widths: 28{' 12' * len(COUNTED)}",
        "",
        *_row("Scenario", COUNTED),
    ]
    for name in SCENARIOS:
        lines += _row(name.replace("sys.exit", "``sys.exit``"), _cells(runs, name))
    PAGE.write_text("\n".join(lines) + "\n" + END)


def _beginning(runs):
    today = datetime.now(UTC)
    yield (
        f"Measured on {today.day} {today:%B %Y}: CPython {platform.python_version()}, Django "
        f"{django.get_version()}, PostgreSQL, memcached,"
    )
    each = [
        f"{run['users']} users at once in {run['rounds']} rounds with {engine}"
        for engine, run in runs.items()
    ]
    yield f"two cores; {' and '.join(each)}."


def _row(name, cells):
    yield f"   * - {name}"
    yield from (f"     - {cell}" for cell in cells)


def _cells(runs, name):
    _, options = SCENARIOS[name]
    not_counted = set()
    if not options.get("judges_reads", True):
        not_counted.add("read old data")
    if options.get("end") == signal.SIGKILL:
        not_counted.add("connections open")
    for each in COUNTED:
        counts = (_count(runs, engine, name, each) for engine in (OURS, THEIRS))
        yield "not counted" if each in not_counted else " / ".join(counts)


def _count(runs, engine, name, each):
    counts = runs.get(engine, {}).get("counts", {}).get(name)
    return str(counts[each]) if counts and counts["requests"] else NOT_RUN
