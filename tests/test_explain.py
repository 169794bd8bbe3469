"""Which rule answers, said by the routers themselves, with no connection opened."""

import json
import re

import pymysql
import pytest
from django.contrib.sessions.models import Session
from django.db import connections, router
from django.db.backends.signals import connection_created

from django_replicas import unit_of_work
from django_replicas.conf import get_config
from django_replicas.explain import RULES, SITUATIONS, explain, explanation_lines, rule_of
from django_replicas.followers import followers_of
from django_replicas.reasons import Reason
from django_replicas.routers import GreedyPinRouter
from django_replicas.scopes import current_unit
from django_replicas.signals import routed

from .pages import text_of
from .shop.models import Book

BOTH = ("replica1", "replica2")


@pytest.fixture(autouse=True)
def _opens_nothing():
    """Fail when an explanation connects to anything."""
    opened = []

    def open_(connection, **kwargs):
        opened.append(connection.alias)

    connections.close_all()
    connection_created.connect(open_)
    yield
    connection_created.disconnect(open_)
    assert opened == []


@pytest.fixture
def use(settings):
    """Put other routers in place, or change keys of ``REPLICAS``."""

    def use(*routers, **keys):
        if routers:
            settings.DATABASE_ROUTERS = list(routers)
        settings.REPLICAS = {**settings.REPLICAS, **keys}

    return use


def answers(model=Book):
    """Return (aliases, rule) for the roles follower and leader, no role and no unit."""
    return [(each.aliases, each.rule) for each in explain(model).verdicts]


def test_greedy():
    """Units read followers unless their role is leader; outside units it is the leader."""
    assert answers() == [(BOTH, 10), (("default",), 6), (BOTH, 10), (("default",), 2)]


def test_leader_follower(use):
    """This router needs the role to be asked for."""
    use("django_replicas.routers.LeaderFollowerRouter")
    assert answers() == [(BOTH, 10), (("default",), 6), (("default",), 6), (("default",), 2)]


def test_leader_model():
    """The session's model reads its leader, wherever it is read."""
    assert answers(Session) == [(("default",), 2)] * 4


def test_disabled(use):
    """Nothing is routed."""
    use(ENABLED=False)
    explanation = explain(Book)
    assert {each.reason for each in explanation.verdicts} == {Reason.DISABLED}
    assert (2, "Routing is disabled, by ENABLED.") in explanation.facts


def test_routed_outside_units(use):
    """Threads have units of their own, so nothing is outside of one."""
    use(OUTSIDE_UNITS="routed")
    assert answers() == [(BOTH, 10), (("default",), 6), (BOTH, 10), (BOTH, 10)]
    assert any('OUTSIDE_UNITS is "routed"' in fact for _, fact in explain(Book).facts)


class Other:
    """A delegate that sends everything to a set of its own."""

    def __init__(self, alias):
        self.alias = alias

    def db_for_read(self, model, **hints):
        return self.alias


class Silent:
    """A router that has no opinion about reads."""


def test_delegate(use):
    """A delegate chooses the set."""
    use(DELEGATE_ROUTERS=[Other("other")])
    explanation = explain(Book)
    assert (explanation.leader, explanation.followers) == ("other", ("other-0",))
    assert answers()[0] == (("other-0",), 10)


def test_no_set(use):
    """An alias that leads no set is the answer everywhere, and there is little to tell."""
    use(DELEGATE_ROUTERS=[Other("lonely")])
    explanation = explain(Book)
    assert explanation.leader is None
    assert answers() == [(("lonely",), 1)] * 3 + [(("lonely",), 1)]
    assert [number for number, _ in explanation.facts] == [1]


def test_another_router_answers_first(use):
    """The routers are asked in Django's order, so one of others may answer before ours."""
    use(Silent(), Other("lonely"), "django_replicas.routers.GreedyPinRouter")
    explanation = explain(Book)
    assert {(each.aliases, each.by, each.rule) for each in explanation.verdicts} == {
        (("lonely",), "Other", None)
    }
    assert "role follower  lonely  it answers first  Other" in explanation_lines(explanation)


def test_no_router_of_ours(use):
    """Without one, Django falls back to its default, and no rule of ours applies."""
    use(Silent())
    explanation = explain(Book)
    assert {(each.aliases, each.by) for each in explanation.verdicts} == {(("default",), "Django")}
    assert explanation.leader is None


class OwnRule(GreedyPinRouter):
    """A router with a reason that is in no list."""

    def answer(self, *args):
        return "default", "the weather"


def test_a_router_with_a_rule_of_its_own(use):
    """A subclass may answer with what only it knows."""
    use(OwnRule())
    explanation = explain(Book)
    assert {(each.rule, each.reason) for each in explanation.verdicts} == {(None, "the weather")}
    assert "role leader    default  the weather  OwnRule" in explanation_lines(explanation)


def known_down(*aliases):
    followers = followers_of(get_config().topology.by_leader["default"])
    for alias in aliases:
        followers._liveness.mark_down(alias)


def test_one_follower_is_known_to_be_down():
    """What this process knows counts."""
    known_down("replica1")
    explanation = explain(Book)
    assert explanation.verdicts[0].aliases == ("replica2",)
    assert explanation.facts[-1] == (10, "This process met replica1 down, and leaves it alone.")


def test_no_follower_is_left():
    """The leader answers, by the same rule."""
    known_down(*BOTH)
    verdict = explain(Book).verdicts[0]
    assert (verdict.aliases, verdict.rule, verdict.reason) == (
        ("default",),
        10,
        Reason.NO_FOLLOWER,
    )


def test_inside_a_transaction(monkeypatch):
    """An open transaction of this thread counts like any other fact."""
    monkeypatch.setattr(connections["default"], "in_atomic_block", True)
    explanation = explain(Book)
    assert [each.rule for each in explanation.verdicts] == [5, 5, 5, 2]
    assert explanation.facts[6][1].startswith("A transaction is open here.")


@pytest.mark.parametrize("keys", [{}, {"TRACE": True}])
def test_leaves_nothing_behind(use, keys):
    """The unit that asks goes on as it was, and no shortcut keeps one that was made up."""
    use(**keys)
    explain(Book)
    (asked,) = router.routers
    assert asked._of_this_thread.shortcut.scope is None
    with unit_of_work(role="leader"):
        router.db_for_read(Book)
        mine, before = asked._of_this_thread.shortcut.scope, dict(current_unit().counts)
        assert (mine is None) is bool(keys)
        explain(Book)
        assert asked._of_this_thread.shortcut.scope is mine
        assert current_unit().counts == before


def test_nobody_is_told():
    """A read that is only asked about is no read for those who count them."""
    told = []

    def tell(sender, **kwargs):
        told.append(kwargs["alias"])

    routed.connect(tell)
    try:
        explain(Book)
        assert told == []
        with unit_of_work(role="leader"):
            router.db_for_read(Book)
        assert told == ["default"]
    finally:
        routed.disconnect(tell)


def test_no_turn_is_taken(use):
    """Whose turn it is next does not depend on who has looked."""
    use(BALANCE="round_robin", SETS={"default": [*BOTH, "lonely"]})
    followers = followers_of(get_config().topology.by_leader["default"])
    in_turn = [followers.name() for _ in range(3)]
    assert answers()[0] == ((*BOTH, "lonely"), 10)
    assert followers.name() == in_turn[0]


def test_lines():
    """The verdicts come first, then the rules in their order, then the facts."""
    lines = explanation_lines(explain(Book))
    assert lines[0] == "A read of shop.Book, now:"
    assert (
        "no unit        default               outside any unit of work (rule 2)  GreedyPinRouter"
        in lines
    )
    assert [line.split()[0] for line in lines[-26:-13]] == [str(rule.number) for rule in RULES]
    assert (
        "7   the unit wrote, or pinned                     no                          no" in lines
    )
    assert " 1  'default' leads replica1, replica2." in lines


def test_as_dict_is_plain():
    """JSON holds all of it."""
    plain = json.loads(json.dumps(explain(Book).as_dict()))
    assert plain["model"] == "shop.Book"
    assert plain["verdicts"][0] == {
        "situation": SITUATIONS[0].name,
        "aliases": ["replica1", "replica2"],
        "by": "GreedyPinRouter",
        "rule": 10,
        "reason": "the unit's follower",
    }


def test_every_rule_answers_with_reasons_of_its_own():
    """No reason belongs to two rules; those that routers add of themselves belong to none."""
    reasons = [reason for rule in RULES for reason in rule.reasons]
    assert len(reasons) == len(set(reasons))
    assert rule_of(Reason.MARKED) == 8
    assert rule_of("the weather") is None


ROW = re.compile(r"^   \* - (\d\w*)$", re.MULTILINE)
ROW_OF_REASONS = re.compile(r"^   \* - (``[A-Z_]+``.*)\n     - (\d.*)$", re.MULTILINE)
ROW_OF_VALUES = re.compile(r"^   \* - (.+)\n     - (\d[\d, ]*\w*)$", re.MULTILINE)


def test_rules_have_the_numbers_of_the_page():
    """Each of them, once in the page's table."""
    assert ROW.findall(text_of("routing")) == [
        str(number) for number in dict.fromkeys(rule.number for rule in RULES)
    ]


def test_reasons_have_the_rules_of_the_pages():
    """By name on one page, by what a trace shows on the other."""
    by_name = ROW_OF_REASONS.findall(text_of("routing"))
    found = {name: rules for names, rules in by_name for name in re.findall(r"[A-Z_]+", names)}
    assert set(found) == {reason.name for reason in Reason}
    by_value = dict(ROW_OF_VALUES.findall(text_of("seeing")))
    for reason in Reason:
        assert str(rule_of(reason)) in found[reason.name].split(", ")
        assert by_value[reason.value] == found[reason.name]


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        ("sqlite3", "SQLite has deadlines only for marks."),
        ("postgresql", "PostgreSQL has positions for marks."),
        ("mysql", "MariaDB has positions for marks, MySQL has deadlines only."),
    ],
)
def test_what_marks_are_made_of(databases_are, engine, told):
    """By the leader's engine; it is not connected to for that."""
    pymysql.install_as_MySQLdb()
    databases_are(
        default={"ENGINE": f"django.db.backends.{engine}", "HOST": "127.0.0.1", "PORT": 1}
    )
    assert (9, told) in explain(Book).facts
