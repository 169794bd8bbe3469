"""For the tests of projects: routing inside ``TestCase``, who answered and why, late followers.

Everything here is a ``with`` block that puts back what was there, whatever happens inside.
"""

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import TestCase, mock

from django.db import (
    DEFAULT_DB_ALIAS,
    InternalError,
    NotSupportedError,
    connections,
    router,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import ConnectionHandler, load_backend

from . import leaders, settling
from .conf import get_config, get_sound_config
from .followers import forget_followers
from .reasons import Answer, Decision, Reason
from .routers import ReplicaRouter
from .scopes import current_scope
from .shortcuts import forget_here
from .units import Unit
from .writes import UNKNOWN_WRITE, Kind, classify, text_of

if TYPE_CHECKING:
    from unittest import TestResult

    from django.db.models import Model

    TestCaseBase = TestCase
else:
    TestCaseBase = object

__all__ = [
    "Read",
    "SharedFollowersMixin",
    "assert_reads_from",
    "frozen_follower",
    "recorded_reads",
    "shared_followers",
]


# Followers that see what a test wrote


class SharedConnection:
    """A follower's alias on its leader's connection: it sees what the test wrote, and only reads.

    What it executes counts among the leader's queries (``assertNumQueries``), but its execute
    wrappers are the follower's own.
    """

    execute_wrapper = BaseDatabaseWrapper.execute_wrapper

    def __init__(self, follower: BaseDatabaseWrapper, leader: BaseDatabaseWrapper) -> None:
        wrappers = follower.execute_wrappers
        vars(self).update(alias=follower.alias, leader=leader, execute_wrappers=wrappers)
        wrappers.insert(0, _refuse_writes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.leader, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.leader, name, value)

    def cursor(self) -> Any:
        return self._owning(self.leader.cursor())

    def chunked_cursor(self) -> Any:
        return self._owning(self.leader.chunked_cursor())

    def _owning(self, cursor: Any) -> Any:
        cursor.db = self
        return cursor

    def close(self) -> None:
        """Leave the connection to the leader, whose it is."""

    close_if_unusable_or_obsolete = close

    def stop_sharing(self) -> None:
        self.execute_wrappers.remove(_refuse_writes)


def _refuse_writes(
    execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    connection = context["connection"]
    if _kind_of(sql, connection) is not Kind.READ:
        raise InternalError(
            f"{connection.alias!r} is a follower, which cannot be written to: {sql}"
        )
    return execute(sql, params, many, context)


def _kind_of(sql: Any, connection: Any) -> Kind:
    text = text_of(sql, connection)
    return (UNKNOWN_WRITE if text is None else classify(text, connection.vendor)).kind


@contextmanager
def shared_followers() -> Iterator[None]:
    """Let followers see what a test wrote to their leader, and be routed to inside ``TestCase``.

    Each follower's alias uses its leader's connection, in every thread, and refuses writes; a
    transaction that only isolates the test keeps no read on the leader, one that the code under
    test opens does.
    """
    get = ConnectionHandler.__getitem__
    shares: dict[tuple[str, BaseDatabaseWrapper], SharedConnection] = {}

    def get_shared(handler: ConnectionHandler, alias: str) -> Any:
        topology = get_sound_config().topology
        if not topology.is_follower(alias):
            return get(handler, alias)
        key = (alias, get(handler, topology.leader_of(alias)))
        if key not in shares:
            shares[key] = SharedConnection(get(handler, alias), key[1])
        return shares[key]

    with (
        _routing_afresh(),
        mock.patch.object(ConnectionHandler, "__getitem__", get_shared),
        mock.patch.object(leaders, "has_open_transaction", _is_in_transaction_of_its_own),
        mock.patch.object(settling, "in_test_case", return_value=False),
    ):
        try:
            yield
        finally:
            for share in shares.values():
                share.stop_sharing()


@contextmanager
def _routing_afresh() -> Iterator[None]:
    """Believe nothing of followers that was found out on the other side of the block's edges."""
    for_others = forget_here, forget_followers
    try:
        for forget in for_others:
            forget()
        yield
    finally:
        for forget in for_others:
            forget()


_has_open_transaction = leaders.has_open_transaction


def _is_in_transaction_of_its_own(connection: BaseDatabaseWrapper) -> bool:
    blocks: list[Any] = connection.atomic_blocks
    if not blocks:
        return _has_open_transaction(connection)
    return any(
        not block._from_testcase and (block.using or DEFAULT_DB_ALIAS) == connection.alias
        for block in blocks
    )


class SharedFollowersMixin(TestCaseBase):
    """Runs each test of a ``TestCase`` inside ``shared_followers()``.

    ``setUp``, ``tearDown`` and clean-ups are inside as well, ``setUpTestData`` is not.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        bases = cls.__mro__
        if TestCase in bases[: bases.index(SharedFollowersMixin)]:
            raise TypeError(
                f"{cls.__qualname__} would share nothing: name SharedFollowersMixin before its "
                "test case class."
            )

    def run(self, result: "TestResult | None" = None) -> "TestResult | None":
        with shared_followers():
            return super().run(result)


# Who answered, and why


class Read(NamedTuple):
    """One executed read. ``reason`` and ``model`` are empty where no router was asked for it."""

    alias: str
    reason: Reason | None
    model: str
    sql: str

    def __str__(self) -> str:
        why = self.reason or "named by using(), or part of a write"
        return f"{self.alias}: {why}: {self.model} {self.sql}"


@contextmanager
def recorded_reads() -> Iterator[list[Read]]:
    """List the reads that this thread or task executes on leaders and followers, in their order.

    Those of the tasks and threads that it awaits count as its own.
    """
    reads: list[Read] = []
    latest: list[Decision] = []

    def hear(
        execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        if _is_recorded(reads) and _fetches_rows(sql, context["connection"]):
            reads.append(_read(context["connection"], sql, latest))
        return execute(sql, params, many, context)

    with ExitStack() as undo:
        undo.enter_context(_every_connection_heard_by(hear))
        for each in router.routers:
            if isinstance(each, ReplicaRouter):
                noting = _noting(each.db_for_read, latest)
                undo.enter_context(mock.patch.object(each, "db_for_read", noting))
        undo.callback(_recorded.reset, _recorded.set((*_recorded.get(), reads)))
        yield reads


# Awaited threads get a copy of the context, others an empty one.
_recorded: ContextVar[tuple[list[Read], ...]] = ContextVar("django_replicas.test", default=())


def _is_recorded(reads: list[Read]) -> bool:
    return any(each is reads for each in _recorded.get())


@contextmanager
def _every_connection_heard_by(hear: Callable[..., Any]) -> Iterator[None]:
    """Add a wrapper to each member's connection, of whichever thread, that is made or asked for."""
    get, members = ConnectionHandler.__getitem__, _members()
    heard: list[list[Any]] = []

    def get_heard(handler: ConnectionHandler, alias: str) -> Any:
        connection = get(handler, alias)
        wrappers: list[Any] = connection.execute_wrappers
        if alias in members and hear not in wrappers:
            wrappers.append(hear)
            heard.append(wrappers)
        return connection

    with mock.patch.object(ConnectionHandler, "__getitem__", get_heard):
        try:
            for alias in members:
                connections[alias]
            yield
        finally:
            for wrappers in heard:
                wrappers.remove(hear)


def _members() -> list[str]:
    sets = get_config().topology.sets
    return [alias for each in sets for alias in (each.leader, *each.followers)]


_FETCHING = re.compile(r"(?:\s|\(|/\*.*?\*/|--[^\n]*)*(?:select|with|values|table)\b", re.I | re.S)


def _fetches_rows(sql: Any, connection: Any) -> bool:
    return bool(_FETCHING.match(text_of(sql, connection) or "")) and (
        _kind_of(sql, connection) is Kind.READ
    )


def _read(connection: Any, sql: Any, latest: list[Decision]) -> Read:
    """Make the record of a read, with the reason if it is the one that was last routed."""
    routed = latest.pop() if latest else None
    text = text_of(sql, connection) or ""
    if routed is None or routed.alias != connection.alias:
        return Read(connection.alias, None, "", text)
    return Read(connection.alias, routed.reason, routed.model, text)


def _noting(ask: Callable[..., str], latest: list[Decision]) -> Callable[..., str]:
    def db_for_read(model: "type[Model]", **hints: Any) -> str:
        unit = current_scope().unit
        before = {} if unit is None else unit.counts
        alias = ask(model, **hints)
        latest[:] = [Decision(alias, _reason(unit, before), model._meta.label_lower)]
        return alias

    return db_for_read


def _reason(unit: Unit | None, before: dict[Answer, int]) -> Reason:
    after = {} if unit is None else unit.counts
    counted = (reason for (alias, reason), n in after.items() if n != before.get((alias, reason)))
    return next(counted, Reason.OUTSIDE)


@contextmanager
def assert_reads_from(*places: str, models: "Collection[type[Model]]" = ()) -> Iterator[list[Read]]:
    """Fail unless the block reads, and each read is answered by one of *places*.

    A place is an alias, ``"follower"`` for any follower or ``"leader"`` for any leader. With
    *models* only their reads count, without them all but those that always go to the leader, as
    sessions do. The failure lists every read with who answered it and why.
    """
    _refuse_unknown(places)
    with recorded_reads() as reads:
        yield reads
    labels = {model._meta.label_lower for model in models}
    concerned = [
        read
        for read in reads
        if (read.model in labels if labels else read.reason is not Reason.LEADER_MODEL)
    ]
    if not concerned or not all(_is_in(read, places) for read in concerned):
        raise AssertionError(_report(places, concerned))


def _refuse_unknown(places: tuple[str, ...]) -> None:
    known = ["follower", "leader", *_members()]
    unknown = [place for place in places if place not in known]
    if unknown or not places:
        raise ValueError(
            f"Reads come from one of {', '.join(map(repr, known))}, not "
            f"{', '.join(map(repr, unknown)) or 'nowhere'}."
        )


def _is_in(read: Read, places: tuple[str, ...]) -> bool:
    role = "follower" if get_config().topology.is_follower(read.alias) else "leader"
    return read.alias in places or role in places


def _report(places: tuple[str, ...], reads: list[Read]) -> str:
    wanted = " or ".join(places)
    if not reads:
        return f"Expected reads from {wanted}, but nothing was read."
    lines = [f"{'  ' if _is_in(read, places) else '> '}{read}" for read in reads]
    return "\n".join([f"Expected all reads from {wanted}; the marked ones are not:", *lines])


# Followers that lag


@contextmanager
def frozen_follower(*aliases: str) -> Iterator[None]:
    """Let followers show, inside the block, what they show now; a leader's alias is all of its own.

    On SQLite the follower becomes a copy of what this thread sees, what it has not committed
    included, so it works in every kind of test. On PostgreSQL it is a snapshot held by this
    thread's connection, for tests that commit (``TransactionTestCase``), because nobody can hold
    on to what is not committed: ``NotSupportedError`` together with ``shared_followers``, as on
    any other database.
    """
    topology = get_config().topology
    with ExitStack() as stack:
        for alias in aliases:
            replica_set = topology.by_leader.get(alias)
            for each in (alias,) if replica_set is None else replica_set.followers:
                if not topology.is_follower(each):
                    raise ValueError(f"{each!r} is no follower and leads no set.")
                stack.enter_context(_frozen(each))
        yield


def _frozen(alias: str) -> AbstractContextManager[None]:
    vendor = connections[alias].vendor
    if vendor == "sqlite":
        return _frozen_copy(alias)
    if vendor == "postgresql" and not connections[alias].in_atomic_block:
        return _held_snapshot(alias)
    raise NotSupportedError(
        f"The follower {alias!r} cannot be frozen: that takes SQLite, or PostgreSQL in a test that "
        "commits, such as a TransactionTestCase or django_db(transaction=True)."
    )


@contextmanager
def _frozen_copy(alias: str) -> Iterator[None]:
    copy = _copy_of(connections[alias])
    get = ConnectionHandler.__getitem__

    def get_frozen(handler: ConnectionHandler, wanted: str) -> Any:
        return copy if wanted == alias else get(handler, wanted)

    try:
        with mock.patch.object(ConnectionHandler, "__getitem__", get_frozen):
            yield
    finally:
        # The wrapper's own close() leaves databases in memory open.
        BaseDatabaseWrapper.close(copy)


def _copy_of(shown: Any) -> BaseDatabaseWrapper:
    settings = {**shown.settings_dict, "NAME": ":memory:"}
    backend = load_backend(settings["ENGINE"])
    copy: Any = backend.DatabaseWrapper(settings, shown.alias)
    copy.execute_wrappers = shown.execute_wrappers
    copy.inc_thread_sharing()
    # Not ensure_connection(), which a TestCase forbids to aliases that it does not name.
    copy.connect()
    shown.ensure_connection()
    copy.connection.deserialize(_without_wal(shown.connection.serialize()))
    copy.connection.execute("PRAGMA query_only = ON")
    return copy  # type: ignore[no-any-return]  # the loaded class is untyped


def _without_wal(database: bytes) -> bytes:
    """Say of a serialized database that it has no write-ahead log, as in memory it has none.

    These are the two version numbers of https://www.sqlite.org/fileformat.html#file_format_version_numbers
    """
    return database[:18] + b"\x01\x01" + database[20:]


@contextmanager
def _held_snapshot(alias: str) -> Iterator[None]:
    with transaction.atomic(using=alias):
        with connections[alias].cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute("SELECT 1")
        yield
