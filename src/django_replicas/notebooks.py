"""What a unit wrote, handed on to the next units of its session; and what it was told itself."""

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from django.db import connections, transaction

from .conf import get_config
from .leaders import after_statement
from .origins import unit_of_other_middleware
from .readers import models_showing
from .recency import get_recency, key_of
from .scopes import current_scope_here
from .session_keys import key_now, key_that_came
from .units import Unit

if TYPE_CHECKING:
    from django.db.models import Model

logger = logging.getLogger("django_replicas")

_noting = threading.Lock()


class Notebook:
    """What is remembered of one unit and of those inside it.

    Handed on when the unit ends, because only then the key of its session is final and its
    transactions are over. Where nobody ends it, or it is over, each write is handed on by itself,
    with its commit. What reaches the session's next units needs no mark.
    """

    def __init__(self, unit: Unit, cache_key: "Callable[[type[Model]], str | None]") -> None:
        self._unit = unit
        self._cache_key = cache_key
        self._session_key = None if unit.request is None else key_that_came(unit.request)
        self._answers: dict[type[Model], bool] = {}
        self._written: dict[str, frozenset[str] | None] = {}
        self._has_lost_notes = False
        self._asked_at: object = None
        self._behind: tuple[object, bool] = (None, False)
        # A thread's own unit lasts as long as the thread.
        self._has_end = unit.request is not None or current_scope_here().thread is None
        nobody_ends_it = unit.request is None or unit is unit_of_other_middleware()
        self._is_over = nobody_ends_it or unit.has_ended
        if not self._is_over:
            unit.at_end(self._close)

    def is_recent(self, model: "type[Model]", ask: "Callable[[type[Model]], bool]") -> bool:
        """Return what *ask* says of the model.

        A request keeps to its first answer, another unit until it writes.
        """
        self._follow_session()
        if self._has_lost_notes:
            return True
        if not self._has_end:
            return ask(model)
        answers = self._answers_so_far()
        if model not in answers:
            answers[model] = ask(model)
        return answers[model]

    def _answers_so_far(self) -> "dict[type[Model], bool]":
        if self._unit.request is None and self._asked_at is not self._unit.version:
            self._asked_at, self._answers = self._unit.version, {}
        return self._answers

    def may_be_behind(self) -> bool:
        """Tell whether the session wrote anything lately, in this unit or before it.

        The answer holds until the unit writes.
        """
        if self._has_lost_notes:
            return True
        version, (asked_at, answer) = self._unit.version, self._behind
        if not self._has_end or asked_at is not version:
            answer = self._ask_all()
            self._behind = version, answer
        return answer

    def _ask_all(self) -> bool:
        keys = self._keys_of(None) - {None}
        found = get_recency().noted([str(key) for key in keys]) if keys else ()
        return found is None or bool(found)

    def note(self, alias: str, tables: frozenset[str] | None) -> None:
        """Note that the unit writes to *tables* of the leader *alias*, None if they are unknown."""
        with _noting:
            before = self._written.get(alias, frozenset())
            self._written[alias] = None if before is None or tables is None else before | tables
        if self._is_over:
            self._hand_on_with_commit(alias)

    def _close(self) -> None:
        self._is_over = True
        self._follow_session()
        self._hand_on(list(self._written))

    def _hand_on_with_commit(self, alias: str) -> None:
        if connections[alias].in_atomic_block:
            transaction.on_commit(partial(self._hand_on, [alias]), using=alias)
        else:
            # Noted before it is executed, a slow write would outlive its note.
            after_statement(partial(self._hand_on_now, alias))

    def _hand_on_now(self, alias: str) -> None:
        self._follow_session()
        self._hand_on([alias])

    def _hand_on(self, aliases: list[str]) -> None:
        """Note what was written, and leave to a mark what the session's next units may not find."""
        with _noting:
            written = {each: self._written.pop(each) for each in aliases if each in self._written}
        keys = {alias: self._keys_written(tables) for alias, tables in written.items()}
        known = {alias: {key for key in keys[alias] if key is not None} for alias in written}
        moment = get_recency().note(_seconds_of(known))
        carried = [each for each in written if known[each] and known[each] == keys[each]]
        if not carried or not self._keeps_its_session():
            return
        kept = get_recency().kept(set().union(*map(known.__getitem__, carried)), moment)
        for alias in carried:
            if known[alias] <= kept:
                self._unit.state_of(alias).uncarried = False

    def _keys_of(self, tables: frozenset[str] | None) -> set[str | None]:
        return {self._cache_key(model) for model in models_showing(tables)}

    def _keys_written(self, tables: frozenset[str] | None) -> set[str | None]:
        """Return the keys to note, with None among them for what has none: a mark carries that."""
        try:
            return self._keys_of(tables)
        except Exception:
            # It is too late to fail: the write is done, and the view may have failed by itself.
            logger.exception("No key can be had for what was written; a mark carries it.")
            return {None}

    def _keeps_its_session(self) -> bool:
        """Tell whether the client is sure to come again with the key that it came with."""
        request = self._unit.request
        if request is None:
            return True
        # Without the middleware, a key that the client sent may be another site's. Inside of it,
        # nobody knows yet what it will send; and it sends no new key with a response of status 500.
        is_known = hasattr(request, "session") and not self._unit.ends_before_its_session
        return is_known and key_now(request) == key_that_came(request)

    def _follow_session(self) -> None:
        """Have what is noted under the session's former key hold under its new one."""
        if self._unit.request is None:
            return
        before, self._session_key = self._session_key, key_now(self._unit.request)
        if before in {None, self._session_key} or _moves(str(before), self._session_key):
            return
        self._has_lost_notes = True
        for alias in get_config().topology.by_leader:
            self._unit.state_of(alias).uncarried = True


def _seconds_of(keys: Mapping[str, set[str]]) -> dict[str, float]:
    """Return for how long to note each key: the longest lag of the leaders that it is for."""
    sets = get_config().topology.by_leader
    by_lag = sorted((sets[alias].recency_seconds, alias) for alias in keys)
    return {key: lag for lag, alias in by_lag for key in keys[alias]}


def _moves(before: str, now: str | None) -> bool:
    """Tell whether all that was noted under one session key now is under the other."""
    tables = {model._meta.db_table for model in models_showing(None)}
    table_of = {key_of(before, table): table for table in tables}
    found = get_recency().noted(list(table_of))
    if now is None or not found:
        return found == frozenset()
    longest = max(each.recency_seconds for each in get_config().topology.sets)
    keys = {key_of(now, table_of[key]) for key in found}
    moment = get_recency().note(dict.fromkeys(keys, longest))
    return get_recency().kept(keys, moment) == keys
