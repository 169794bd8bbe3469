"""The unit of work: its role, its pins, its marks and its followers.

What accumulates over a unit (pins, writes, chosen followers) lives in the one ``Unit`` that every
scope of it shares, so a gathered child task's write is seen by its parent.
"""

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from .conf import get_config
from .exceptions import UnknownSetError
from .knowledge import epochs
from .marks import Mark, Marks, UnknownMarks, merge
from .positions import Position
from .reasons import Answer, Decision

if TYPE_CHECKING:
    from django.http import HttpRequest

TRACE_LENGTH = 10_000

_settling = threading.Lock()
_changing = threading.Lock()
_noting = threading.Lock()
# Backwards, so that a fork takes them in the order that threads do.
for _lock in (_settling, _changing, _noting) if hasattr(os, "register_at_fork") else ():
    # A child has no threads that could release what they held.
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )


class Role(StrEnum):
    """What a unit of work asked for."""

    LEADER = "leader"
    FOLLOWER = "follower"

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        raise ValueError(f"{value!r} is no role: choose 'leader' or 'follower'.")


# Named here because a member is slower to reach through its class (80 ns on Python 3.11).
LEADER = Role.LEADER
FOLLOWER = Role.FOLLOWER


class SetState:
    """What one unit holds about one replica set.

    ``sought`` is the position that its reads must have reached, ``fallback`` its deadline where a
    follower does not tell. ``writers`` are the leader's connections that it wrote on. ``latest`` is
    the mark that was made last, None where the unit wrote since. ``untried`` tells that it settled
    on a follower only to see what would be answered.
    """

    __slots__ = (
        "_asked",
        "fallback",
        "latest",
        "marked",
        "named",
        "new_pins",
        "pins",
        "settled",
        "sought",
        "uncarried",
        "untried",
        "writers",
        "writes",
        "written",
    )

    def __init__(self, *, uncarried: bool = False, marked: bool | None = None) -> None:
        self._asked: WeakKeyDictionary[BaseDatabaseWrapper, object] = WeakKeyDictionary()
        self.pins = 0
        self.new_pins = 0
        self.written = False
        self.uncarried = uncarried
        self.marked = marked
        self.sought: Position | None = None
        self.fallback = 0.0
        self.latest: Mark | None = None
        self.writes = 0
        self.writers: tuple[BaseDatabaseWrapper, ...] = ()
        self.named: str | None = None
        self.settled: Answer | None = None
        self.untried = False

    @property
    def is_owed(self) -> bool:
        """Whether a write or a new pin of this unit waits to be handed on."""
        return self.uncarried or self.new_pins > 0

    def note_asked(self, connection: BaseDatabaseWrapper) -> None:
        """Remember that this follower, as it is connected now, has what the unit must see."""
        self._asked[connection] = connection.connection

    def has_asked(self, connection: BaseDatabaseWrapper) -> bool:
        """Tell whether it was asked, and is still connected as it was then."""
        driver = connection.connection
        return driver is not None and self._asked.get(connection) is driver

    def hold_pin(self, difference: int, *, is_new: bool) -> None:
        """Count a pin that begins to hold, or one that ends."""
        with _noting:
            self.pins += difference
            self.new_pins += difference * is_new

    def settle(self, answer: Answer) -> Answer:
        """Keep to *answer* to the end of the unit, unless another of its threads was first."""
        with _settling:
            if self.settled is None:
                self.settled = answer
            return self.settled


class Tally:
    """How many reads were answered in one way; near enough where threads count at once."""

    __slots__ = ("reads",)

    def __init__(self) -> None:
        self.reads = 0


class Version:
    """What a unit was like for a while; ``holds`` is False from its next change on."""

    __slots__ = ("holds",)

    def __init__(self) -> None:
        self.holds = True


class Unit:
    """One unit of work; shared by all threads and tasks that work for it.

    ``role`` is what was asked for, ``request`` the request that is served, if there is one; its
    response carries the unit's marks. ``counts`` maps (alias, reason) to the number of reads
    answered so; ``trace`` keeps the latest answers where ``TRACE`` is on. ``taken`` are the marks
    that were handed on last. ``version`` is another one after everything that may change where it
    reads. ``outer`` is the unit that this one was begun in, and in ``notes`` each router may keep
    what it remembers of the unit. A unit that begins when its request has a session already
    ``ends_before_its_session`` is saved. One that ``is_made_up`` only asks what would be answered,
    so that nobody is told of its reads.
    """

    __slots__ = (
        "_at_end",
        "_load_marks",
        "_marks",
        "_role",
        "_tallies",
        "ends_before_its_session",
        "has_ended",
        "is_made_up",
        "notes",
        "outer",
        "request",
        "sets",
        "taken",
        "trace",
        "version",
    )

    def __init__(
        self,
        load_marks: Callable[[], Marks] = dict,
        *,
        role: Role | None = None,
        request: "HttpRequest | None" = None,
    ) -> None:
        self._load_marks = load_marks
        self._marks: Marks | None = None
        self._role = role
        self._at_end: list[Callable[[], None]] = []
        self._tallies: dict[Answer, Tally] = {}
        self.request = request
        self.ends_before_its_session = hasattr(request, "session")
        self.outer: Unit | None = None
        self.has_ended = False
        self.is_made_up = False
        self.notes: dict[object, Any] = {}
        self.sets: dict[str, SetState] = {}
        self.taken: Marks = {}
        self.trace: Sequence[Decision] = ()
        self.version = Version()

    @property
    def role(self) -> Role | None:
        return self._role

    @role.setter
    def role(self, role: Role | None) -> None:
        self._role = role
        self.change()

    def change(self) -> None:
        """Be of another version: what hangs on the one before holds no longer, in any thread."""
        with _changing:
            before, self.version = self.version, Version()
            before.holds = False

    def at_end(self, work: Callable[[], None]) -> None:
        """Have *work* done when the unit ends, before its marks are taken."""
        self._at_end.append(work)

    def end(self) -> None:
        self.has_ended = True
        _do_all(self._at_end)

    async def aend(self) -> None:
        """Do as ``end`` does, in a thread where the work may wait for servers."""
        self.has_ended = True
        # Taken and shielded, so that a request which is cancelled leaves none to the event loop.
        work, self._at_end = self._at_end, []
        if work:
            await asyncio.shield(sync_to_async(_do_all)(work))

    @property
    def counts(self) -> dict[Answer, int]:
        return {answer: tally.reads for answer, tally in list(self._tallies.items())}

    def count(self, answer: Answer) -> Tally:
        """Count one read answered so."""
        tally = self._tallies.get(answer) or self._tallies.setdefault(answer, Tally())
        tally.reads += 1
        return tally

    def remember(self, decision: Decision) -> None:
        """Keep a decision in the trace; the oldest give way."""
        if not isinstance(self.trace, deque):
            self.trace = deque(self.trace, maxlen=TRACE_LENGTH)
        self.trace.append(decision)

    def state_of(self, alias: str) -> SetState:
        """Return what the unit holds about the set that *alias* leads."""
        state = self.sets.get(alias)
        return self.sets.setdefault(alias, SetState()) if state is None else state

    def note_write(self, alias: str, *connections: BaseDatabaseWrapper) -> None:
        """Remember that the unit wrote to the leader *alias*, on which of its connections."""
        with _noting:
            state = self.state_of(alias)
            state.written = state.uncarried = True
            state.writes += 1
            state.latest = None
            state.writers += tuple(each for each in connections if each not in state.writers)
            self.change()

    def note_executed(self, alias: str) -> None:
        """Have a write that is executed now owed again, if a mark was taken while it was not."""
        with _noting:
            state = self.state_of(alias)
            if state.latest is not None or not state.uncarried:
                state.latest, state.uncarried = None, True

    @property
    def marks(self) -> Marks:
        """The marks that the unit came with; loaded when they are first needed."""
        load = self._load_marks  # Taken first: another thread may be done between the two.
        if self._marks is None:
            marks = load()
            if isinstance(marks, UnknownMarks):
                return marks
            self._marks = marks
            self._load_marks = dict
        return self._marks

    def is_marked(self, alias: str) -> bool:
        """Tell whether a mark keeps the unit's reads on the leader; the first answer holds.

        Where it is a mark that followers can reach, its position is what the unit has ``sought``.
        """
        state = self.state_of(alias)
        if state.marked is None:
            marks = self.marks
            if isinstance(marks, UnknownMarks):
                self.change()  # So that nobody repeats the answer unasked.
                return True
            mark = marks.get(alias)
            state.marked = False if mark is None else self._keep_to(state, alias, mark)
        return state.marked

    def _keep_to(self, state: SetState, alias: str, mark: Mark) -> bool:
        mark = epochs.comparable(alias, mark)
        state.sought, state.fallback = mark.position, mark.fallback
        return mark.is_before_deadline()

    def begin_inside(self, outer: "Unit") -> None:
        """Start with what *outer* wrote and with the marks that it keeps to."""
        self.outer = outer
        states = list(outer.sets.items())
        wrote = [alias for alias, state in states if state.written or state.uncarried]
        own, load = {alias: lasting(alias) for alias in wrote}, self._load_marks
        self._load_marks = lambda: merge(load(), merge(outer.marks, own))
        kept = {*wrote, *(alias for alias, state in states if state.marked)}
        self.sets.update({alias: SetState(marked=True) for alias in kept})

    def end_inside(self, outer: "Unit") -> None:
        """Let *outer* see what was written here."""
        for alias, state in list(self.sets.items()):
            if state.written or state.uncarried:
                outer.note_write(alias, *state.writers)

    @property
    def owed(self) -> list[str]:
        """The leaders that a mark is still to be handed on for."""
        return [alias for alias, state in list(self.sets.items()) if state.is_owed]

    def hand_on(self, made: Marks) -> Marks:
        """Take *made* for what was owed; return it with the marks that the unit came with."""
        marks = self._marks = self.taken = merge(self.marks, made)
        return marks

    def forget(self, *, keep_owed: bool = True) -> None:
        """Begin afresh: nothing pinned, written or marked, no follower chosen.

        What the unit wrote is handed on all the same where *keep_owed*.
        """
        marks = self.marks
        with _noting:
            for alias in {*marks, *self.sets}:
                before = self.state_of(alias)
                uncarried = keep_owed and before.uncarried
                self.sets[alias] = SetState(uncarried=uncarried, marked=False)
                self.sets[alias].writers = before.writers
            self.change()


def _do_all(work: list[Callable[[], None]]) -> None:
    while work:
        work.pop(0)()


def lasting(alias: str) -> Mark:
    """Make the mark that a write to the leader *alias* leaves now."""
    return Mark.lasting(get_config().topology.by_leader[alias].pin_seconds)


def lasting_for_all() -> dict[str, Mark]:
    """Make the marks that hold where nobody knows what was written."""
    return {alias: lasting(alias) for alias in get_config().topology.by_leader}


def leads(alias: str) -> bool:
    """Tell a leader from a database without followers; anything else is ``UnknownSetError``."""
    topology = get_config().topology
    if topology.is_follower(alias):
        raise UnknownSetError(
            f"{alias!r} is a follower of {topology.leader_of(alias)!r}: name the leader instead."
        )
    if alias not in connections.settings:
        raise UnknownSetError(
            f"{alias!r} is not in DATABASES. The leaders are: "
            f"{', '.join(map(repr, topology.by_leader)) or 'none, REPLICAS has no SETS'}."
        )
    return alias in topology.by_leader
