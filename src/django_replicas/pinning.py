"""The verbs: pins, blocks, roles and units of work, for code that says where it reads."""

from collections.abc import Callable, Coroutine
from contextvars import Token
from functools import wraps
from inspect import isasyncgenfunction, iscoroutine, isgeneratorfunction
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast, overload

from asgiref.sync import iscoroutinefunction
from django.db import router

from .origins import unit_of_other_middleware
from .scopes import OUTSIDE, Scope, current, current_scope, current_unit
from .shortcuts import forget_here
from .units import FOLLOWER, LEADER, Role, Unit, leads

P = ParamSpec("P")
R = TypeVar("R")


class Block:
    """A ``with`` block that changes the scope and puts back what was there, whatever happens.

    Each one is entered once. It may be left by another call through ``sync_to_async`` than the one
    that entered it. Threads and tasks that did not inherit the scope are not touched.
    """

    _token: Token[Scope] | None = None
    _scope_inside: Scope

    def __init__(self, change: Callable[[Scope], Scope]) -> None:
        self._change = change

    def _inside(self, outer: Scope) -> Scope:
        """Return what holds inside the block."""
        return self._change(outer)

    def __enter__(self) -> Self:
        if self._token is not None:
            raise RuntimeError("This block was entered before; make a new one for each `with`.")
        self._scope_inside = self._inside(current_scope())
        self._token = current.set(self._scope_inside)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        token = cast("Token[Scope]", self._token)
        try:
            current.reset(token)
        except ValueError:
            # sync_to_async carries the scope from one call to the next, where no token counts.
            # In any other place, this would put back what was never there.
            if current.get() != self._scope_inside:
                raise
            current.set(OUTSIDE if token.old_value is Token.MISSING else token.old_value)

    def rest(self) -> "Block":
        """Return a block for what is awaited once this one, where we are, is left."""
        scope = current.get()
        return Block(lambda _: scope)


def leader(alias: str) -> Block:
    """Read and write on the leader inside the block; the unit's pins are left as they are.

    Writes inside it neither pin nor are refused. Raises ``UnknownSetError`` for a follower's alias
    and for one that is not in ``DATABASES``; a database without followers is left as it is.
    """
    return overriding(LEADER, alias)


def follower(alias: str) -> Block:
    """Read from a follower of *alias* inside the block, despite pins and also outside any unit.

    Raises ``UnknownSetError`` as ``leader`` does.
    """
    return overriding(FOLLOWER, alias)


def overriding(role: Role, *aliases: str) -> Block:
    """Do as ``leader`` or ``follower`` does, for all of the sets at once."""
    for alias in aliases:
        leads(alias)

    def change(scope: Scope) -> Scope:
        for alias in aliases:
            scope = scope.overriding(alias, role)
        return scope

    return Block(change)


def as_role(role: Role) -> Block:
    """Give the unit another role inside the block."""
    return Block(lambda scope: scope._replace(block_role=role))


class pin(Block):
    """Send this unit's reads of a set to its leader.

    Called alone it holds to the end of the unit and, unless *count_as_new* is False, for the
    user's next units too. As a ``with`` block it holds inside the block only. Outside any unit
    reads go to the leader anyway, so it changes nothing there. Raises ``UnknownSetError`` as
    ``leader`` does.
    """

    def __init__(self, alias: str, count_as_new: bool = True) -> None:
        super().__init__(lambda scope: scope.pinning(alias))
        self._unit = current_unit() if leads(alias) else None
        self._state = None if self._unit is None else self._unit.state_of(alias)
        self._new = count_as_new
        self._hold(1)

    def __enter__(self) -> Self:
        super().__enter__()
        self._hold(-1)
        return self

    def _hold(self, difference: int) -> None:
        if self._unit is not None and self._state is not None:
            self._state.hold_pin(difference, is_new=self._new)
            self._unit.change()


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
    if scope.unit is None:
        return frozenset()
    return frozenset(filter(scope.is_pinned, {*scope.pinned, *scope.unit.sets}))


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

    _has_rest = False

    def __init__(self, role: Role | None = None, unit: Unit | None = None) -> None:
        # Given its own method to keep, it would keep itself, and the request, for the collector.
        self._role = role
        self.unit = Unit(role=role) if unit is None else unit

    def _inside(self, outer: Scope) -> Scope:
        # Made now, the routers see what a raw cursor writes before the first model is asked for.
        _ = router.routers
        around = self._unit_around(outer)
        if around is not None:
            self.unit.begin_inside(around)
        return Scope(self.unit, inside=True, overrides=outer.overrides)

    def _unit_around(self, outer: Scope) -> Unit | None:
        # A server's thread may have an implicit unit; its requests have nothing to do with it.
        is_nobodys = outer.thread is not None and self.unit.request is not None
        return outer.unit if outer.inside and not is_nobodys else unit_of_other_middleware()

    def __exit__(self, *exc: Any) -> None:
        try:
            if not self._has_rest:
                self.unit.end()
        finally:
            super().__exit__(*exc)
            # A shortcut would keep the unit, and so the request, until the thread's next one.
            forget_here()
            if self.unit.outer is not None:
                self.unit.end_inside(self.unit.outer)

    def rest(self) -> "UnitOfWork":
        """Return a block that goes on with the unit once this one is left, and ends it."""
        self._has_rest = True
        return _Rest(self.unit, current.get())

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        return each_call_inside(lambda: UnitOfWork(self._role), function)


class _Rest(UnitOfWork):
    def __init__(self, unit: Unit, scope: Scope) -> None:
        super().__init__(unit=unit)
        self._scope = scope

    def _inside(self, outer: Scope) -> Scope:
        return self._scope


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


def each_call_inside(make_block: Callable[[], Block], function: Callable[P, R]) -> Callable[P, R]:
    """Wrap *function*, async or not, so that each call runs inside a block of its own.

    So does the coroutine that a plain function returns, as ``View.dispatch`` does. Raises
    ``TypeError`` for generator functions, whose body runs when the block is long left.
    """
    refuse_generators(function)
    if iscoroutinefunction(function):

        @wraps(function)
        async def run_async(*args: P.args, **kwargs: P.kwargs) -> Any:
            with make_block():
                return await function(*args, **kwargs)

        return cast("Callable[P, R]", run_async)

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with make_block() as block:
            result = function(*args, **kwargs)
            return cast("R", _awaited(block.rest(), result)) if iscoroutine(result) else result

    return run


async def _awaited(block: Block, coroutine: Coroutine[Any, Any, Any]) -> Any:
    with block:
        return await coroutine


def refuse_generators(function: Callable[..., Any]) -> None:
    """Raise ``TypeError`` for a function whose body runs when its block is long left."""
    if isgeneratorfunction(function) or isasyncgenfunction(function):
        raise TypeError(f"{function!r} is a generator function: open the block inside it.")


class _Bound(Block):
    """A block of a unit that ends elsewhere, in a thread that may go on without it."""

    def __exit__(self, *exc: Any) -> None:
        super().__exit__(*exc)
        # A shortcut would keep the unit, and so the request, until the thread's next one.
        forget_here()


def bind(function: Callable[P, R]) -> Callable[P, R]:
    """Carry this unit of work into a thread or an executor, which do not inherit it.

    What the function writes or pins there holds for the whole unit.
    """
    scope = current_scope()._replace(thread=None)
    return each_call_inside(lambda: _Bound(lambda _: scope), function)
