"""The page of the documentation that shows what a request waits for its session."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from .measure import Target, facts

PAGE = Path(__file__).parent.parent / "docs" / "figures" / "sessions.rst"
BEGINNING = """\
Measured on {day} {month}: {python}, Django {Django}, PostgreSQL behind a proxy, memcached with
pymemcache, on {machine}, the load being {load}: read the columns against each other, not the
digits.

.. list-table:: Milliseconds of waiting, medians
   :header-rows: 1
   :widths: 25 15 20 20 20

   * - Call
     - leader away
     - ``cache``
     - ``cached_db``
     - ``write_behind``
"""
BURST = """
{all:,} saves with the leader stopped: {queued:,} waited in the queue, {refused:,} raised the
leader's error, {most threads} threads, {kilobytes more} KB more memory; {in the database:,} of the
{saved:,} that had been reported were in the database when the leader was back.

"""


def publish(
    medians: Mapping[tuple[int, str, str], float],
    engines: Sequence[str],
    crowd: Mapping[str, int],
    targets: Sequence[Target],
) -> None:
    """Write what was found, and each aim with whether it was kept."""
    today = datetime.now(UTC)
    about = BEGINNING.format(**{**facts(), "day": today.day, "month": f"{today:%B %Y}"})
    table = "\n".join(_rows(medians, engines))
    burst = BURST.format_map({**crowd, "all": crowd["saved"] + crowd["refused"]})
    aims = "\n".join(f"- {_verdict(each)}: {each.promise}, {each.found}" for each in targets)
    PAGE.write_text(f"{about}{table}\n{burst}The aims of this run:\n\n{aims}\n")


def _rows(medians: Mapping[tuple[int, str, str], float], engines: Sequence[str]) -> Iterator[str]:
    calls = dict.fromkeys((operation, away) for away, operation, _ in medians)
    for operation, away in sorted(calls, key=lambda call: [*calls].index((call[0], 0))):
        yield f"   * - {operation}"
        yield f"     - {away} ms"
        for engine in engines:
            yield f"     - {medians[away, operation, engine] * 1000:.2f}"


def _verdict(target: Target) -> str:
    return "kept" if target.kept else "**missed**"
