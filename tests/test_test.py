"""What projects test their routing with: shared followers, asserted reads, frozen followers.

Without sharing, each alias has a file of its own here, whose book is named after the alias.
"""

import asyncio
import sqlite3
import unittest
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import sync_to_async
from django.db import (
    InternalError,
    NotSupportedError,
    connections,
    router,
    transaction,
)
from django.db.utils import ConnectionHandler
from django.test import Client, TestCase, override_settings
from django.test.utils import CaptureQueriesContext

from django_replicas import follower, leaders, pin, pytest_plugin, unit_of_work
from django_replicas.reasons import Reason
from django_replicas.test import (
    SharedFollowersMixin,
    assert_reads_from,
    frozen_follower,
    recorded_reads,
    shared_followers,
)
from servers.postgres import Cluster

from .shop.models import Book, Label, Shelf

FOLLOWERS = {"replica1", "replica2"}


def title():
    return Book.objects.get(pk=1).title


def run(case):
    """Run a ``TestCase`` as a runner does, and tell how it went."""
    result = unittest.TestResult()
    unittest.TestSuite([unittest.defaultTestLoader.loadTestsFromTestCase(case)]).run(result)
    assert result.testsRun == 1
    return [text for _, text in result.failures + result.errors]


@pytest.fixture(autouse=True)
def nothing_is_left():
    """Whatever a test does, the parts of Django and ours that blocks exchange are back."""
    before = ConnectionHandler.__getitem__, leaders.has_open_transaction
    yield
    assert before == (ConnectionHandler.__getitem__, leaders.has_open_transaction)
    assert "__getitem__" not in vars(ConnectionHandler)
    assert not any("db_for_read" in vars(each) for each in router.routers)
    assert not any(connections[alias].execute_wrappers for alias in FOLLOWERS)


# Shared followers


def test_shared_followers_show_what_is_not_committed():
    """Inside the block each follower shows the leader's rows, afterwards its own."""
    with transaction.atomic(), shared_followers():
        Book.objects.create(pk=2, title="new")
        assert {Book.objects.using(alias).get(pk=2).title for alias in FOLLOWERS} == {"new"}
        transaction.set_rollback(True)
    assert Book.objects.using("replica1").get(pk=1).title == "replica1"
    assert not Book.objects.using("replica1").filter(pk=2).exists()


def test_only_followers_are_shared():
    """Another set's leader and a database without a set stay what they are."""
    with shared_followers():
        titles = {alias: Book.objects.using(alias).get(pk=1).title for alias in connections}
    assert titles == {
        **{"default": "default", "replica1": "default", "replica2": "default"},
        **{"other": "other", "other-0": "other", "lonely": "lonely"},
    }


def test_restored_after_an_exception():
    """A test that fails inside the block does not share followers with the next."""
    with pytest.raises(Book.DoesNotExist), shared_followers():
        Book.objects.using("replica1").get(pk=2)
    with unit_of_work():
        assert title() in FOLLOWERS


def test_a_unit_across_the_edges_believes_nothing_of_the_other_side():
    """The shortcut of a thread and what is known of followers end with the block."""
    with unit_of_work():
        assert title() in FOLLOWERS
        with shared_followers():
            assert title() == "default"
        assert title() in FOLLOWERS


def test_shared_in_other_threads():
    """Every thread's followers share that thread's own connection to the leader."""

    def read():
        try:
            with unit_of_work():
                return title()
        finally:
            connections.close_all()

    with shared_followers(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(read).result() == "default"


def test_blocks_nest():
    """A fixture and a mixin may both share; the inner end leaves the outer block whole."""
    with shared_followers():
        with shared_followers():
            assert Book.objects.using("replica1").get(pk=1).title == "default"
        assert Book.objects.using("replica1").get(pk=1).title == "default"


@pytest.mark.parametrize("alias", sorted(FOLLOWERS))
def test_a_shared_follower_refuses_writes(alias):
    """What a real follower would refuse fails in tests too, raw SQL as well."""
    with shared_followers():
        with pytest.raises(InternalError, match=f"{alias!r} is a follower"):
            Book.objects.using(alias).create(title="no")
        with connections[alias].cursor() as cursor, pytest.raises(InternalError):
            cursor.execute("DELETE FROM shop_book")
    assert Book.objects.count() == 1


def test_closing_a_shared_follower_leaves_the_leader_open():
    """The end of a request, which closes connections, does not lose the test's rows."""
    with transaction.atomic(), shared_followers():
        Book.objects.create(pk=2, title="new")
        connections["replica1"].close()
        connections["replica1"].close_if_unusable_or_obsolete()
        assert Book.objects.using("replica1").get(pk=2).title == "new"
        transaction.set_rollback(True)


def test_a_transaction_on_a_shared_follower_is_not_the_leaders():
    """Code that opens a transaction on the follower it reads from goes on reading there."""
    with shared_followers(), unit_of_work():
        with transaction.atomic(using="replica1"), assert_reads_from("follower"):
            title()
        with transaction.atomic(), assert_reads_from("leader"):
            title()


def test_leaders_queries_count_those_of_shared_followers():
    """The suites' ``assertNumQueries`` hold with followers as without."""
    with shared_followers(), unit_of_work():
        with CaptureQueriesContext(connections["default"]) as queries:
            title()
            list(Book.objects.using("replica1").iterator())
        assert len(queries) == 2


def test_execute_wrappers_of_a_shared_follower_are_its_own():
    """Who listens to one follower does not hear the leader."""
    heard = []

    def hear(execute, sql, params, many, context):
        heard.append(context["connection"].alias)
        return execute(sql, params, many, context)

    with shared_followers(), connections["replica1"].execute_wrapper(hear):
        for alias in ("default", "replica1", "replica2"):
            list(Book.objects.using(alias).iterator())
    assert heard == ["replica1"]


def test_state_set_on_a_shared_follower_is_the_leaders():
    """There is one transaction, so its state is one."""
    with transaction.atomic(), shared_followers():
        connections["replica1"].set_rollback(True)
        assert connections["default"].needs_rollback
        connections["replica1"].needs_rollback = False
        assert not connections["default"].needs_rollback


class Ordinary(TestCase):
    __test__ = False  # run by the tests below, on the files of this suite

    def test_reads(self):
        with unit_of_work(), assert_reads_from("leader") as reads:
            title()
        assert {read.reason for read in reads} == {Reason.TRANSACTION}


class Routed(SharedFollowersMixin, TestCase):
    __test__ = False

    @classmethod
    def setUpTestData(cls):
        Book.objects.create(pk=2, title="set up")

    def setUp(self):
        assert Book.objects.using("replica1").get(pk=2).title == "set up"

    def test_reads(self):
        with unit_of_work():
            with assert_reads_from("follower") as reads:
                assert Book.objects.get(pk=2).title == "set up"
            assert [read.reason for read in reads] == [Reason.FOLLOWER]
            with transaction.atomic(), assert_reads_from("leader") as reads:
                title()
            assert [read.reason for read in reads] == [Reason.TRANSACTION]
            Book.objects.create(pk=3, title="written")
            with assert_reads_from("leader") as reads:
                title()
            assert [read.reason for read in reads] == [Reason.WRITTEN]


class RoutedOnAll(Routed):
    databases = frozenset({"default", "replica1", "replica2"})


def test_an_ordinary_test_case_reads_the_leader():
    """Django's own block around each test is a transaction like any other."""
    assert run(Ordinary) == []


@pytest.mark.parametrize("case", [Routed, RoutedOnAll])
def test_a_routed_test_case_reads_followers(case):
    """With the mixin the test's own blocks do not count, those of the code under test do.

    The class may name its followers among its databases, or not.
    """
    assert run(case) == []
    assert Book.objects.count() == 1


def test_djangos_mark_on_test_blocks():
    """Django still marks the blocks that it opens around tests, which is its private matter."""
    atomics = TestCase.__dict__["_enter_atomics"].__func__(Ordinary)
    try:
        assert [block._from_testcase for block in connections["default"].atomic_blocks] == [True]
        with transaction.atomic():
            assert not connections["default"].atomic_blocks[-1]._from_testcase
    finally:
        Ordinary._rollback_atomics(atomics)


# Asserted reads


def test_reads_say_who_answered_and_why():
    """Each executed read is listed with alias, reason and model, in order."""
    with unit_of_work(), recorded_reads() as reads:
        title()
        Shelf.objects.using("lonely").first()
        Shelf.objects.using("replica2").first()
        Book.objects.create(title="new")
        title()
    first, by_name, last = reads
    assert (first.alias in FOLLOWERS, first.reason, first.model) == (
        True,
        Reason.FOLLOWER,
        "shop.book",
    )
    assert (by_name.alias, by_name.reason, by_name.model) == ("replica2", None, "")
    assert (last.alias, last.reason) == ("default", Reason.WRITTEN)
    assert "SELECT" in last.sql


def test_reads_of_a_shortcut_and_of_a_block_have_their_reasons():
    """The second read of a unit, which is answered faster, and those outside units count too."""
    with unit_of_work():
        title()
        with recorded_reads() as reads:
            title()
            with pin("default"):
                title()
    with recorded_reads() as outside, follower("default"):
        title()
    with recorded_reads() as without_unit:
        title()
    assert [read.reason for read in reads] == [Reason.FOLLOWER, Reason.PINNED]
    assert [read.reason for read in outside] == [Reason.BLOCK]
    assert [(read.alias, read.reason) for read in without_unit] == [("default", Reason.OUTSIDE)]


def test_an_answer_that_was_not_used_explains_nothing():
    """A read on another alias than the one that the router named last was not routed."""
    with unit_of_work(), recorded_reads() as reads:
        router.db_for_read(Book)
        Book.objects.using("default").get(pk=1)
    assert [(read.alias, read.reason) for read in reads] == [("default", None)]


def test_other_routers_are_left_alone(settings):
    """With a router of the project's own there are reads, but no reasons."""
    settings.DATABASE_ROUTERS = ["tests.naive.FirstFollower"]
    with unit_of_work(), recorded_reads() as reads:
        title()
    assert [(read.alias, read.reason) for read in reads] == [("replica1", None)]


@pytest.mark.parametrize("place", ["follower", "replica1"])
def test_assertion_holds(settings, place):
    """One follower is named by its alias, any of them by the word."""
    settings.REPLICAS = {"SETS": {"default": ["replica1"]}}
    with unit_of_work(), assert_reads_from(place):
        title()
    with unit_of_work(), assert_reads_from("leader", "follower"):
        title()
        Book.objects.create(title="new")
        title()


def read_twice_as_if_both_were_from_followers():
    with assert_reads_from("replica1", "replica2"):
        title()
        with pin("default"):
            title()


def test_assertion_fails_with_every_read():
    """The message shows all reads, marks the wrong ones and gives their reasons."""
    with unit_of_work(), pytest.raises(AssertionError) as caught:
        read_twice_as_if_both_were_from_followers()
    message, first, second = str(caught.value).splitlines()
    assert message == "Expected all reads from replica1 or replica2; the marked ones are not:"
    assert first.startswith(("  replica1: the unit's follower: shop.book SELECT", "  replica2: "))
    assert second.startswith("> default: pinned: shop.book SELECT")


def test_assertion_fails_where_nothing_was_read():
    """A block that reads nothing proves nothing."""
    with (
        pytest.raises(AssertionError, match=r"^Expected reads from leader, but nothing was read"),
        assert_reads_from("leader"),
    ):
        Book.objects.update(title="no read")


def test_assertion_can_be_about_some_models():
    """Reads of other models may go anywhere."""
    with unit_of_work(), assert_reads_from("follower", models=[Book]):
        title()
        with pin("default"):
            Label.objects.first()
    with (
        pytest.raises(AssertionError, match="nothing was read"),
        assert_reads_from("leader", models=[Shelf]),
    ):
        title()


def test_sessions_are_left_out(settings):
    """What always reads its leader says nothing about routing."""
    settings.REPLICAS = {**settings.REPLICAS, "LEADER_MODELS": ["shop.Shelf"]}
    with unit_of_work(), assert_reads_from("follower") as reads:
        Shelf.objects.first()
        title()
    assert [read.alias == "default" for read in reads] == [True, False]


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (["replica3"], "not 'replica3'"),
        (["lonely", "leader"], "not 'lonely'"),
        ([], "not nowhere"),
    ],
)
def test_unknown_places_are_refused(places, message):
    """A misspelt alias is no assertion that fails for another reason."""
    with pytest.raises(ValueError, match=message), assert_reads_from(*places):
        pass


def test_an_exception_inside_is_the_tests_own():
    """What goes wrong in the block is not hidden behind an assertion."""
    with pytest.raises(ZeroDivisionError), assert_reads_from("leader"):
        1 / 0  # noqa: B018


def test_pages_are_asserted_as_the_client_gets_them():
    """The test client's requests are units of their own."""
    with assert_reads_from("follower"):
        Client().get("/sync/title")


# Frozen followers


def test_a_frozen_follower_shows_what_it_showed():
    """The follower stays as it is while its database goes on."""
    with frozen_follower("replica1"):
        raw("replica1", "UPDATE shop_book SET title = 'later'")
        assert Book.objects.using("replica1").get(pk=1).title == "replica1"
    assert Book.objects.using("replica1").get(pk=1).title == "later"


def raw(alias, sql):
    """Execute SQL on a connection of its own, as replication would."""
    database = sqlite3.connect(connections.settings[alias]["NAME"])
    with database:
        database.execute(sql)
    database.close()


def test_a_frozen_shared_follower_lags_behind_the_test():
    """In a test that commits nothing the follower keeps what the test had written until then."""
    with transaction.atomic(), shared_followers():
        Book.objects.update(title="before")
        with frozen_follower("default"):
            Book.objects.update(title="after")
            titles = {alias: Book.objects.using(alias).get(pk=1).title for alias in FOLLOWERS}
            assert titles == dict.fromkeys(FOLLOWERS, "before")
            assert title() == "after"
        assert Book.objects.using("replica1").get(pk=1).title == "after"
        transaction.set_rollback(True)


def test_read_your_writes_over_a_frozen_follower():
    """What this is for: a user sees the write that no follower has."""
    client = Client()
    with frozen_follower("default"):
        Book.objects.filter(pk=1).update(title="after")
        with assert_reads_from("follower"):
            assert client.get("/sync/title").json()[0] in FOLLOWERS
        client.post("/sync/books/new")
        with assert_reads_from("leader"):
            client.get("/sync/title")


async def test_awaited_reads_are_recorded():
    """They are executed in another thread, which works for this task."""
    with unit_of_work(role="follower"):
        with assert_reads_from("follower") as reads:
            await Book.objects.aget(pk=1)
            await asyncio.gather(*(Shelf.objects.aget(pk=1) for _ in range(2)))
        assert [read.model for read in reads] == ["shop.book", "shop.shelf", "shop.shelf"]
        wrong = pytest.raises(AssertionError, match="Expected all reads from leader")
        with wrong, assert_reads_from("leader"):
            await Book.objects.aget(pk=1)
        await Book.objects.aget(pk=1)
    assert len(reads) == 3
    await sync_to_async(connections.close_all)()


def test_reads_of_other_threads_are_not_recorded():
    """A thread that does not work for this one reads what it likes."""

    def work():
        Book.objects.get(pk=1)
        connections.close_all()

    with recorded_reads() as reads, ThreadPoolExecutor(1, initializer=work) as pool:
        pool.submit(work).result()
    assert reads == []


def test_recordings_inside_one_another():
    """Each has what was read inside of it."""
    with recorded_reads() as outer:
        Book.objects.get(pk=1)
        with recorded_reads() as inner:
            Shelf.objects.get(pk=1)
    assert [read.model for read in outer] == ["shop.book", "shop.shelf"]
    assert [read.model for read in inner] == ["shop.shelf"]


def test_the_mixin_comes_first():
    """Behind the test case it would be of no effect, and tests would prove nothing."""
    with pytest.raises(TypeError, match="Late would share nothing: name SharedFollowersMixin bef"):
        type("Late", (TestCase, SharedFollowersMixin), {})
    type("InTime", (SharedFollowersMixin, TestCase), {})


def test_reads_of_a_frozen_follower_are_recorded():
    """Blocks may be opened in any order."""
    with recorded_reads() as reads, frozen_follower("replica1"):
        Book.objects.using("replica1").get(pk=1)
    assert [read.alias for read in reads] == ["replica1"]


def test_a_frozen_follower_cannot_be_written_to():
    """It is a follower still."""
    with frozen_follower("replica1"), pytest.raises(Exception, match="readonly"):
        Book.objects.using("replica1").create(title="no")


def test_a_frozen_follower_survives_close_all():
    """The end of a request does not lose the frozen rows."""
    with frozen_follower("replica1"):
        raw("replica1", "UPDATE shop_book SET title = 'later'")
        connections.close_all()
        assert Book.objects.using("replica1").get(pk=1).title == "replica1"


def test_frozen_in_other_threads():
    """One frozen follower serves every thread."""

    def read():
        try:
            return Book.objects.using("replica1").get(pk=1).title
        finally:
            connections["default"].close()

    with frozen_follower("replica1"), ThreadPoolExecutor(1) as pool:
        raw("replica1", "UPDATE shop_book SET title = 'later'")
        assert pool.submit(read).result() == "replica1"


def test_a_database_with_a_write_ahead_log_can_be_frozen():
    """SQLite's favourite journal is no obstacle."""
    raw("replica1", "PRAGMA journal_mode = wal")
    with frozen_follower("replica1"):
        assert Book.objects.using("replica1").get(pk=1).title == "replica1"
    connections["replica1"].close()
    raw("replica1", "PRAGMA journal_mode = delete")


def test_thawed_after_an_exception():
    """A failing test leaves no frozen follower behind."""
    with pytest.raises(ZeroDivisionError), frozen_follower("default"):
        1 / 0  # noqa: B018
    raw("replica1", "UPDATE shop_book SET title = 'later'")
    assert Book.objects.using("replica1").get(pk=1).title == "later"


@pytest.mark.parametrize("alias", ["lonely", "nowhere"])
def test_only_followers_freeze(alias):
    """Any other alias is a mistake."""
    with pytest.raises(ValueError, match="is no follower"), frozen_follower(alias):
        pass


@pytest.fixture(scope="module")
def postgres():
    with Cluster(standbys=1) as cluster:
        cluster.leader.execute("CREATE TABLE word (text text); GRANT ALL ON word TO app")
        cluster.leader.execute("INSERT INTO word VALUES ('before')")
        cluster.wait_for_replay()
        yield cluster


@pytest.fixture
def standby(postgres, databases_are):
    """Put a real follower in the place of ``replica1``."""
    databases_are(replica1=postgres.followers[0].django_database())


def words():
    with connections["replica1"].cursor() as cursor:
        cursor.execute("SELECT text FROM word ORDER BY text")
        return [text for (text,) in cursor.fetchall()]


@pytest.mark.usefixtures("standby")
def test_a_postgresql_follower_is_held_at_a_snapshot(postgres):
    """Replication goes on behind it, and is seen when the block ends."""
    assert words() == ["before"]
    with frozen_follower("replica1"):
        postgres.leader.execute("INSERT INTO word VALUES ('later')")
        postgres.wait_for_replay()
        assert words() == ["before"]
    assert words() == ["before", "later"]


@pytest.mark.usefixtures("standby")
def test_what_cannot_be_frozen_is_said():
    """Inside a transaction, as in a TestCase, PostgreSQL has no snapshot to give."""
    with (
        transaction.atomic(using="replica1"),
        pytest.raises(NotSupportedError, match=r"'replica1' cannot be frozen: .* commits"),
        frozen_follower("replica1"),
    ):
        pass


# Settings


def test_enabled_is_overridden_like_any_setting(settings):
    """A test may switch routing off, and it is on again afterwards."""
    with override_settings(REPLICAS={**settings.REPLICAS, "ENABLED": False}):
        with unit_of_work(), assert_reads_from("leader") as reads:
            title()
        assert [read.reason for read in reads] == [Reason.DISABLED]
    with unit_of_work(), assert_reads_from("follower"):
        title()


# Fixtures


plugin_shared_followers = pytest_plugin.shared_followers
plugin_assert_reads_from = pytest_plugin.assert_reads_from
plugin_frozen_follower = pytest_plugin.frozen_follower


@pytest.fixture
def db(databases):
    """Stand in for pytest-django's, which would make databases of its own."""


def test_fixtures(plugin_shared_followers, plugin_assert_reads_from, plugin_frozen_follower):
    """The fixtures are the blocks of ``django_replicas.test``."""
    with unit_of_work(), plugin_assert_reads_from("follower"):
        assert title() == "default"
    with plugin_frozen_follower("replica1"):
        Book.objects.update(title="after")
        assert Book.objects.using("replica1").get(pk=1).title == "default"
