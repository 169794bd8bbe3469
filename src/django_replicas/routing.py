"""Where a read goes and what a write means, for all routers alike."""

from functools import partial
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from .conf import Config, get_config, get_sound_config
from .conflicts import watch_followers
from .instances import adopt, listen_for_stale_saves
from .leaders import (
    LeaderObserver,
    after_statement,
    connection_of_this_thread,
    is_in_transaction,
    watch_leaders,
)
from .readers import tables_of
from .reasons import Answer, Decision, Reason
from .scopes import Scope, current_scope, current_scope_here, running_loop
from .settling import settle_anyway, settled_for_now, settled_here
from .shortcuts import Shortcut, TakesShortcuts
from .signals import routed
from .topology import ReplicaSet
from .units import LEADER, Role, Unit
from .writes import READ, UNKNOWN_WRITE, classify, text_of

# What holds until the unit's state, its role or a transaction changes.
SETTLED = {
    Reason.ROLE,
    Reason.WRITTEN,
    Reason.PINNED,
    Reason.MARKED,
    Reason.FOLLOWER,
    Reason.NO_FOLLOWER,
    Reason.CONFLICT,
}


class ReplicaRouter(LeaderObserver, TakesShortcuts):
    """What all routers of this package share; one instance serves every thread.

    Subclasses say whether a unit must ask for followers (``on_request_only``), whether one model
    may be read elsewhere than another (``depends_on_model``, with ``reads_leader``), and what they
    think of a write (``before_write``, ``note_write``); ``set_leader`` chooses among several sets.
    """

    on_request_only = False
    depends_on_model = False
    _may_differ_by_model = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._may_differ_by_model = (
            cls.set_leader is not ReplicaRouter.set_leader or cls.answer is not ReplicaRouter.answer
        )

    def __init__(self) -> None:
        watch_leaders()
        watch_followers()
        listen_for_stale_saves()

    def before_write(self, alias: str, scope: Scope, config: Config) -> None:
        """Refuse a write to the leader *alias* by raising; else it is noted in the unit."""

    def note_write(
        self,
        alias: str,
        unit: Unit,
        tables: frozenset[str] | None,
        *connections: BaseDatabaseWrapper,
    ) -> None:
        """Remember in *unit* a write to *tables* of the leader *alias*, None if unknown."""
        unit.note_write(alias, *connections)

    def reads_leader(self, model: type[Model], unit: Unit) -> bool:
        """Tell whether the unit reads this model on its leader; asked if ``depends_on_model``."""
        return False

    def scope(self) -> Scope:
        """Return what holds here, for this thread or task."""
        return current_scope()

    def set_leader(self, method: str, model: type[Model], hints: dict[str, Any]) -> str:
        """Name the database of a model before leader and follower are told apart.

        The first delegate with an answer gives it. Without one it is the set of the object at
        hand, and ``default`` where there is none.
        """
        config = get_config()
        for delegate in config.delegates:
            answer = getattr(delegate, method, _no_opinion)(model, **hints)
            if answer:
                return str(answer)
        instance = hints.get("instance")
        alias = None if instance is None else instance._state.db
        return config.topology.leader_of(alias) if alias else DEFAULT_DB_ALIAS

    # Reads

    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        last = self._of_this_thread.shortcut
        if (
            last.scope is current_scope_here()
            and last.version.holds
            and (
                (leader := last.connection).autocommit
                or (leader.connection is None and not leader.in_atomic_block)
            )
            and (model is last.model or model not in last.leader_models)
            and not hints
            and last.reader.connection is last.driver
            and not running_loop()
        ):
            last.tally.reads += 1
            return last.alias
        return self._decide(model, hints)

    def _decide(self, model: type[Model], hints: dict[str, Any]) -> str:
        of_this_thread = self._of_this_thread  # Taken before anything that a shortcut hangs on.
        config = get_config()
        leader = self.set_leader("db_for_read", model, hints)
        replica_set = config.topology.by_leader.get(leader)
        scope = self.scope()
        unit = scope.unit
        if unit is None:
            if not routed.receivers:
                return leader
            unit = Unit()
        version = unit.version
        answer = (
            (leader, Reason.NO_SET)
            if replica_set is None
            else self.answer(replica_set, scope, unit, model, hints, config)
        )
        tally = unit.count(answer)
        if unit.is_made_up:
            return answer[0]
        if config.trace:
            unit.remember(Decision(*answer, _label(model)))
        if routed.receivers:
            routed.send_robust(model, alias=answer[0], reason=answer[1], unit=scope.unit)
        if self._may_be_repeated(answer, scope, config):
            of_this_thread.shortcut = Shortcut(
                scope,
                version,
                connection_of_this_thread(leader),
                model,
                config.leader_models,
                answer[0],
                tally,
                reader=(reader := connections[answer[0]]),
                driver=reader.connection,
            )
        return answer[0]

    def _may_be_repeated(self, answer: Answer, scope: Scope, config: Config) -> bool:
        is_watched = config.trace or bool(routed.receivers)
        # Tasks that a thread with a unit of its own waits for are not of that unit.
        is_shared = scope.thread is None
        return answer[1] in SETTLED and is_shared and not is_watched and self.answers_alike(config)

    def answers_alike(self, config: Config) -> bool:
        """Tell whether every model is answered as any other, hints aside."""
        return not (self.depends_on_model or config.delegate_routers or self._may_differ_by_model)

    def answer(
        self,
        replica_set: ReplicaSet,
        scope: Scope,
        unit: Unit,
        model: type[Model],
        hints: dict[str, Any],
        config: Config,
    ) -> Answer:
        """Return the alias that a read goes to, and why: the first rule that applies."""
        leader = replica_set.leader
        if not config.enabled:
            return leader, Reason.DISABLED
        if model in config.leader_models:
            return leader, Reason.LEADER_MODEL
        if scope.overrides and leader in scope.overrides:
            return _answer_in_block(replica_set, scope.overrides[leader], unit)
        if not scope.inside:
            return leader, Reason.OUTSIDE
        if hints and _lives_on(leader, hints):
            return leader, Reason.INSTANCE
        in_transaction = is_in_transaction(leader)
        if in_transaction is not False:
            return leader, Reason.EVENT_LOOP if in_transaction is None else Reason.TRANSACTION
        if scope.role is LEADER or (self.on_request_only and scope.role is None):
            return leader, Reason.ROLE
        state = unit.sets.get(leader) or unit.state_of(leader)
        if state.written:
            return leader, Reason.WRITTEN
        if state.pins or leader in scope.pinned:
            return leader, Reason.PINNED
        if unit.is_marked(leader) if state.marked is None else state.marked:
            return leader, Reason.MARKED
        if self.depends_on_model and self.reads_leader(model, unit):
            return leader, Reason.RECENT
        if scope.thread is not None:
            return settled_for_now(replica_set, unit, state)
        return settled_here(replica_set, unit, state)

    # Writes

    def db_for_write(self, model: type[Model], **hints: Any) -> str:
        config = get_config()
        leader = config.topology.leader_of(self.set_leader("db_for_write", model, hints))
        replica_set = config.topology.by_leader.get(leader)
        if replica_set is None or not config.enabled:
            return leader
        instance = hints.get("instance")
        if type(instance) is model:
            adopt(instance, replica_set)
        if config.writes_at == "routing" and model not in config.leader_models:
            self._meet_write(replica_set.leader, config, tables_of(model))
        return replica_set.leader

    def before_execute(self, connection: BaseDatabaseWrapper, sql: Any) -> None:
        text = sql if type(sql) is str else text_of(sql, connection)
        statement = UNKNOWN_WRITE if text is None else classify(text, connection.vendor)
        if statement is READ:
            return
        config = get_config()
        if connection.alias not in config.topology.by_leader:
            return
        if config.writes_at != "execution":
            self._meet_end_of_write(connection)
            return
        tables = statement.tables
        if tables is None or not tables <= config.leader_tables:
            self._meet_write(connection.alias, config, tables, connection)

    def _meet_end_of_write(self, connection: BaseDatabaseWrapper) -> None:
        """Owe again what was noted when it was routed, and is executed only now."""
        unit = self.scope().unit
        if unit is not None and unit.state_of(connection.alias).written:
            after_statement(partial(unit.note_executed, connection.alias))
            unit.note_write(connection.alias, connection)

    def _meet_write(
        self,
        alias: str,
        config: Config,
        tables: frozenset[str] | None,
        *connections: BaseDatabaseWrapper,
    ) -> None:
        scope = self.scope()
        unit = unit_concerned(alias, scope, config)
        if unit is not None:
            self.before_write(alias, scope, config)
        else:
            # Tasks are outside the unit of the thread that waits for them; what they write is not.
            unit = unit_concerned(alias, current_scope_here(), config)
        if unit is not None:
            after_statement(partial(unit.note_executed, alias))
            self.note_write(alias, unit, tables, *connections)

    # Relations and migrations

    def allow_relation(self, obj1: Model, obj2: Model, **hints: Any) -> bool | None:
        """Allow relations inside a set; about others only the delegates have a say."""
        config = get_config()
        for delegate in config.delegates:
            opinion = getattr(delegate, "allow_relation", _no_opinion)(obj1, obj2, **hints)
            if opinion is not None:
                return bool(opinion)
        replica_set = config.topology.set_of(obj1._state.db)
        if replica_set is not None and replica_set is config.topology.set_of(obj2._state.db):
            return True
        return None

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        """Refuse to migrate followers; about others only the delegates have a say."""
        config = get_sound_config()
        if config.topology.is_follower(db):
            return False
        for delegate in config.sound_delegates:
            opinion = getattr(delegate, "allow_migrate", _no_opinion)(db, app_label, **hints)
            if opinion is not None:
                return bool(opinion)
        return None


def _answer_in_block(replica_set: ReplicaSet, role: Role, unit: Unit) -> Answer:
    if role is LEADER:
        return replica_set.leader, Reason.BLOCK
    alias, reason = settle_anyway(replica_set, unit)
    return alias, Reason.BLOCK if reason is Reason.FOLLOWER else reason


def _label(model: type[Model]) -> str:
    # A cache in the database shows something in place of a model that has no label.
    return f"{model._meta.app_label}.{model._meta.model_name}"


def unit_concerned(alias: str, scope: Scope, config: Config) -> Unit | None:
    """Return the unit that a write to the leader *alias* here would be a write of."""
    if not (scope.inside and config.enabled):
        return None
    return None if scope.overrides.get(alias) is LEADER else scope.unit


def _lives_on(alias: str, hints: dict[str, Any]) -> bool:
    instance = hints.get("instance")
    return instance is not None and bool(instance._state.db == alias)


def _no_opinion(*args: object, **hints: object) -> None:
    """Stand in for a method that a delegate does not have."""
