"""Which rule would answer a read of a model now, and why: asked of the routers, without any I/O.

It leaves no trace: no signal is sent, and no follower's turn is taken.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, router
from django.db.models import Model

from .conf import Config, get_config
from .followers import followers_of
from .leaders import is_in_transaction
from .pinning import Block
from .positions import VENDORS
from .reasons import Answer, Reason
from .routers import ReplicaRouter
from .scopes import Scope
from .tables import aligned
from .topology import MaxLag, ReplicaSet
from .units import FOLLOWER, LEADER, Role, Unit


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the documentation, by its number, and the reasons that it answers with."""

    number: int
    question: str
    reasons: tuple[Reason, ...] = ()


RULES = (
    Rule(1, "the alias leads no set", (Reason.NO_SET,)),
    Rule(2, "routing is disabled", (Reason.DISABLED,)),
    Rule(2, "a model that reads its leader", (Reason.LEADER_MODEL,)),
    Rule(2, "outside any unit of work", (Reason.OUTSIDE,)),
    Rule(3, "inside leader() or follower()", (Reason.BLOCK,)),
    Rule(4, "an object from the leader", (Reason.INSTANCE,)),
    Rule(5, "inside a transaction", (Reason.TRANSACTION, Reason.EVENT_LOOP)),
    Rule(6, "the unit's role", (Reason.ROLE,)),
    Rule(7, "the unit wrote, or pinned", (Reason.WRITTEN, Reason.PINNED)),
    Rule(8, "a mark that is a deadline", (Reason.MARKED,)),
    Rule(8, "what the session wrote (SessionPinnedRouter)", (Reason.RECENT,)),
    Rule(9, "a mark that is a position"),
    Rule(10, "the unit's follower", (Reason.FOLLOWER, Reason.NO_FOLLOWER, Reason.CONFLICT)),
)


@dataclass(frozen=True, slots=True)
class Situation:
    """A place in the code from which a model may be read."""

    name: str
    role: Role | None = None
    inside: bool = True


SITUATIONS = (
    Situation("role follower", FOLLOWER),
    Situation("role leader", LEADER),
    Situation("no role", None),
    Situation("no unit", None, inside=False),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a read in one situation is answered with.

    ``aliases`` are several where any of them may be chosen. ``rule`` is None where no rule of
    this package answered, and ``by`` says who did.
    """

    situation: str
    aliases: tuple[str, ...]
    by: str
    rule: int | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The verdicts on one model, and the facts that each rule would find here."""

    model: str
    leader: str | None
    followers: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    facts: tuple[tuple[int, str], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)


def explain(model: type[Model]) -> Explanation:
    """Ask the project's routers as Django would, in a new unit of each role and outside any."""
    config = get_config()
    verdicts = tuple(_verdict(model, situation, config) for situation in SITUATIONS)
    replica_set = _set_of(model, config)
    return Explanation(
        model=model._meta.label,
        leader=None if replica_set is None else replica_set.leader,
        followers=() if replica_set is None else replica_set.followers,
        verdicts=verdicts,
        facts=tuple(_facts(model, replica_set, config)),
    )


def _set_of(model: type[Model], config: Config) -> ReplicaSet | None:
    ours = next((each for each in router.routers if isinstance(each, ReplicaRouter)), None)
    if ours is None:
        return None
    return config.topology.by_leader.get(ours.set_leader("db_for_read", model, {}))


def _verdict(model: type[Model], situation: Situation, config: Config) -> Verdict:
    unit = _new_unit(situation, config)
    inside = situation.inside or config.outside_units == "routed"
    with Block(lambda _: Scope(unit, inside=inside)):
        alias, by = _first_answer(model)
    answer = next(iter(unit.counts), None)
    if answer is None:
        return Verdict(situation.name, (alias,), by, None, None)
    return Verdict(situation.name, _possible(answer, config), by, rule_of(answer[1]), answer[1])


def _new_unit(situation: Situation, config: Config) -> Unit:
    """Make a unit that has its followers already, so that none is tried."""
    unit = Unit(role=situation.role)
    unit.is_made_up = True
    for replica_set in config.topology.sets:
        up = followers_of(replica_set).those_up()
        settled = (up[0], Reason.FOLLOWER) if up else (replica_set.leader, Reason.NO_FOLLOWER)
        state = unit.state_of(replica_set.leader)
        state.untried = True
        state.settle(settled)
    return unit


def _first_answer(model: type[Model]) -> tuple[str, str]:
    for each in router.routers:
        ask = getattr(each, "db_for_read", None)
        if ask is not None and (alias := ask(model)):
            return alias, type(each).__name__
    return DEFAULT_DB_ALIAS, "Django"


def _possible(answer: Answer, config: Config) -> tuple[str, ...]:
    alias, reason = answer
    replica_set = config.topology.set_of(alias)
    if reason is not Reason.FOLLOWER or replica_set is None:
        return (alias,)
    return tuple(followers_of(replica_set).those_up())


def rule_of(reason: Reason) -> int | None:
    """Return the number of the rule that answers with *reason*, None for a router's own."""
    return next((rule.number for rule in RULES if reason in rule.reasons), None)


def _facts(
    model: type[Model], replica_set: ReplicaSet | None, config: Config
) -> Iterator[tuple[int, str]]:
    if replica_set is None:
        yield 1, "No set of REPLICAS is led by the alias that this model is read from."
        return
    leader = replica_set.leader
    yield 1, f"{leader!r} leads {_listed(replica_set.followers)}."
    yield 2, f"Routing is {'enabled' if config.enabled else 'disabled, by ENABLED'}."
    yield 2, f"Models that always read their leader: {_models(config)}."
    yield 2, _outside_units(config)
    yield 3, "No block is open around this question."
    yield 4, f"No object is at hand. With one from {leader!r}, as in refresh_from_db(): {leader!r}."
    yield 5, f"{_transaction(leader)} is open here. Inside atomic() on {leader!r}: {leader!r}."
    yield 6, "Unsafe HTTP methods and @use_leader give the role leader, safe ones follower."
    yield 7, "These units are new. They have written nothing and pinned nothing."
    yield 8, f"They came without marks. A deadline lasts {replica_set.pin_seconds:g} s."
    yield 9, _positions(leader)
    if replica_set.max_lag is not None:
        yield 10, _lag(replica_set, replica_set.max_lag)
    yield 10, _liveness(replica_set)


def _positions(leader: str) -> str:
    connection = connections[leader]
    if connection.vendor == "mysql":
        return "MariaDB has positions for marks, MySQL has deadlines only."
    has_them = "positions" if connection.vendor in VENDORS else "deadlines only"
    return f"{connection.display_name} has {has_them} for marks."


def _models(config: Config) -> str:
    return _listed(sorted(model._meta.label for model in config.leader_models))


def _outside_units(config: Config) -> str:
    if config.outside_units == "routed":
        return 'OUTSIDE_UNITS is "routed": threads have a unit of their own, without a role.'
    return "Outside units everything reads its leader."


def _transaction(leader: str) -> str:
    return "A transaction" if is_in_transaction(leader) else "No transaction"


def _liveness(replica_set: ReplicaSet) -> str:
    down_for = followers_of(replica_set).down_for
    down = [each for each in replica_set.followers if down_for(each) is not None]
    if down:
        return f"This process met {_listed(down)} down, and leaves it alone."
    return "This process knows of no follower that is down. None was tried for this answer."


def _lag(replica_set: ReplicaSet, limit: MaxLag) -> str:
    followers = followers_of(replica_set)
    found = ((alias, followers.why_too_far(alias)) for alias in replica_set.followers)
    lagging = [f"{alias} ({why})" for alias, why in found if why]
    told = f"passes over {', '.join(lagging)}" if lagging else "knows of none that is behind"
    return f"MAX_LAG is {limit}. This process {told}."


def _listed(names: Any) -> str:
    return ", ".join(names) or "nothing"


# As text


def explanation_lines(explanation: Explanation) -> list[str]:
    """Return the verdicts, then the rules in their order with what each says in each situation."""
    verdicts = explanation.verdicts
    return [
        f"A read of {explanation.model}, now:",
        "",
        *aligned(("where", "reads", "because", "asked"), [_summary(each) for each in verdicts]),
        "",
        *aligned(
            ("", "rule", *(each.situation for each in verdicts)),
            [(str(rule.number), rule.question, *_says(rule, verdicts)) for rule in RULES],
        ),
        "",
        *(f"{number:>2}  {fact}" for number, fact in explanation.facts),
    ]


def _summary(verdict: Verdict) -> tuple[str, ...]:
    if verdict.rule is not None:
        because = f"{verdict.reason} (rule {verdict.rule})"
    else:
        because = verdict.reason or "it answers first"
    return verdict.situation, " or ".join(verdict.aliases), because, verdict.by


def _says(rule: Rule, verdicts: tuple[Verdict, ...]) -> Iterator[str]:
    for verdict in verdicts:
        if verdict.rule is None:
            yield "-"
        elif verdict.reason in rule.reasons:
            yield "answers"
        else:
            yield "no" if RULES.index(rule) < _place(verdict.reason) else ""


def _place(reason: str | None) -> int:
    return next(place for place, rule in enumerate(RULES) if reason in rule.reasons)
