"""The topology as it is now: every alias tried, at the same time, on a connection of its own.

Looking changes nothing: what this process knows of its followers stays as it is.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from django.db import connections
from django.template.defaultfilters import filesizeformat
from django.utils.timezone import localtime

from .deadlines import Deadline
from .followers import followers_of
from .lag import why_too_far
from .own_connections import (
    connection_of_its_own,
    open_file,
    seconds_to_connect,
    servers_behind,
)
from .replication import CUT_OFF, Lag, Progress, first_line, lag_between, progress_of
from .tables import Style, aligned
from .topology import ReplicaSet
from .units import FOLLOWER, LEADER, Role

# Where the alias sets none; drivers would wait for minutes.
CONNECT_TIMEOUT = 10.0
# What a server may take to answer once it is connected to. No timeout of its own bounds a server
# that is frozen.
ANSWER_TIMEOUT = 3.0


@dataclass(frozen=True, slots=True)
class Status:
    """One alias of a replica set, tried now.

    ``down_until`` is the moment until which this process leaves a follower alone, by what it met
    before. ``error`` says why the alias is not ``alive``, ``lags`` why it may be too far behind for
    ``MAX_LAG``, ``note`` what else is not as it should be.
    """

    leader: str
    alias: str
    role: Role
    alive: bool
    down_until: datetime | None
    position: str | None
    lag: Lag
    error: str | None
    note: str | None
    lags: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold; moments are ISO 8601 in UTC."""
        until = self.down_until
        return {**asdict(self), "down_until": None if until is None else until.isoformat()}


def examine(sets: Iterable[ReplicaSet]) -> list[Status]:
    """Try every alias of *sets*, and return what is found, leaders first in each set.

    Takes as long as the slowest alias, and no longer than its ``connect_timeout`` and a little.
    """
    tried = [
        (each, [Attempt(alias, leads=alias == each.leader) for alias in _aliases(each)])
        for each in sets
    ]
    return [status for replica_set, attempts in tried for status in _found(replica_set, attempts)]


def _aliases(replica_set: ReplicaSet) -> list[str]:
    return [replica_set.leader, *replica_set.followers]


def _found(replica_set: ReplicaSet, attempts: "list[Attempt]") -> Iterator[Status]:
    results = [attempt.result() for attempt in attempts]
    leader = results[0]
    for attempt, result in zip(attempts, results, strict=True):
        leads = result is leader
        lag, note = (Lag(), result.progress.note) if leads else _lag(leader, result)
        yield Status(
            leader=replica_set.leader,
            alias=attempt.alias,
            role=LEADER if leads else FOLLOWER,
            alive=result.error is None,
            down_until=None if leads else _down_until(replica_set, attempt.alias),
            position=result.progress.position,
            lag=lag,
            error=result.error,
            note=note,
            lags=None if leads else _lags(replica_set, attempt.alias, result, lag),
        )


NOTHING = Progress()


@dataclass(frozen=True, slots=True)
class _Result:
    progress: Progress = NOTHING
    vendor: str = ""
    error: str | None = None


def _lag(leader: _Result, follower: _Result) -> tuple[Lag, str | None]:
    progress = follower.progress
    if progress.note or progress.position is None:
        return Lag(), progress.note
    if leader.progress.note or leader.progress.position is None:
        return Lag(), "its lag is not known, because its leader tells no position"
    note = CUT_OFF if progress.receives is False else None
    return lag_between(follower.vendor, leader.progress, progress), note


def _lags(replica_set: ReplicaSet, alias: str, follower: _Result, lag: Lag) -> str | None:
    """Say what this process found when it measured, else what one look can tell."""
    limit = replica_set.max_lag
    if limit is None or follower.progress.position is None:
        return None
    return followers_of(replica_set).why_too_far(alias) or why_too_far(
        limit, follower.progress, lag
    )


def _down_until(replica_set: ReplicaSet, alias: str) -> datetime | None:
    return moment_in(followers_of(replica_set).down_for(alias))


def moment_in(seconds: float | None) -> datetime | None:
    """Return the moment that is so many seconds from now."""
    return None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds)


class Attempt:
    """A connection that is being tried, in a thread that nobody waits for too long."""

    def __init__(self, alias: str, *, leads: bool = False) -> None:
        self.alias = alias
        self._question = _question(alias, leads)
        self._patience = _connect_timeout(alias) + ANSWER_TIMEOUT
        self._deadline = time.monotonic() + self._patience
        self._question.begin()

    def result(self) -> _Result:
        try:
            result: _Result = self._question.result(max(0.0, self._deadline - time.monotonic()))
        except TimeoutError:
            return _Result(error=f"no answer within {self._patience:g} seconds")
        return result


@cache
def _question(alias: str, leads: bool) -> Deadline:
    # Kept, so that watching a server that never answers leaves no thread behind for each look.
    return Deadline(lambda: _try(alias, leads), most_stuck=2)


def _try(alias: str, leads: bool) -> _Result:
    try:
        return _ask(alias, leads)
    except Exception as error:  # Drivers and settings fail in their own ways; all are told.
        return _Result(error=first_line(error))


def _ask(alias: str, leads: bool) -> _Result:
    if alias not in connections.settings:
        return _Result(error="it is not in DATABASES")
    *others, last = servers_behind(alias)
    for server in others:
        with suppress(Exception):  # Its own row says what is wrong with it.
            return _ask_server(server, leads)
    return _ask_server(last, leads)


def _ask_server(alias: str, leads: bool) -> _Result:
    # Registered nowhere, so that nothing else uses it or closes it.
    with connection_of_its_own(alias, CONNECT_TIMEOUT) as connection:
        if connection.vendor == "sqlite":
            open_file(connection)
        connection.ensure_connection()
        return _Result(progress_of(connection, leads=leads), connection.vendor)


def _connect_timeout(alias: str) -> float:
    if alias not in connections.settings:
        return CONNECT_TIMEOUT
    return seconds_to_connect(alias, CONNECT_TIMEOUT)


# As text

HEADER = ("set", "alias", "role", "alive", "down until", "position", "behind")


def status_lines(statuses: Sequence[Status], good: Style = str, bad: Style = str) -> list[str]:
    """Return a table, and below it what is wrong with whom; *good* and *bad* colour "yes" and "no".

    A set is named in its leader's row only.
    """
    colours = {"yes": good, "no": bad}
    rows = [_cells(status) for status in statuses]
    table = aligned(HEADER, rows, lambda cell: colours.get(cell.strip(), str)(cell))
    wrong = [f"{each.alias}: {text}" for each in statuses for text in _what_is_wrong(each)]
    return [*table, "", *wrong] if wrong else table


def _what_is_wrong(status: Status) -> list[str]:
    texts = (status.error or status.note, status.lags)
    return list(dict.fromkeys(filter(None, texts)))


def _cells(status: Status) -> tuple[str, ...]:
    until = status.down_until
    return (
        status.leader if status.role is LEADER else "",
        status.alias,
        status.role,
        "yes" if status.alive else "no",
        "" if until is None else f"{localtime(until):%H:%M:%S}",
        status.position or "-",
        "" if status.role is LEADER else _behind(status.lag),
    )


def _behind(lag: Lag) -> str:
    if lag.bytes is not None:
        amount = str(filesizeformat(lag.bytes)).replace("\xa0", " ")
    elif lag.transactions is not None:
        amount = f"{lag.transactions} transaction{'' if lag.transactions == 1 else 's'}"
    else:
        return "-"
    return f"{amount}, at most {lag.seconds:.1f} s" if lag.seconds else amount
