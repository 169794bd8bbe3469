"""How far a server is in its replication, as its vendor tells an ordinary role."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

from .positions import lsn_of, vendor_of


@dataclass(frozen=True, slots=True)
class Progress:
    """What one server says of itself.

    ``position`` is in its vendor's notation, None where it tells none. ``quiet_seconds`` is the age
    of the newest transaction that it replayed. ``note`` says what is missing, or is not as it
    should be. ``receives`` tells of a follower whether what replicates to it is at work; None
    where that is not known.
    """

    position: str | None = None
    quiet_seconds: float | None = None
    note: str | None = None
    receives: bool | None = None


@dataclass(frozen=True, slots=True)
class Lag:
    """How far behind its leader a follower is; what is None is not known.

    ``bytes`` is PostgreSQL's measure, ``transactions`` that of MariaDB and MySQL. ``seconds`` is
    the most that it can be: nothing newer than that is missing, unless it is 0.
    """

    bytes: int | None = None
    transactions: int | None = None
    seconds: float | None = None


def progress_of(connection: BaseDatabaseWrapper, *, leads: bool) -> Progress:
    """Ask an open connection how far its server is; what cannot be read is said in a note."""
    read = _READERS.get(vendor_of(connection))
    if read is None:
        return Progress()
    try:
        return read(connection, leads)
    except Error as error:
        return Progress(note=f"its position cannot be read: {first_line(error)}")


def lag_between(vendor: str, leader: Progress, follower: Progress) -> Lag:
    """Compare a follower's progress with its leader's.

    The age of the last replayed transaction says nothing while the leader is idle, so seconds are
    only told where the positions differ.
    """
    if leader.position is None or follower.position is None:
        return Lag()
    if vendor == "postgresql":
        behind = max(0, lsn_of(leader.position) - lsn_of(follower.position))
        return Lag(bytes=behind, seconds=follower.quiet_seconds if behind else 0.0)
    behind = missing(leader.position, follower.position)
    return Lag(transactions=behind, seconds=follower.quiet_seconds if behind else 0.0)


CUT_OFF = "nothing of its leader's reaches it: its replication is not running"


def first_line(error: BaseException) -> str:
    """Return what an error says first, its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


# PostgreSQL

# The flush position, because the insert position may be unreachable for seconds. What the receiver
# does is not for ordinary roles to see, but that there is one.
_POSTGRESQL = """
    SELECT pg_is_in_recovery(),
           CASE WHEN pg_is_in_recovery()
                THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END::text,
           extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8,
           EXISTS (SELECT FROM pg_stat_wal_receiver)
"""


def _postgresql(connection: BaseDatabaseWrapper, leads: bool) -> Progress:
    in_recovery, position, quiet, receives = _row(connection, _POSTGRESQL)
    note = None
    if leads and in_recovery:
        note = "it is a standby: PostgreSQL refuses writes there"
    elif not leads and not in_recovery:
        note = "it is no standby: what it may replicate logically has no position here"
    if not in_recovery:
        return Progress(position, note=note)
    return Progress(position, quiet, note, receives)


# MariaDB and MySQL


def _mariadb(connection: BaseDatabaseWrapper, leads: bool) -> Progress:
    variable = "@@global.gtid_binlog_pos" if leads else "@@global.gtid_slave_pos"
    (position,) = _row(connection, f"SELECT {variable}")
    # Ordinary users are refused SHOW SLAVE STATUS. This is on while both threads are at work.
    status = None if leads else _row(connection, "SHOW GLOBAL STATUS LIKE 'Slave_running'")
    return _by_gtid(position, None if status is None else status[1] == "ON")


def _mysql(connection: BaseDatabaseWrapper, leads: bool) -> Progress:
    (executed,) = _row(connection, "SELECT @@global.gtid_executed")
    return _by_gtid(executed.replace("\n", ""))


def _by_gtid(position: str, receives: bool | None = None) -> Progress:
    if not position:
        return Progress(note="it has no GTID position", receives=receives)
    return Progress(position, receives=receives)


def missing(leader: str, follower: str) -> int:
    """Count the transactions in one GTID position that are not in the other.

    MariaDB's name the last of each domain ("0-1-42"); MySQL's name all of them ("uuid:1-42").
    """
    had, has = _transactions(leader), _transactions(follower)
    return sum(_uncovered(ranges, has.get(source, [])) for source, ranges in had.items())


Ranges = list[tuple[int, int]]


def _transactions(position: str) -> dict[str, Ranges]:
    found: dict[str, Ranges] = {}
    for part in filter(None, (each.strip() for each in position.split(","))):
        if ":" in part:
            source, *intervals = part.split(":")
            # MySQL 8.3 and newer put tags between the intervals.
            for interval in intervals:
                if re.fullmatch(r"\d+(-\d+)?", interval):
                    first, _, last = interval.partition("-")
                    found.setdefault(source, []).append((int(first), int(last or first)))
                else:
                    source = f"{part.split(':')[0]}:{interval}"
        else:
            domain, _, sequence = part.split("-")
            found.setdefault(domain, []).append((1, int(sequence)))
    return found


def _uncovered(ranges: Ranges, others: Ranges) -> int:
    return sum(last - first + 1 for first, last in ranges) - sum(
        max(0, min(last, its_last) - max(first, its_first) + 1)
        for first, last in ranges
        for its_first, its_last in others
    )


def _row(connection: BaseDatabaseWrapper, query: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()


_READERS: Mapping[str, Callable[[BaseDatabaseWrapper, bool], Progress]] = {
    "postgresql": _postgresql,
    "mariadb": _mariadb,
    "mysql": _mysql,
}
