"""The peers of an alias as they are now: each tried on its own, and what this process knows of it.

Looking changes nothing: no peer is marked down or up by it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.utils.timezone import localtime

from .exceptions import ReplicasConfigError
from .peers import peers_of
from .status import Attempt, moment_in
from .tables import Style, aligned


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One peer of an alias, tried now.

    ``down_until`` is the moment until which this process leaves it alone, by what it met before.
    """

    of: str
    alias: str
    alive: bool
    down_until: datetime | None
    error: str | None
    role: str = "peer"

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold; moments are ISO 8601 in UTC."""
        until = self.down_until
        return {**asdict(self), "down_until": None if until is None else until.isoformat()}


def examine_peers(aliases: Iterable[str]) -> list[PeerStatus]:
    """Try all peers of some aliases, at the same time."""
    tried = []
    for alias in aliases:
        peers = peers_of(alias)
        if peers is None:
            raise ReplicasConfigError(f"{alias!r} has no peers: its ENGINE is another.")
        tried.append((peers, [Attempt(name) for name in peers.names]))
    return [
        PeerStatus(
            of=peers.alias,
            alias=attempt.alias,
            alive=(error := attempt.result().error) is None,
            down_until=moment_in(peers.down_for(attempt.alias)),
            error=error,
        )
        for peers, attempts in tried
        for attempt in attempts
    ]


HEADER = ("alias", "peer", "alive", "down until")


def peer_lines(statuses: Sequence[PeerStatus], good: Style = str, bad: Style = str) -> list[str]:
    """Return a table, and below it what is wrong with whom; *good* and *bad* colour "yes", "no"."""
    colours = {"yes": good, "no": bad}
    table = aligned(
        HEADER, list(map(_cells, statuses)), lambda cell: colours.get(cell.strip(), str)(cell)
    )
    wrong = [f"{each.alias}: {each.error}" for each in statuses if each.error]
    return [*table, "", *wrong] if wrong else table


def _cells(status: PeerStatus) -> tuple[str, ...]:
    until = status.down_until
    return (
        status.of,
        status.alias,
        "yes" if status.alive else "no",
        "" if until is None else f"{localtime(until):%H:%M:%S}",
    )
