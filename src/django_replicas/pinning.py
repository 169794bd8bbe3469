"""The unit of work: its role, its pins, its marks and its followers.

One ``ContextVar`` holds a ``Scope``. What accumulates over a unit (pins, writes, chosen followers)
lives in the one ``Unit`` that every scope of it shares, so a gathered child task's write is seen by
its parent. What belongs to a block (a role, an override, a block's pin) lives in the scope alone,
set and reset by token.
"""

import asyncio
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import wraps
from inspect import isasyncgenfunction, isgeneratorfunction
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast, overload

from asgiref.sync import SyncToAsync, iscoroutinefunction
from django.db import connections

from .conf import get_config
from .exceptions import UnknownSetError
from .marks import Mark, Marks, merge
from .reasons import Answer, Decision

P = ParamSpec("P")
R = TypeVar("R")

TRACE_LENGTH = 10_000

_settling = threading.Lock()


class Role(StrEnum):
    """What a unit of work asked for."""

    LEADER = "leader"
    FOLLOWER = "follower"


# Named here because a member is slower to reach through its class (80 ns on Python 3.11).
LEADER = Role.LEADER
FOLLOWER = Role.FOLLOWER


class SetState:
    """What one unit holds about one replica set."""

    __slots__ = ("marked", "named", "new_pins", "pins", "settled", "uncarried", "written")

    def __init__(self, *, uncarried: bool = False, marked: bool | None = None) -> None:
        self.pins = 0
        self.new_pins = 0
        self.written = False
        self.uncarried = uncarried
        self.marked = marked
        self.named: str | None = None
        self.settled: Answer | None = None

    @property
    def is_owed(self) -> bool:
        """Whether a write or a new pin of this unit waits to be handed on."""
        return self.uncarried or self.new_pins > 0

    def settle(self, answer: Answer) -> Answer:
        """Keep to *answer* to the end of the unit, unless another of its threads was first."""
        with _settling:
            if self.settled is None:
                self.settled = answer
            return self.settled


class Unit:
    """One unit of work; shared by all threads and tasks that work for it.

    ``counts`` maps (alias, reason) to the number of reads answered so; ``trace`` keeps the latest
    answers where ``TRACE`` is on. ``carries`` tells that whoever opened the unit hands its marks
    on, as a request does.
    """

    __slots__ = ("_load_marks", "_marks", "carries", "counts", "sets", "trace")

    def __init__(self, load_marks: Callable[[], Marks] = dict, *, carries: bool = False) -> None:
        self._load_marks = load_marks
        self._marks: Marks | None = None
        self.carries = carries
        self.sets: dict[str, SetState] = {}
        self.counts: defaultdict[Answer, int] = defaultdict(int)
        self.trace: deque[Decision] = deque(maxlen=TRACE_LENGTH)

    def state_of(self, alias: str) -> SetState:
        """Return what the unit holds about the set that *alias* leads."""
        state = self.sets.get(alias)
        return self.sets.setdefault(alias, SetState()) if state is None else state

    def note_write(self, alias: str) -> None:
        """Remember that the unit wrote to the leader *alias*."""
        state = self.state_of(alias)
        state.written = state.uncarried = True

    @property
    def marks(self) -> Marks:
        """The marks that the unit came with; loaded when they are first needed."""
        if self._marks is None:
            self._marks = self._load_marks()
        return self._marks

    def is_marked(self, alias: str) -> bool:
        """Tell whether the unit came with a mark on *alias*; the first answer holds to its end."""
        state = self.state_of(alias)
        if state.marked is None:
            mark = self.marks.get(alias)
            state.marked = mark is not None and not mark.is_past()
        return state.marked

    def take_marks(self) -> Marks:
        """Return the marks to hand on, the unit's own and those it came with.

        Empty when nothing was written or pinned since marks were last taken.
        """
        owed = [alias for alias, state in list(self.sets.items()) if state.is_owed]
        if not owed:
            return {}
        for alias in owed:
            self.sets[alias].uncarried = False
        self._marks = merge(self.marks, {alias: _lasting(alias) for alias in owed})
        return self._marks

    def forget(self, *, keep_owed: bool = True) -> None:
        """Begin afresh: nothing pinned, written or marked, no follower chosen.

        What the unit wrote is handed on all the same where *keep_owed*.
        """
        for alias in {*self.marks, *self.sets}:
            uncarried = keep_owed and self.state_of(alias).uncarried
            self.sets[alias] = SetState(uncarried=uncarried, marked=False)


def _lasting(alias: str) -> Mark:
    return Mark.lasting(get_config().topology.by_leader[alias].pin_seconds)


@dataclass(frozen=True, slots=True, eq=False)
class Scope:
    """What holds in one place of the code.

    ``inside`` is False outside any unit, also in a ``follower()`` block there, which has a unit
    only to keep its follower in. ``thread`` is the owner of a unit that nobody opened.
    """

    unit: Unit | None = None
    inside: bool = False
    role: Role | None = None
    overrides: Mapping[str, Role] = field(default_factory=dict)
    pinned: frozenset[str] = frozenset()
    thread: int | None = None

    def is_pinned(self, alias: str) -> bool:
        """Tell whether this unit's reads of the set go to the leader *alias*."""
        if self.unit is None:
            return False
        state = self.unit.state_of(alias)
        return state.written or state.pins > 0 or alias in self.pinned

    def overriding(self, alias: str, role: Role) -> "Scope":
        return replace(self, unit=self.unit or Unit(), overrides={**self.overrides, alias: role})


OUTSIDE = Scope()

_scope: ContextVar[Scope] = ContextVar("django_replicas.scope", default=OUTSIDE)


def current_scope() -> Scope:
    """Return what holds here, for this thread or task."""
    scope = _scope.get()
    if scope.inside and scope.thread is None:
        return scope
    return _outside(scope)


def current_unit() -> Unit | None:
    """Return the unit of work that this thread or task works for, if there is one."""
    scope = current_scope()
    return scope.unit if scope.inside else None


def _outside(scope: Scope) -> Scope:
    if scope.unit is not None and not scope.inside:
        return scope
    if get_config().outside_units != "routed" or _may_be_shared_by_tasks():
        return OUTSIDE
    if scope.thread == threading.get_ident():
        return scope
    implicit = Scope(Unit(), inside=True, thread=threading.get_ident())
    _scope.set(implicit)
    return implicit


def _may_be_shared_by_tasks() -> bool:
    waiting = getattr(SyncToAsync.threadlocal, "main_event_loop", None)
    return on_event_loop() or (waiting is not None and waiting.is_running())


# get_running_loop() raises where there is none, which costs more than a whole decision.
running_loop = asyncio._get_running_loop


def on_event_loop() -> bool:
    """Tell whether this thread is running an event loop now, so that I/O would block it."""
    return running_loop() is not None


class Block:
    """A ``with`` block that changes the scope and puts back what was there, whatever happens.

    Each one is entered once. Threads and tasks that did not inherit the scope are not touched.
    """

    _token: Token[Scope] | None = None

    def __init__(self, change: Callable[[Scope], Scope]) -> None:
        self._change = change

    def __enter__(self) -> Self:
        if self._token is not None:
            raise RuntimeError("This block was entered before; make a new one for each `with`.")
        self._token = _scope.set(self._change(current_scope()))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _scope.reset(cast("Token[Scope]", self._token))


def leader(alias: str) -> Block:
    """Read and write on the leader inside the block; the unit's pins are left as they are.

    Writes inside it neither pin nor are refused. Raises ``UnknownSetError`` for an alias that is
    not a leader.
    """
    _leads(alias)
    return Block(lambda scope: scope.overriding(alias, LEADER))


def follower(alias: str) -> Block:
    """Read from a follower of *alias* inside the block, despite pins and also outside any unit.

    Raises ``UnknownSetError`` for an alias that is not a leader.
    """
    _leads(alias)
    return Block(lambda scope: scope.overriding(alias, FOLLOWER))


def as_role(role: Role) -> Block:
    """Give the unit another role inside the block."""
    return Block(lambda scope: replace(scope, role=role))


class pin(Block):
    """Send this unit's reads of a set to its leader.

    Called alone it holds to the end of the unit and, unless *count_as_new* is False, for the
    user's next units too. As a ``with`` block it holds inside the block only. Outside any unit
    reads go to the leader anyway, so it changes nothing there. Raises ``UnknownSetError`` for an
    alias that is not a leader.
    """

    _lock = threading.Lock()

    def __init__(self, alias: str, count_as_new: bool = True) -> None:
        super().__init__(lambda scope: replace(scope, pinned=scope.pinned | {alias}))
        unit = current_unit() if _leads(alias) else None
        self._state = None if unit is None else unit.state_of(alias)
        self._new = count_as_new
        self._hold(1)

    def __enter__(self) -> Self:
        super().__enter__()
        self._hold(-1)
        return self

    def _hold(self, difference: int) -> None:
        if self._state is not None:
            with self._lock:
                self._state.pins += difference
                self._state.new_pins += difference * self._new


def unpin_all() -> None:
    """Begin afresh in this unit: no pins, no writes seen, followers chosen anew.

    What the unit wrote is still carried to the user's next units, and a ``with pin(...)`` block
    around this keeps its pin.
    """
    scope = current_scope()
    if scope.inside and scope.unit is not None:
        scope.unit.forget(keep_owed=scope.thread is None)


def is_pinned(alias: str) -> bool:
    """Tell whether this unit reads the set of *alias* on its leader, by a pin or after a write."""
    return current_scope().is_pinned(alias)


def get_pinned() -> frozenset[str]:
    """Return the leaders of the sets that are pinned in this unit."""
    scope = current_scope()
    aliases = scope.unit.sets if scope.unit is not None else ()
    return scope.pinned | {alias for alias in list(aliases) if scope.is_pinned(alias)}


def get_newly_pinned() -> frozenset[str]:
    """Return the leaders that the user's next units will read from because of this one."""
    unit = current_unit()
    if unit is None:
        return frozenset()
    return frozenset(alias for alias, state in list(unit.sets.items()) if state.is_owed)


class UnitOfWork(Block):
    """A ``with`` block that is a unit of work of its own.

    Inside another unit it starts with what that one wrote and what it came with as marks, not with
    its pins, role or followers, and what it wrote holds in the outer unit afterwards. ``leader()``
    and ``follower()`` blocks around it hold inside it too.
    """

    def __init__(self, role: Role | None = None) -> None:
        super().__init__(self._begin)
        self._role = role

    def _begin(self, outer: Scope) -> Scope:
        self._outer = outer.unit if outer.inside else None
        self._unit = Unit() if self._outer is None else Unit(_what_must_be_seen(self._outer))
        return Scope(self._unit, inside=True, role=self._role, overrides=outer.overrides)

    def __exit__(self, *exc: Any) -> None:
        super().__exit__(*exc)
        if self._outer is not None:
            for alias, state in self._unit.sets.items():
                if state.written or state.uncarried:
                    self._outer.note_write(alias)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        return each_call_inside(lambda: UnitOfWork(self._role), function)


def _what_must_be_seen(unit: Unit) -> Callable[[], Marks]:
    sets = [alias for alias, state in list(unit.sets.items()) if state.written or state.is_owed]
    own = {alias: _lasting(alias) for alias in sets}
    return lambda: merge(unit.marks, own)


@overload
def unit_of_work(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def unit_of_work(*, role: str | None = None) -> UnitOfWork: ...
def unit_of_work(function: Callable[..., Any] | None = None, /, *, role: str | None = None) -> Any:
    """Make a block, or each call of a function, a unit of work.

    ``with unit_of_work():``, ``@unit_of_work`` and ``@unit_of_work()``, for functions and async
    functions. *role* is "leader", "follower" or None.
    """
    block = UnitOfWork(None if role is None else Role(role))
    return block if function is None else block(function)


def each_call_inside(
    make_block: Callable[[], AbstractContextManager[Any]], function: Callable[P, R]
) -> Callable[P, R]:
    """Wrap *function*, async or not, so that each call runs inside a block of its own.

    Raises ``TypeError`` for generator functions, whose body runs when the block is long left.
    """
    if isgeneratorfunction(function) or isasyncgenfunction(function):
        raise TypeError(f"{function!r} is a generator function: open the block inside it.")
    if iscoroutinefunction(function):

        @wraps(function)
        async def run_async(*args: P.args, **kwargs: P.kwargs) -> Any:
            with make_block():
                return await function(*args, **kwargs)

        return cast("Callable[P, R]", run_async)

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with make_block():
            return function(*args, **kwargs)

    return run


def bind(function: Callable[P, R]) -> Callable[P, R]:
    """Carry this unit of work into a thread or an executor, which do not inherit it.

    What the function writes or pins there holds for the whole unit.
    """
    scope = replace(current_scope(), thread=None)
    return each_call_inside(lambda: Block(lambda _: scope), function)


def _leads(alias: str) -> bool:
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
