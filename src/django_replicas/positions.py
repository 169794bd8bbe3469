"""How far a server has written or replayed: read it, compare it, write it as text.

A vendor is one class here: a ``Positions`` that asks its servers, and a ``Position`` that compares.
SQLite has none, nor has any server that is not named in ``VENDORS``.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self

from django.db.backends.base.base import BaseDatabaseWrapper


class Position(ABC):
    """A point in what one leader wrote; immutable.

    ``epoch`` is something that changes when another server becomes the leader: positions of
    different epochs do not compare.
    """

    __slots__ = ()
    letter: ClassVar[str]

    @property
    @abstractmethod
    def epoch(self) -> object: ...

    @abstractmethod
    def is_in(self, replayed: "Position") -> bool:
        """Tell whether a server that has *replayed* so much has replayed this."""

    @abstractmethod
    def merged(self, other: "Position") -> "Position | None":
        """Return the position that has both in it, None where they do not compare."""

    @abstractmethod
    def __str__(self) -> str:
        """Return text that ``position_from`` reads; every letter of it may stand in a cookie."""


UNKNOWN_TIMELINE = 0


@dataclass(frozen=True, slots=True, order=True)
class WalPosition(Position):
    """PostgreSQL's: a byte of the write-ahead log on a timeline.

    ``UNKNOWN_TIMELINE`` stands for that of a standby, which an ordinary role cannot know.
    """

    letter: ClassVar[str] = "p"
    timeline: int
    lsn: int

    @property
    def epoch(self) -> int:
        return self.timeline

    def is_in(self, replayed: Position) -> bool:
        return (
            isinstance(replayed, WalPosition)
            and replayed.timeline in {UNKNOWN_TIMELINE, self.timeline}
            and replayed.lsn >= self.lsn
        )

    def merged(self, other: Position) -> Position | None:
        if not isinstance(other, WalPosition) or other.timeline != self.timeline:
            return None
        return max(self, other)

    def __str__(self) -> str:
        return f"{self.letter}{self.timeline:X}.{self.lsn:X}"

    @classmethod
    def read(cls, text: str) -> Self | None:
        match = re.fullmatch("([0-9A-F]{1,8})[.]([0-9A-F]{1,16})", text)
        return None if match is None else cls(int(match[1], 16), int(match[2], 16))


class GtidPosition(Position):
    """MariaDB's: the last sequence number of each replication domain.

    The server that wrote it has no part in it, because numbers of a domain go on growing when
    another server becomes the leader (with ``gtid_strict_mode``).
    """

    __slots__ = ("domains",)
    letter = "m"

    def __init__(self, domains: Mapping[int, int]) -> None:
        self.domains = MappingProxyType(dict(domains))

    @property
    def epoch(self) -> frozenset[int]:
        return frozenset(self.domains)

    def is_in(self, replayed: Position) -> bool:
        return isinstance(replayed, GtidPosition) and all(
            replayed.domains.get(domain, -1) >= number for domain, number in self.domains.items()
        )

    def merged(self, other: Position) -> Position | None:
        if not isinstance(other, GtidPosition) or other.epoch != self.epoch:
            return None
        return GtidPosition(
            {each: max(self.domains[each], other.domains[each]) for each in self.domains}
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GtidPosition) and other.domains == self.domains

    def __hash__(self) -> int:
        return hash(frozenset(self.domains.items()))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    def __str__(self) -> str:
        return self.letter + "+".join(
            f"{domain}-{number}" for domain, number in self.domains.items()
        )

    @classmethod
    def read(cls, text: str) -> Self | None:
        if not re.fullmatch(r"[0-9]{1,10}-[0-9]{1,20}([+][0-9]{1,10}-[0-9]{1,20}){0,99}", text):
            return None
        pairs = (part.split("-") for part in text.split("+"))
        return cls({int(domain): int(number) for domain, number in pairs})

    @classmethod
    def of(cls, variable: str) -> Self | None:
        """Read "0-1-42,7-2-5", as servers write it: domain, server, sequence number."""
        triples = (part.strip().split("-") for part in variable.split(",") if part.strip())
        domains = {int(domain): int(number) for domain, _, number in triples}
        return cls(domains) if domains else None


def position_from(text: str) -> Position | None:
    """Read the text of a position; anything else is None."""
    kind = _KINDS.get(text[:1])
    return None if kind is None else kind.read(text[1:])


_KINDS: Mapping[str, Any] = {kind.letter: kind for kind in (WalPosition, GtidPosition)}


class Told(NamedTuple):
    """What a follower tells of itself: which *server* it is, and how far it has *replayed*.

    Two servers behind one address are told apart. ``replayed`` is None where it never has.
    """

    server: str | None = None
    replayed: Position | None = None


class Positions(ABC):
    """How one vendor's servers are asked; each question is one statement on an open connection.

    What the server refuses is raised as one of Django's database errors.
    """

    @abstractmethod
    def written(self, connection: BaseDatabaseWrapper, *, flushed: bool) -> Position | None:
        """Return how far a leader has written, all that is committed by now included.

        Not *flushed* it may be further than followers are sent before long, and includes what
        ``SET LOCAL synchronous_commit = off`` committed. None where the server keeps no log.
        """

    @abstractmethod
    def told(self, connection: BaseDatabaseWrapper) -> "Told":
        """Return what a follower tells of itself."""


class PostgreSQL(Positions):
    """Positions in the write-ahead log.

    A commit waits until it is flushed, so that the flush position has it; where
    ``synchronous_commit`` is off it does not, and only the insert position has.
    """

    # The file's name begins with the timeline; an ordinary role may ask for it.
    WRITTEN = """
        SELECT pg_walfile_name(lsn), lsn::text, inserted,
               pg_size_bytes(current_setting('wal_segment_size'))
        FROM (SELECT inserted, CASE WHEN inserted THEN pg_current_wal_insert_lsn()
                                    ELSE pg_current_wal_flush_lsn() END AS lsn
              FROM (SELECT {inserted} AS inserted) AS how) AS log
    """
    FLUSHED = WRITTEN.format(inserted="current_setting('synchronous_commit') = 'off'")
    INSERTED = WRITTEN.format(inserted="true")
    # What is not in recovery replays nothing: it was promoted, or is another system altogether.
    REPLAYED = """
        SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() END::text,
               concat_ws(' ', inet_server_addr(), inet_server_port(), pg_postmaster_start_time())
    """

    def written(self, connection: BaseDatabaseWrapper, *, flushed: bool) -> Position | None:
        row = _row(connection, self.FLUSHED if flushed else self.INSERTED)
        file, text, inserted, segment = row
        lsn = lsn_of(text)
        return WalPosition(_timeline(file), end_of_record(lsn, segment) if inserted else lsn)

    def told(self, connection: BaseDatabaseWrapper) -> Told:
        text, server = _row(connection, self.REPLAYED)
        return Told(server, text and WalPosition(UNKNOWN_TIMELINE, lsn_of(text)))


WAL_PAGE = 8192
PAGE_HEADER = 24
SEGMENT_HEADER = 40


def end_of_record(lsn: int, segment: int) -> int:
    """Return where the last record ends, which the insert position is now and then beyond.

    When a record ends with its page, that position is behind the next page's header, and no
    follower gets there before the next record does.
    """
    header = SEGMENT_HEADER if lsn % segment == SEGMENT_HEADER else PAGE_HEADER
    return lsn - header if lsn % WAL_PAGE == header else lsn


def _timeline(file: str) -> int:
    return int(file[:8], 16)


def lsn_of(text: str) -> int:
    """Return PostgreSQL's "16/B374D848" as a number of bytes."""
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


class MariaDB(Positions):
    """Global transaction identifiers.

    Of the leader ``gtid_binlog_pos``, because ``last_gtid`` belongs to one connection and a unit of
    work may have several.
    """

    def written(self, connection: BaseDatabaseWrapper, *, flushed: bool) -> Position | None:
        return GtidPosition.of(_row(connection, "SELECT @@global.gtid_binlog_pos")[0] or "")

    REPLAYED = """
        SELECT @@global.gtid_slave_pos,
               concat_ws(' ', @@global.hostname, @@global.port, @@global.server_id)
    """

    def told(self, connection: BaseDatabaseWrapper) -> Told:
        text, server = _row(connection, self.REPLAYED)
        return Told(server, GtidPosition.of(text or ""))


VENDORS: Mapping[str, Positions] = {"postgresql": PostgreSQL(), "mariadb": MariaDB()}


def positions_of(connection: BaseDatabaseWrapper) -> Positions | None:
    """Return how the server of a connection is asked; None where its vendor has no positions.

    Opens a connection to MySQL or MariaDB, which only the server itself can tell apart.
    """
    return VENDORS.get(vendor_of(connection))


def may_have_positions(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether there may be positions behind a connection, without asking anybody."""
    return connection.vendor in {*VENDORS, "mysql"}


def vendor_of(connection: BaseDatabaseWrapper) -> str:
    """Return Django's name for the kind of server, and MariaDB by its own."""
    is_mariadb = connection.vendor == "mysql" and getattr(connection, "mysql_is_mariadb", False)
    return "mariadb" if is_mariadb else connection.vendor


def _row(connection: BaseDatabaseWrapper, query: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()
