"""The routers, which differ in what they think of a write and in whom they let read followers."""

from collections.abc import Collection
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from .conf import Config, get_config
from .exceptions import FollowerRoleWriteError, UnpinnedWriteError
from .notebooks import Notebook
from .origins import origin_of, unit_of_other_middleware
from .recency import get_recency, key_of
from .routing import ReplicaRouter, unit_concerned
from .scopes import Scope, current_scope
from .session_keys import key_now
from .units import FOLLOWER, Unit

__all__ = [
    "GreedyPinRouter",
    "LeaderFollowerRouter",
    "ReplicaRouter",
    "SessionPinnedRouter",
    "StrictPinRouter",
]


class LeaderFollowerRouter(ReplicaRouter):
    """Reads followers in units whose role is ``follower``, and refuses writes there.

    The role comes from the HTTP method, ``@use_follower`` or ``unit_of_work(role="follower")``;
    without one everything goes to the leader. ``CHECK_ROLE_ON_WRITE: False`` lets writes pass; they
    pin. With ``"routing"`` those pass that name their leader themselves, by ``using()``.
    """

    on_request_only = True

    def db_for_write(self, model: type[Model], **hints: Any) -> str:
        alias = super().db_for_write(model, **hints)
        config = get_config()
        if config.check_role_on_write == "routing" and model not in config.leader_models:
            scope = self.scope()
            is_leader = alias in config.topology.by_leader
            if is_leader and unit_concerned(alias, scope, config) is not None:
                self._check_role(alias, scope)
        return alias

    def before_write(self, alias: str, scope: Scope, config: Config) -> None:
        if config.check_role_on_write is True:
            self._check_role(alias, scope)

    def _check_role(self, alias: str, scope: Scope) -> None:
        if scope.role is FOLLOWER:
            raise FollowerRoleWriteError(
                f"A write to {alias!r} was refused, because this unit of work has the role "
                "'follower'. Give it the role 'leader' (an unsafe HTTP method, @use_leader), write "
                f"inside `with leader({alias!r})`, or set CHECK_ROLE_ON_WRITE to False.",
                alias,
            )


class StrictPinRouter(ReplicaRouter):
    """Reads followers until the set is pinned, and refuses writes until then."""

    def before_write(self, alias: str, scope: Scope, config: Config) -> None:
        if not scope.is_pinned(alias):
            raise UnpinnedWriteError(
                f"A write to {alias!r} was refused, because the set was not pinned before. Call "
                f"`pin({alias!r})` before the unit of work reads, or write inside "
                f"`with leader({alias!r})` where nothing will read it back.",
                alias,
            )


class GreedyPinRouter(ReplicaRouter):
    """Reads followers until the set is pinned, which the first write does."""


class SessionPinnedRouter(ReplicaRouter):
    """Reads followers, except what this session wrote within ``REPLICATION_LAG`` seconds.

    Whether it did is asked of a cache, model by model, so that every process knows. Override
    ``get_cache_key`` to go by something else than the session, or ``is_recently_updated`` to decide
    by other means. A request asks once for each model that it reads, and keeps to the answer.
    """

    depends_on_model = True

    def get_cache_key(self, model: type[Model]) -> str | None:
        """Return the key under which this session's writes to *model* are noted in the cache.

        None where there is no session: what was written is carried by a mark then. Called before
        reads of the model, and after writes to what it shows. A cache in the database has no model:
        what stands for it has ``_meta.db_table``, ``app_label`` and ``model_name`` only.
        """
        unit = self.scope().unit
        request = None if unit is None else origin_of(unit).request
        session_key = None if request is None else key_now(request)
        return None if session_key is None else key_of(session_key, model._meta.db_table)

    def is_recently_updated(self, model: type[Model]) -> bool:
        """Tell whether *model* was written so lately that followers may lack it; in doubt, yes."""
        key = self.get_cache_key(model)
        return key is not None and get_recency().is_noted(key)

    def scope(self) -> Scope:
        scope = current_scope()
        if not scope.inside and (unit := unit_of_other_middleware()) is not None:
            scope = scope._replace(unit=unit, inside=True)
        if scope.inside and scope.unit is not None and get_config().enabled:
            # Whatever is asked first: log-out changes the session's key, and may write nothing.
            self._notebook(scope.unit)
        return scope

    def reads_leader(self, model: type[Model], unit: Unit) -> bool:
        return self._notebook(unit).is_recent(model, self.is_recently_updated)

    def sets_behind(self, unit: Unit) -> Collection[str]:
        # What the unit wrote itself goes with a job anyhow.
        sets = [each for each in get_config().topology.by_leader if not unit.state_of(each).written]
        return sets if sets and self._notebook(unit).may_be_behind() else ()

    def note_write(
        self,
        alias: str,
        unit: Unit,
        tables: frozenset[str] | None,
        *connections: BaseDatabaseWrapper,
    ) -> None:
        super().note_write(alias, unit, tables, *connections)
        self._notebook(unit).note(alias, tables)

    def _notebook(self, unit: Unit) -> Notebook:
        notes = origin_of(unit).notes
        if self not in notes:
            notes.setdefault(self, Notebook(origin_of(unit), self.get_cache_key))
        notebook: Notebook = notes[self]
        return notebook
