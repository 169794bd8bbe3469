"""Where reads go, what writes mean: the rules in their order, for each router."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import combinations
from typing import NamedTuple

import pytest
from django.contrib.sessions.models import Session
from django.db import connection as default_connection
from django.db import connections, models, router, transaction
from django.db.backends.signals import connection_created
from django.db.models import F
from django.test import override_settings
from django.utils import timezone

from django_replicas import follower, get_pinned, is_pinned, leader, pin, unit_of_work, unpin_all
from django_replicas.exceptions import (
    FollowerRoleWriteError,
    ReplicasConfigError,
    UnpinnedWriteError,
    WriteRefusedError,
)
from django_replicas.leaders import watch_leaders
from django_replicas.marks import Mark
from django_replicas.pinning import Block, as_role
from django_replicas.reasons import Reason
from django_replicas.routers import GreedyPinRouter
from django_replicas.scopes import current_unit
from django_replicas.units import FOLLOWER, LEADER, Unit

from .shop.models import Book, Label, Shelf

pytestmark = pytest.mark.usefixtures("traced")

FOLLOWERS = {"replica1", "replica2"}
GREEDY = "django_replicas.routers.GreedyPinRouter"
STRICT = "django_replicas.routers.StrictPinRouter"
BY_ROLE = "django_replicas.routers.LeaderFollowerRouter"


@pytest.fixture(params=[GREEDY, STRICT, BY_ROLE], ids=["greedy", "strict", "by_role"])
def any_router(request, settings):
    settings.DATABASE_ROUTERS = [request.param]
    return request.param


@pytest.fixture(params=[STRICT, BY_ROLE], ids=["strict", "by_role"])
def refusing_router(request, settings):
    settings.DATABASE_ROUTERS = [request.param]
    return request.param


@pytest.fixture
def configure(settings):
    """Change keys of ``REPLICAS`` for one test."""

    def change(**keys):
        settings.REPLICAS = {**settings.REPLICAS, **keys}

    return change


def title(**hints):
    return Book.objects.db_manager(hints=hints).get(pk=1).title


def last_reason():
    return current_unit().trace[-1].reason


@contextmanager
def statements(alias="default"):
    """Collect what reaches the database, behind all that would stop it."""
    sent = []

    def collect(execute, sql, params, many, context):
        sent.append(sql)
        return execute(sql, params, many, context)

    with connections[alias].execute_wrapper(collect):
        yield sent


def count(alias="default"):
    """Count books without asking a router."""
    with connections[alias].cursor() as cursor:
        return cursor.execute("SELECT count(*) FROM shop_book").fetchone()[0]


# The ten rules


def delegated(stack, configure):
    configure(DELEGATE_ROUTERS=[Delegate("lonely")])


def disabled(stack, configure):
    configure(ENABLED=False)


def of_a_leader_model(stack, configure):
    configure(LEADER_MODELS=["shop.Book"])


def in_leader_block(stack, configure):
    stack.enter_context(leader("default"))


def in_follower_block(stack, configure):
    stack.enter_context(follower("default"))


def from_the_leader(stack, configure):
    return {"instance": Shelf.objects.using("default").get()}


def in_transaction(stack, configure):
    stack.enter_context(transaction.atomic("default"))


def in_role_leader(stack, configure):
    stack.enter_context(as_role(LEADER))


def after_a_write(stack, configure):
    with as_role(LEADER), pin("default"):
        Label.objects.create(word="new")


def while_pinned(stack, configure):
    pin("default")


def with_a_mark(stack, configure):
    unit = Unit(lambda: {"default": Mark.lasting(60)}, role=FOLLOWER)
    stack.enter_context(Block(lambda scope: scope._replace(unit=unit)))


class Rule(NamedTuple):
    number: int
    apply: object
    answers: set[str]
    reason: Reason


LEADS = {"default"}
RULES = [
    Rule(1, delegated, {"lonely"}, Reason.NO_SET),
    Rule(2, disabled, LEADS, Reason.DISABLED),
    Rule(2, of_a_leader_model, LEADS, Reason.LEADER_MODEL),
    Rule(3, in_leader_block, LEADS, Reason.BLOCK),
    Rule(3, in_follower_block, FOLLOWERS, Reason.BLOCK),
    Rule(4, from_the_leader, LEADS, Reason.INSTANCE),
    Rule(5, in_transaction, LEADS, Reason.TRANSACTION),
    Rule(6, in_role_leader, LEADS, Reason.ROLE),
    Rule(7, after_a_write, LEADS, Reason.WRITTEN),
    Rule(7, while_pinned, LEADS, Reason.PINNED),
    Rule(8, with_a_mark, LEADS, Reason.MARKED),
]
PAIRS = [pair for pair in combinations(RULES, 2) if pair[0].number < pair[1].number]


def name_of(value):
    return value.apply.__name__


def check(rule, hints):
    read_from = title(**hints)
    assert read_from in rule.answers
    if rule.reason is not Reason.NO_SET:
        assert current_unit().trace[-1] == (read_from, rule.reason, "shop.book")


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_each_rule(rule, any_router, configure):
    """Every rule above the last answers by itself, and says that it did."""
    with unit_of_work(role="follower"), ExitStack() as stack:
        hints = rule.apply(stack, configure) or {}
        check(rule, hints)


@pytest.mark.parametrize(
    ("earlier", "later"), PAIRS, ids=[f"{name_of(a)}-{name_of(b)}" for a, b in PAIRS]
)
def test_earlier_rule_wins(earlier, later, any_router, configure):
    """Where two rules apply, the earlier one answers."""
    with unit_of_work(role="follower"), ExitStack() as stack:
        hints = later.apply(stack, configure) or {}
        hints |= earlier.apply(stack, configure) or {}
        check(earlier, hints)


def test_database_in_no_set_is_counted(any_router, configure):
    """The first rule says that it answered, as all others do."""
    configure(DELEGATE_ROUTERS=[Delegate("lonely")])
    with unit_of_work(role="follower"):
        title()
        assert current_unit().counts == {("lonely", Reason.NO_SET): 1}


def test_last_rule(any_router):
    """Where no other rule applies, the unit's follower answers, the same one each time."""
    with unit_of_work(role="follower"):
        titles = {title() for _ in range(20)}
        assert len(titles) == 1
        assert titles < FOLLOWERS
        assert current_unit().counts == {(titles.pop(), Reason.FOLLOWER): 20}


# A unit learns of its marks before it chooses a follower, so rule 8 is not among them.
@pytest.mark.parametrize("rule", [rule for rule in RULES if 2 < rule.number < 8], ids=name_of)
def test_every_later_rule_wins_over_a_chosen_follower(rule, any_router, configure):
    """A follower that the unit has already chosen does not outlast a rule above the last."""
    with unit_of_work(role="follower"), ExitStack() as stack:
        chosen = title()
        assert chosen in FOLLOWERS
        check(rule, rule.apply(stack, configure) or {})
        stack.close()
        if rule.number < 7:
            assert title() == chosen


def test_mark_that_is_past(any_router):
    """A deadline that has passed before the unit's first read sends nothing to the leader."""
    unit = Unit(lambda: {"default": Mark.lasting(-1)}, role=FOLLOWER)
    with unit_of_work(role="follower"), Block(lambda scope: scope._replace(unit=unit)):
        assert title() in FOLLOWERS


def test_wrote_inside_a_pin_block_that_ended(any_router):
    """After ``with pin`` the pin is gone, but what was written inside it still counts."""
    with unit_of_work(role="follower"):
        with pin("default"):
            assert (title(), last_reason()) == ("default", Reason.PINNED)
        assert title() in FOLLOWERS
        with pin("default"), as_role(LEADER):
            Label.objects.create(word="new")
        assert (title(), last_reason()) == ("default", Reason.WRITTEN)


def test_sets_do_not_touch_each_other(any_router):
    """A pin, a block or a transaction of one set says nothing about another."""
    with unit_of_work(role="follower"), pin("other"), leader("other"), transaction.atomic("other"):
        assert title() in FOLLOWERS


def test_role_unknown(any_router):
    """In a unit without a role followers serve, unless the router waits to be asked for them."""
    with unit_of_work():
        if any_router == BY_ROLE:
            assert (title(), last_reason()) == ("default", Reason.ROLE)
        else:
            assert title() in FOLLOWERS


def test_trace_is_off_by_default(configure):
    """Without ``TRACE`` only counts are kept."""
    configure(TRACE=False)
    with unit_of_work():
        title()
        assert sum(current_unit().counts.values()) == 1
        assert not current_unit().trace


def test_trace_names_the_model():
    """A trace says which model was read, where, and why."""
    with unit_of_work(role="leader"):
        Shelf.objects.get()
        assert list(current_unit().trace) == [("default", Reason.ROLE, "shop.shelf")]


# Outside units


def test_outside_units(any_router):
    """Outside any unit the leader serves, and nothing is refused, noted or pinned."""
    assert title() == "default"
    Book.objects.create(title="new")
    Book.objects.filter(pk=1).update(title="changed")
    assert title() == "changed"
    assert current_unit() is None
    assert not get_pinned()


def test_outside_units_in_a_follower_block(any_router):
    """Outside units a ``follower()`` block reads one follower; writes in it pin nothing."""
    with follower("default"):
        chosen = title()
        Book.objects.filter(pk=1).update(note="changed")
        assert {title() for _ in range(10)} == {chosen}
    assert chosen in FOLLOWERS
    assert title() == "default"


def test_outside_units_in_another_block():
    """Outside units a block of one set says nothing about another."""
    with follower("other"):
        assert title() == "default"
        assert Book.objects.using("other").exists()


def test_outside_units_routed(configure):
    """With ``OUTSIDE_UNITS: "routed"`` a thread is a unit of its own, until ``unpin_all()``."""
    configure(OUTSIDE_UNITS="routed")
    assert title() in FOLLOWERS
    Book.objects.create(title="new")
    assert (title(), last_reason()) == ("default", Reason.WRITTEN)
    unpin_all()
    assert title() in FOLLOWERS


def test_outside_units_routed_strictly(configure, settings):
    """With ``OUTSIDE_UNITS: "routed"`` the strict router refuses there as well."""
    configure(OUTSIDE_UNITS="routed")
    settings.DATABASE_ROUTERS = [STRICT]
    with pytest.raises(UnpinnedWriteError):
        Book.objects.create(title="new")
    pin("default")
    Book.objects.create(title="new")


# Models that read their leader


def test_sessions_read_their_leader(any_router):
    """Sessions are the models that read their leader unless told otherwise."""
    with unit_of_work(role="follower"):
        assert not Session.objects.exists()
        assert last_reason() is Reason.LEADER_MODEL


def test_sessions_written(any_router):
    """A saved, changed or deleted session is not refused and pins nothing."""
    with unit_of_work(role="follower"):
        session = Session.objects.create(
            session_key="a" * 32, session_data="", expire_date=timezone.now()
        )
        Session.objects.update(session_data="x")
        session.delete()
        assert not is_pinned("default")
        assert title() in FOLLOWERS


def test_own_leader_models(configure):
    """``LEADER_MODELS`` takes the place of the session model."""
    configure(LEADER_MODELS=["shop.Label"])
    with unit_of_work():
        Label.objects.create(word="new")
        assert Label.objects.get().word == "new"
        assert title() in FOLLOWERS
        Session.objects.create(session_key="a" * 32, session_data="", expire_date=timezone.now())
        assert title() == "default"


def test_proxy_of_a_leader_model(configure):
    """Another model over the same table reads the leader too: its writes do not pin either."""

    class Tag(Label):
        class Meta:
            proxy = True
            app_label = "shop"

    configure(LEADER_MODELS=["shop.Label"])
    try:
        with unit_of_work():
            Tag.objects.create(word="new")
            assert [tag.word for tag in Tag.objects.all()] == ["new"]
            assert title() in FOLLOWERS
    finally:
        forget_model(Tag)


def forget_model(model):
    registry = model._meta.apps
    del registry.all_models[model._meta.app_label][model._meta.model_name]
    registry.clear_cache()


def test_leader_models_unknown(configure):
    """A label that names no model is an error that names the key and the label."""
    configure(LEADER_MODELS=["shop.Magazine"])
    with unit_of_work(), pytest.raises(ReplicasConfigError) as caught:
        title()
    assert str(caught.value) == (
        "REPLICAS[\"LEADER_MODELS\"] names 'shop.Magazine', which is no installed model. "
        "Correct it, or remove it."
    )


# Delegates


class Delegate:
    """Sends the books one way."""

    def __init__(self, alias):
        self.alias = alias

    def db_for_read(self, model, **hints):
        return self.alias if model is Book else None

    db_for_write = db_for_read


class Opinionated:
    """Says the same about every relation and every migration."""

    def __init__(self, opinion):
        self.opinion = opinion

    def allow_relation(self, obj1, obj2, **hints):
        return self.opinion

    def allow_migrate(self, db, app_label, **hints):
        return self.opinion


def test_delegate_names_another_set(any_router, configure):
    """A delegate chooses the set, the router chooses leader or follower inside it."""
    configure(DELEGATE_ROUTERS=[Delegate("other")])
    with unit_of_work(role="follower"):
        assert title() == "other-0"
        assert Shelf.objects.get().name in FOLLOWERS
        with as_role(LEADER), pin("other"):
            Book.objects.create(title="new")
        assert title() == "other"
        assert Shelf.objects.get().name in FOLLOWERS
    assert (count("other"), count("default")) == (2, 1)


def test_delegate_names_an_alias_in_no_set(any_router, configure):
    """An alias that no set has is read and written as it is; nothing there is refused or pins."""
    configure(DELEGATE_ROUTERS=[Delegate("lonely")])
    with unit_of_work(role="follower"):
        assert title() == "lonely"
        Book.objects.create(title="new")
        assert not get_pinned()
    assert count("lonely") == 2


def test_delegate_names_a_follower(any_router, configure):
    """A follower that a delegate names is read as it is, and written on its leader."""
    configure(DELEGATE_ROUTERS=[Delegate("replica2")])
    assert title() == "replica2"
    with unit_of_work(role="leader"), pin("default"):
        assert title() == "replica2"
        Book.objects.create(title="new")
    assert (count("default"), count("replica2")) == (2, 1)


def test_delegates_in_order(configure):
    """The first delegate with an answer gives it; without any it is ``default``."""
    configure(DELEGATE_ROUTERS=[Opinionated(None), Delegate("other"), Delegate("lonely")])
    with unit_of_work():
        assert title() == "other-0"
        assert Shelf.objects.get().name in FOLLOWERS
        Shelf.objects.create(name="new")
        assert Shelf.objects.get(pk=1).name == "default"


def test_delegate_by_dotted_path(configure):
    """A delegate may be named by its path."""
    configure(DELEGATE_ROUTERS=["tests.test_routers.ToOther"])
    with unit_of_work():
        assert title() == "other-0"


class ToOther(Delegate):
    def __init__(self):
        super().__init__("other")


def test_delegate_is_shown_the_hints(configure):
    """Delegates hear the hints of each question."""
    heard = []

    class Listener:
        def db_for_read(self, model, **hints):
            heard.append(hints)

    configure(DELEGATE_ROUTERS=[Listener()])
    shelf = Shelf(pk=1)
    with unit_of_work():
        title(instance=shelf)
    assert heard == [{"instance": shelf}]


def test_set_of_the_object_at_hand(any_router):
    """Without delegates related objects come from the set of the object at hand, and go there."""
    with unit_of_work(role="leader"):
        shelf = Shelf.objects.using("other").get()
        assert shelf.books.get().title == "other"
        lonely = Shelf.objects.using("lonely").get()
        assert lonely.books.get().title == "lonely"
        with pin("other"):
            shelf.books.create(title="new")
        lonely.books.create(title="new")
    assert (count("other"), count("lonely"), count("default")) == (2, 2, 1)


def test_object_from_a_follower(any_router):
    """Objects related to one from a follower are read from the unit's follower."""
    with unit_of_work(role="follower"):
        shelf = Shelf.objects.get()
        assert shelf._state.db in FOLLOWERS
        assert shelf.books.get().title == shelf._state.db


def test_object_from_a_follower_after_a_pin(any_router):
    """Where it came from does not keep what is related to it from the leader."""
    with unit_of_work(role="follower"):
        shelf = Shelf.objects.get()
        pin("default")
        assert shelf.books.get().title == "default"
        assert last_reason() is Reason.PINNED


# Writes


def by_create():
    Book.objects.create(title="new")


def by_create_on_the_alias():
    Book.objects.using("default").create(title="new")


def by_save():
    Book(title="new").save()


def by_bulk_create():
    Book.objects.bulk_create([Book(title="new"), Book(title="newer")])


def by_get_or_create():
    Book.objects.get_or_create(title="new")


def by_update_or_create():
    Book.objects.update_or_create(pk=1, defaults={"title": "new"})


def by_update():
    Book.objects.update(note=F("title"))


def by_delete():
    Book.objects.filter(pk=1).delete()


def by_cursor():
    with default_connection.cursor() as cursor:
        cursor.execute("INSERT INTO shop_book (title, note) VALUES ('new', '')")


def by_executemany():
    with default_connection.cursor() as cursor:
        cursor.executemany("INSERT INTO shop_book (title, note) VALUES (%s, '')", [["a"], ["b"]])


def by_raw_query():
    sql = "UPDATE shop_book SET title = 'new' WHERE id = 1 RETURNING id, title"
    list(Book.objects.using("default").raw(sql))


def by_several_statements():
    with default_connection.cursor() as cursor:
        cursor.execute("SELECT 1; DELETE FROM shop_book")


def by_bytes():
    execute_unheard(b"DELETE FROM shop_book")


def by_no_text():
    execute_unheard(object())


def execute_unheard(sql):
    """Execute what SQLite's driver would not take, and other drivers do."""
    default_connection.ensure_connection()
    announce = default_connection.execute_wrappers[0]
    announce(lambda *args: None, sql, None, False, {"connection": default_connection})


WRITES = [
    by_create,
    by_create_on_the_alias,
    by_save,
    by_bulk_create,
    by_get_or_create,
    by_update_or_create,
    by_update,
    by_delete,
    by_cursor,
    by_executemany,
    by_raw_query,
]


@pytest.mark.parametrize("write", [*WRITES, by_bytes, by_no_text], ids=lambda write: write.__name__)
def test_write_pins(write):
    """Whatever way a write takes, the greedy router's reads follow it to the leader."""
    with unit_of_work():
        assert title() in FOLLOWERS
        write()
        assert is_pinned("default")
        assert Shelf.objects.get().name == "default"


@pytest.mark.parametrize(
    "write",
    [*WRITES, by_several_statements, by_bytes, by_no_text],
    ids=lambda write: write.__name__,
)
def test_write_refused(write, refusing_router):
    """Whatever way a write takes, it is refused before anything of it reaches the database."""
    with unit_of_work(role="follower"), statements() as sent:
        with pytest.raises(WriteRefusedError) as caught:
            write()
        assert caught.value.alias == "default"
        assert all(sql.startswith(("SELECT", "BEGIN", "SAVEPOINT", "ROLLBACK")) for sql in sent)
        assert not is_pinned("default")
    assert count() == 1
    assert title() == "default"


@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
def test_write_accepted(write, refusing_router):
    """Where the unit said beforehand that it writes, it writes."""
    with unit_of_work(role="leader"):
        pin("default")
        write()
        assert current_unit().sets["default"].written


def test_refusal_by_role(settings):
    """The refusal of ``LeaderFollowerRouter`` says what to do."""
    settings.DATABASE_ROUTERS = [BY_ROLE]
    with unit_of_work(role="follower"), pytest.raises(FollowerRoleWriteError) as caught:
        by_create()
    assert str(caught.value) == (
        "A write to 'default' was refused, because this unit of work has the role 'follower'. "
        "Give it the role 'leader' (an unsafe HTTP method, @use_leader), write inside "
        "`with leader('default')`, or set CHECK_ROLE_ON_WRITE to False."
    )


def test_refusal_by_pin(settings):
    """The refusal of ``StrictPinRouter`` says what to do."""
    settings.DATABASE_ROUTERS = [STRICT]
    with unit_of_work(), pytest.raises(UnpinnedWriteError) as caught:
        by_create()
    assert str(caught.value) == (
        "A write to 'default' was refused, because the set was not pinned before. "
        "Call `pin('default')` before the unit of work reads, or write inside "
        "`with leader('default')` where nothing will read it back."
    )


def test_role_not_checked_on_write(settings, configure):
    """With ``CHECK_ROLE_ON_WRITE: False`` a write in role ``follower`` passes, and pins."""
    settings.DATABASE_ROUTERS = [BY_ROLE]
    configure(CHECK_ROLE_ON_WRITE=False)
    with unit_of_work(role="follower"):
        by_create()
        assert (title(), last_reason()) == ("default", Reason.WRITTEN)


def test_role_checked_where_it_is_routed(settings, configure):
    """With "routing", what names its leader by ``using()`` passes and pins; the rest is refused."""
    settings.DATABASE_ROUTERS = [BY_ROLE]
    configure(CHECK_ROLE_ON_WRITE="routing")
    with unit_of_work(role="follower"):
        with pytest.raises(FollowerRoleWriteError):
            Book.objects.create(title="new")
        assert title() in FOLLOWERS
        with leader("default"):
            Book.objects.create(title="in a block")
        Session.objects.create(session_key="of a leader's model", expire_date=timezone.now())
        assert title() in FOLLOWERS
        Book.objects.using("default").create(title="new")
        assert (title(), last_reason()) == ("default", Reason.WRITTEN)
    with unit_of_work(role="leader"):
        Book.objects.create(title="new")
    Book.objects.create(title="outside any unit")
    assert router.db_for_write(Book, instance=Book.objects.using("lonely").get(pk=1)) == "lonely"


@pytest.mark.parametrize("role", [None, "leader"])
def test_role_that_may_write(role, settings):
    """Only the role ``follower`` forbids writing; a write in another one counts."""
    settings.DATABASE_ROUTERS = [BY_ROLE]
    with unit_of_work(role=role):
        by_create()
        assert is_pinned("default")


def test_write_in_leader_block(any_router):
    """Inside ``with leader(...)`` nothing pins and nothing is refused."""
    with unit_of_work(role="follower"):
        with leader("default"):
            by_create()
        assert not is_pinned("default")
        assert title() in FOLLOWERS
    assert count() == 2


def test_write_in_another_leader_block(refusing_router):
    """A block of another set excuses nothing."""
    with unit_of_work(role="follower"), leader("other"), pytest.raises(WriteRefusedError):
        by_create()


def test_write_in_follower_block():
    """A write inside ``with follower(...)`` counts from the block's end."""
    with unit_of_work():
        with follower("default"):
            by_create()
            assert title() in FOLLOWERS
        assert (title(), last_reason()) == ("default", Reason.WRITTEN)


def test_get_or_create_hit(any_router):
    """Getting what is there already is no write; it is looked up on the leader."""
    with unit_of_work(role="follower"):
        book, created = Book.objects.get_or_create(pk=1)
        assert (book.title, created) == ("default", False)
        assert not is_pinned("default")


def test_rows_locked(any_router):
    """Locking rows is no write; it happens on the leader."""
    with unit_of_work(role="follower"):
        with transaction.atomic():
            assert Book.objects.select_for_update().get(pk=1).title == "default"
        assert title() in FOLLOWERS


def test_lock_statement(any_router):
    """Statements that lock, and transaction control, are no writes."""
    with unit_of_work(role="follower"), connections["default"].cursor() as cursor:
        for sql in [
            "BEGIN",
            "SAVEPOINT s",
            "RELEASE SAVEPOINT s",
            "ROLLBACK",
            "PRAGMA user_version",
        ]:
            cursor.execute(sql)
        assert not is_pinned("default")


def test_write_rolled_back():
    """A write that did not last still sends reads to the leader: doubt means the leader."""
    with unit_of_work():
        with transaction.atomic():
            by_create()
            transaction.set_rollback(True)
        assert count() == 1
        assert (title(), last_reason()) == ("default", Reason.WRITTEN)


def test_schema_changed(any_router):
    """Tables come and go in any unit; that pins nothing."""

    class Poster(models.Model):
        class Meta:
            app_label = "not_installed"

        def __str__(self):
            return "a poster"

    try:
        with unit_of_work(role="follower"):
            with connections["default"].schema_editor() as editor:
                editor.create_model(Poster)
            assert not Poster.objects.using("default").exists()
            with connections["default"].schema_editor() as editor:
                editor.delete_model(Poster)
            assert not is_pinned("default")
            assert title() in FOLLOWERS
    finally:
        forget_model(Poster)


def test_write_to_an_alias_in_no_set(any_router):
    """Writes to databases that no set has are nobody's business."""
    with unit_of_work(role="follower"):
        Book.objects.using("lonely").create(title="new")
        assert not get_pinned()
    assert count("lonely") == 2


def test_write_pins_its_own_set_only():
    """A write to one set sends only that set's reads to its leader."""
    with unit_of_work():
        Book.objects.using("other").create(title="new")
        assert get_pinned() == {"other"}
        assert title() in FOLLOWERS


def test_asked_for_a_write_is_no_write(any_router):
    """By default being asked where a write would go neither pins nor is refused."""
    with unit_of_work(role="follower"):
        assert router.db_for_write(Book) == "default"
        assert not is_pinned("default")


def test_writes_at_routing(configure):
    """With ``WRITES_AT: "routing"`` being asked is the write, and executing is none."""
    configure(WRITES_AT="routing")
    with unit_of_work():
        by_create_on_the_alias()
        by_cursor()
        assert title() in FOLLOWERS
        assert router.db_for_write(Book) == "default"
        assert (title(), last_reason()) == ("default", Reason.WRITTEN)


def test_writes_at_routing_refused(refusing_router, configure):
    """With ``WRITES_AT: "routing"`` the question is what is refused, ``.using()`` steps aside."""
    configure(WRITES_AT="routing")
    with unit_of_work(role="follower"), statements() as sent:
        with pytest.raises(WriteRefusedError):
            Book(title="new").save()
        assert sent == []
        by_create_on_the_alias()
    assert count() == 2


def test_writes_at_routing_exceptions(any_router, configure):
    """With ``WRITES_AT: "routing"`` leader blocks, leader models and other databases still pass."""
    configure(WRITES_AT="routing", DELEGATE_ROUTERS=[Delegate("lonely")])
    assert router.db_for_write(Shelf) == "default"
    with unit_of_work(role="follower"):
        with leader("default"):
            router.db_for_write(Shelf)
        router.db_for_write(Session)
        assert router.db_for_write(Book) == "lonely"
        assert not get_pinned()


# Switched off


def test_disabled(any_router, configure):
    """With ``ENABLED: False`` all goes to the leader, also in blocks; nothing is refused."""
    configure(ENABLED=False)
    with unit_of_work(role="follower"):
        by_create()
        assert title() == "default"
        with follower("default"):
            assert title() == "default"
        assert last_reason() is Reason.DISABLED
        assert not get_pinned()
    assert router.allow_migrate("replica1", "shop") is False


def test_disabled_leaves_objects_alone(any_router, configure):
    """With ``ENABLED: False`` an object from a follower stays one, wherever it is written."""
    configure(ENABLED=False)
    (book,) = books("replica1")
    assert router.db_for_write(Book, instance=book) == "default"
    assert book._state.db == "replica1"


# Relations


def books(*aliases):
    return [Book.objects.using(alias).get(pk=1) for alias in aliases]


@pytest.mark.parametrize(
    ("aliases", "allowed"),
    [
        (("default", "replica1"), True),
        (("replica2", "replica1"), True),
        (("other-0", "other"), True),
        (("default", "other"), False),
        (("replica1", "other-0"), False),
        (("lonely", "default"), False),
        (("default", "lonely"), False),
        (("lonely", "lonely"), True),
    ],
    ids=str,
)
def test_relation(aliases, allowed, any_router):
    """Objects of one set may be related, whichever alias they came from; others as Django says."""
    assert router.allow_relation(*books(*aliases)) is allowed


def test_relation_no_opinion(any_router):
    """About objects of different sets the router itself says nothing, so another may."""
    ours = router.routers[0]
    assert ours.allow_relation(*books("default", "other")) is None
    assert ours.allow_relation(Book(), Book()) is None
    assert ours.allow_relation(Book(), books("default")[0]) is None


@pytest.mark.parametrize("opinion", [True, False])
def test_relation_by_delegate(opinion, configure):
    """A delegate's opinion about a relation comes first."""
    configure(DELEGATE_ROUTERS=[Delegate("other"), Opinionated(None), Opinionated(opinion)])
    assert router.allow_relation(*books("default", "other")) is opinion
    assert router.allow_relation(*books("default", "replica1")) is opinion


# Migrations


def test_migrations(any_router):
    """Followers are not migrated; about other databases the router has nothing to say."""
    ours = router.routers[0]
    answers = {alias: ours.allow_migrate(alias, "shop", model_name="book") for alias in connections}
    assert answers == {
        "default": None,
        "replica1": False,
        "replica2": False,
        "other": None,
        "other-0": False,
        "lonely": None,
    }


@pytest.mark.parametrize("opinion", [True, False])
def test_migrations_by_delegate(opinion, configure):
    """A delegate may allow or forbid a migration anywhere but on a follower."""
    configure(DELEGATE_ROUTERS=[Delegate("other"), Opinionated(None), Opinionated(opinion)])
    ours = router.routers[0]
    assert ours.allow_migrate("default", "shop") is opinion
    assert ours.allow_migrate("lonely", "shop") is opinion
    assert ours.allow_migrate("replica1", "shop") is False


def test_migrations_with_a_wrong_setting(configure):
    """A wrong ``REPLICAS`` does not keep ``migrate`` from reporting it."""
    configure(TRACES=True)
    assert router.allow_migrate("replica1", "shop") is False
    assert router.allow_migrate("default", "shop") is True
    with pytest.raises(ReplicasConfigError, match="TRACES"):
        title()


# Settings that change, connections that were there before


def test_sets_changed_mid_process(settings):
    """Routers follow ``REPLICAS`` as it changes, for connections that are already open too."""
    with unit_of_work():
        by_create()
        assert title() == "default"
    settings.REPLICAS = {"SETS": {"lonely": ["other-0"]}, "DELEGATE_ROUTERS": [Delegate("lonely")]}
    with unit_of_work():
        assert title() == "other-0"
        by_create_on_the_alias()
        assert not get_pinned()


def test_router_changed_mid_process(settings):
    """Another router takes over connections that are already open."""
    with unit_of_work():
        by_create()
    settings.DATABASE_ROUTERS = [STRICT]
    with unit_of_work(), pytest.raises(UnpinnedWriteError):
        by_create()
    settings.DATABASE_ROUTERS = []
    with unit_of_work():
        by_create()
        assert not is_pinned("default")


def in_a_thread_of_its_own(work):
    """Run *work* where no connection was opened and no router asked, and close what it opened."""

    def run():
        try:
            return work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


@pytest.fixture
def no_router():
    """Be a process whose routers were never asked for."""
    receivers = connection_created.receivers
    connection_created.disconnect(dispatch_uid="django_replicas.leaders")
    yield
    watch_leaders()
    assert len(connection_created.receivers) == len(receivers)


@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
@pytest.mark.parametrize("read_first", [True, False], ids=["after_a_read", "at_once"])
def test_connection_opened_before_the_router(read_first, write, no_router, settings):
    """A connection that is older than the router is watched from the unit's first question on."""

    def work():
        connections["default"].ensure_connection()
        settings.DATABASE_ROUTERS = [GREEDY]
        with unit_of_work():
            if read_first:
                assert title() in FOLLOWERS
            write()
            assert is_pinned("default")
            assert Shelf.objects.get().name == "default"

    in_a_thread_of_its_own(work)


@pytest.mark.parametrize("router_path", [STRICT, BY_ROLE], ids=["strict", "by_role"])
def test_connection_opened_before_the_router_refused(router_path, no_router, settings):
    """On such a connection a write is refused, also when it is the unit's first statement."""

    def work():
        connections["default"].ensure_connection()
        settings.DATABASE_ROUTERS = [router_path]
        with unit_of_work(role="follower"), pytest.raises(WriteRefusedError):
            by_create()

    in_a_thread_of_its_own(work)
    assert count() == 1


@pytest.mark.parametrize("write", [by_create, by_save, by_update], ids=lambda w: w.__name__)
def test_connection_opened_before_its_alias_led(write, settings):
    """A unit's first statement counts, on a connection that led nothing when it was opened."""
    sets = settings.REPLICAS

    def work():
        settings.REPLICAS = {}
        connections["default"].ensure_connection()
        settings.REPLICAS = sets
        with unit_of_work():
            write()
            assert is_pinned("default")
            assert Shelf.objects.get().name == "default"

    in_a_thread_of_its_own(work)


def test_connection_replaced(any_router):
    """A new connection in the place of an old one is watched, and known in its transactions."""
    with unit_of_work(role="follower"):
        assert title() in FOLLOWERS
        connections["default"].close()
        del connections["default"]
        with transaction.atomic():
            assert (title(), last_reason()) == ("default", Reason.TRANSACTION)
        assert title() in FOLLOWERS
        with as_role(LEADER), pin("default"):
            by_create()
        assert (title(), last_reason()) == ("default", Reason.WRITTEN)


def test_connection_replaced_by_an_open_one(any_router):
    """A connection that was opened elsewhere and put in place of another is known as well."""
    with unit_of_work(role="follower"):
        assert title() in FOLLOWERS
        opened = connections["default"].copy()
        opened.ensure_connection()
        connections["default"].close()
        connections["default"] = opened
        try:
            with transaction.atomic():
                assert (title(), last_reason()) == ("default", Reason.TRANSACTION)
        finally:
            opened.close()
            del connections["default"]


def test_one_router_serves_all(any_router):
    """Routers hold nothing of their own but, for each thread, what it was answered last."""
    with unit_of_work(role="follower"):
        title()
    assert vars(router.routers[0]).keys() == {"_of_this_thread"}


def test_own_router():
    """A subclass may choose the set and judge writes by itself."""

    class Mine(GreedyPinRouter):
        def set_leader(self, method, model, hints):
            return "other" if model is Book else super().set_leader(method, model, hints)

    with override_settings(DATABASE_ROUTERS=[Mine()]), unit_of_work():
        assert Shelf.objects.get().name in FOLLOWERS
        assert title() == "other-0"
        Book.objects.create(title="new")
        assert title() == "other"
