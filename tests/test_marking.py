"""Marks taken from real leaders, and what real followers make of them."""

import asyncio
import logging
import os
import threading
import time
from contextlib import ExitStack, contextmanager

import pymysql
import pytest
from asgiref.sync import sync_to_async
from django.db import connections, router, transaction
from django.http import HttpResponse
from django.test import AsyncRequestFactory, RequestFactory

from django_replicas import bind, follower, get_follower, pin, unit_of_work, unpin_all
from django_replicas.jobs import Job, marks_to_send
from django_replicas.marking import marks_so_far, take_marks
from django_replicas.marks import Mark
from django_replicas.middleware import ReplicasMiddleware
from django_replicas.pinning import UnitOfWork
from django_replicas.positions import WalPosition
from django_replicas.reasons import Reason
from django_replicas.scopes import current_unit
from django_replicas.units import Unit
from servers.mariadb import MariaDBNotFound, Server
from servers.postgres import Cluster
from servers.postgres_bindir import PostgresNotFound
from servers.waiting import wait_until

from .shop.models import Book

pytestmark = pytest.mark.usefixtures("traced")

ALIASES = ["default", "replica1", "replica2"]


def skip(reason):
    if os.environ.get("CI") == "true":
        pytest.fail(str(reason))
    pytest.skip(str(reason))


@pytest.fixture(scope="module")
def cluster():
    try:
        with Cluster(standbys=2) as cluster:
            cluster.leader.execute("CREATE TABLE note (id int)")
            cluster.leader.execute("GRANT ALL ON note TO app")
            cluster.wait_for_replay()
            yield cluster
    except PostgresNotFound as reason:
        skip(reason)


@pytest.fixture
def site(cluster, databases_are):
    """Have the set of ``default`` be the cluster's servers, and all of them well at the end."""
    servers = [cluster.leader, *cluster.followers]
    databases_are(
        **{
            alias: {**server.django_database(), "CONN_MAX_AGE": None}
            for alias, server in zip(ALIASES, servers, strict=True)
        }
    )
    cluster.wait_for_replay()
    yield cluster
    for server in cluster.followers:
        server.thaw()
        wait_until(lambda: server.execute("SELECT 1") == [(1,)], f"{server} answers")  # noqa: B023
        server.resume_replay()


def write(alias="default"):
    with connections[alias].cursor() as cursor:
        cursor.execute("INSERT INTO note VALUES (1)")


def read():
    """Return where a read goes, and why."""
    alias = router.db_for_read(Book)
    return alias, current_unit().trace[-1].reason


@contextmanager
def asked(*aliases):
    """Keep what is executed on the aliases' connections of this thread, positions only."""
    kept = []

    def keep(execute, sql, params, many, context):
        if "lsn" in sql or "gtid" in sql:
            kept.append(context["connection"].alias)
        return execute(sql, params, many, context)

    with ExitStack() as stack:
        for alias in aliases or ALIASES:
            stack.enter_context(connections[alias].execute_wrapper(keep))
        yield kept


@pytest.fixture
def marks(site):
    """Return the marks of a unit that wrote while no follower replayed anything."""
    for server in site.followers:
        server.pause_replay()
    return written()


def written():
    with unit_of_work() as block:
        write()
        return take_marks(block.unit)


def unit_with(marks):
    return UnitOfWork(unit=Unit(lambda: marks))


# Taken from a leader


@pytest.mark.usefixtures("site")
def test_a_mark_is_taken_once_for_each_carrier():
    """One question to the leader, and another only if the unit wrote since."""
    with unit_of_work() as block, asked() as questions:
        assert take_marks(block.unit) == {}
        write()
        before = time.time()
        (mark,) = take_marks(block.unit).values()
        assert mark.position is not None
        assert mark.deadline == 0
        assert before + 15 <= mark.fallback <= time.time() + 15
        assert take_marks(block.unit) == {}
        assert marks_so_far(block.unit) == {"default": mark}
        assert questions == ["default"]
        write()
        (later,) = take_marks(block.unit).values()
        assert later.position.lsn > mark.position.lsn
        assert questions == ["default", "default"]


@pytest.mark.usefixtures("site")
def test_units_that_write_nothing_ask_nothing():
    """Neither for nothing, nor for a pin, which is a deadline as ever."""
    with asked() as questions, unit_of_work() as block:
        read()
        assert take_marks(block.unit) == marks_so_far(block.unit) == {}
        pin("default")
        (mark,) = take_marks(block.unit).values()
        assert mark.position is None
    assert questions == []


@pytest.mark.usefixtures("site")
def test_a_pin_beside_a_write_is_carried_as_well():
    """The user is kept on the leader for as long as the pin wants, and for the write after it."""
    with unit_of_work() as block:
        pin("default")
        write()
        (mark,) = take_marks(block.unit).values()
    assert mark.position is not None
    assert mark.is_before_deadline()


@pytest.mark.usefixtures("site")
def test_inside_a_transaction_a_mark_is_a_deadline():
    """No position has what is not committed; what is queued then waits for the clock."""
    with unit_of_work() as block, asked() as questions:
        with transaction.atomic():
            write()
            assert marks_so_far(block.unit)["default"].position is None
            assert questions == []
        assert marks_so_far(block.unit)["default"].position is not None


@pytest.mark.usefixtures("site")
def test_when_a_transaction_is_committed_there_is_a_position():
    """A job that is queued from ``on_commit`` has the exact mark."""
    sent = []
    with unit_of_work(), transaction.atomic():
        write()
        transaction.on_commit(lambda: sent.append(marks_to_send()))
    assert ":p1." in sent[0]


@pytest.mark.usefixtures("site")
def test_what_another_thread_has_not_committed_is_a_deadline_too():
    """The position has what is committed; the rest is behind every position of now."""
    begun, end = threading.Event(), threading.Event()

    def work():
        with transaction.atomic():
            write()
            begun.set()
            end.wait(60)
        connections.close_all()

    with unit_of_work() as block:
        write()
        thread = threading.Thread(target=bind(work))
        thread.start()
        begun.wait(60)
        early = marks_so_far(block.unit)["default"]
        end.set()
        thread.join()
        late = marks_so_far(block.unit)["default"]
    assert early.position is not None
    assert early.is_before_deadline()
    assert not late.is_before_deadline()
    assert late.position.lsn > early.position.lsn


@pytest.mark.usefixtures("site")
def test_what_another_thread_is_writing_is_owed_when_it_is_written():
    """A mark that is taken while the statement runs does not have it, so it is taken again."""
    begun, end = threading.Event(), threading.Event()

    def wait(execute, *statement):
        begun.set()
        end.wait(60)
        return execute(*statement)

    def work():
        with connections["default"].execute_wrapper(wait):
            write()
        connections.close_all()

    with unit_of_work() as block:
        thread = threading.Thread(target=bind(work))
        thread.start()
        begun.wait(60)
        early = take_marks(block.unit)["default"]
        assert take_marks(block.unit) == {}
        end.set()
        thread.join()
        late = take_marks(block.unit)["default"]
        assert marks_so_far(block.unit)["default"] == late
    assert late.position.lsn > early.position.lsn


@pytest.mark.usefixtures("site")
def test_a_write_while_the_leader_is_asked_is_asked_for_again():
    """What another thread noted meanwhile may be behind the answer."""

    def note(execute, *statement):
        block.unit.note_write("default")
        return execute(*statement)

    with unit_of_work() as block:
        write()
        with connections["default"].execute_wrapper(note):
            assert marks_so_far(block.unit)["default"].position is not None
        with asked() as questions:
            marks_so_far(block.unit)
        assert questions == ["default"]


@pytest.mark.usefixtures("site")
def test_what_unpin_all_forgets_is_marked_by_its_position():
    """The unit reads followers again; its user's next unit sees the write."""
    with unit_of_work() as block:
        write()
        unpin_all()
        (mark,) = take_marks(block.unit).values()
    assert mark.position is not None


def test_sqlite_marks_are_deadlines():
    """It has no positions, and is not asked for any."""
    with unit_of_work() as block:
        Book.objects.filter(pk=1).update(note="written")
        (mark,) = take_marks(block.unit).values()
    assert mark.position is None
    assert mark.is_before_deadline()


def test_a_leader_that_refuses_is_told_of_once(site, caplog):
    """An ordinary role may be forbidden to ask: marks are deadlines then."""
    site.leader.execute("REVOKE EXECUTE ON FUNCTION pg_walfile_name(pg_lsn) FROM PUBLIC")
    try:
        with caplog.at_level(logging.WARNING, "django_replicas"), asked() as questions:
            for _ in range(3):
                (mark,) = written().values()
                assert mark.position is None
                assert mark.is_before_deadline()
    finally:
        site.leader.execute("GRANT EXECUTE ON FUNCTION pg_walfile_name(pg_lsn) TO PUBLIC")
    assert questions == ["default"]
    (message,) = caplog.messages
    assert message.startswith("Leader 'default' does not tell its position")
    assert "permission denied" in message


def test_a_leader_that_refused_is_asked_again_after_a_while(site, settings):
    """Whoever gives the right need not restart anything."""
    settings.REPLICAS = {**settings.REPLICAS, "CHECK_INTERVAL": 0.05}
    site.leader.execute("REVOKE EXECUTE ON FUNCTION pg_walfile_name(pg_lsn) FROM PUBLIC")
    try:
        with asked() as questions:
            while len(questions) < 2:
                assert written()["default"].position is None
    finally:
        site.leader.execute("GRANT EXECUTE ON FUNCTION pg_walfile_name(pg_lsn) TO PUBLIC")
    wait_until(lambda: written()["default"].position is not None, "the leader is asked again")


def test_a_leader_that_is_lost_meanwhile_is_no_error(site):
    """The page was made; its mark is a deadline."""

    def view(request):
        write()
        site.leader.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'"
        )
        return HttpResponse("made")

    response = ReplicasMiddleware(view)(RequestFactory().post("/"))
    assert response.content == b"made"
    assert response.cookies["replicas_mark"].value.count(":") == 2


@pytest.mark.usefixtures("site")
async def test_on_an_event_loop_nothing_is_asked():
    """A thread's answer is waited for; the loop itself never waits for a server."""
    with unit_of_work() as block:
        await sync_to_async(write)()
        assert marks_so_far(block.unit)["default"].position is None
        marks = await sync_to_async(marks_so_far)(block.unit)
        assert marks["default"].position is not None
        await sync_to_async(connections.close_all)()


@pytest.mark.usefixtures("site")
def test_an_async_view_has_exact_marks_too():
    """They are taken in the thread that wrote."""

    async def view(request):
        await asyncio.gather(*(sync_to_async(write)() for _ in range(3)))
        return HttpResponse()

    async def main():
        try:
            return await ReplicasMiddleware(view)(AsyncRequestFactory().post("/"))
        finally:
            await sync_to_async(connections.close_all)()

    assert ":p1." in asyncio.run(main()).cookies["replicas_mark"].value


@pytest.mark.usefixtures("site")
def test_a_view_that_raises_after_a_commit_is_marked():
    """What is committed stays, whatever the page says."""

    def view(request):
        write()
        return HttpResponse(status=500)

    response = ReplicasMiddleware(view)(RequestFactory().post("/"))
    assert ":p1." in response.cookies["replicas_mark"].value


# Reached by a follower, or not


def test_reads_are_on_the_leader_until_a_follower_has_replayed(site, marks):
    """Not a moment longer, and however late that is."""
    with unit_with(marks):
        assert [read() for _ in range(2)] == [("default", Reason.MARKED)] * 2
    for server in site.followers:
        server.resume_replay()
    site.wait_for_replay()
    with unit_with(marks):
        alias, reason = read()
        assert (alias in ALIASES[1:], reason) == (True, Reason.FOLLOWER)
        assert read() == (alias, reason)


@pytest.mark.usefixtures("site")
def test_a_unit_asks_one_follower_once(marks):
    """However many followers there are, and however often it reads."""
    for _ in range(5):
        with unit_with(marks), asked() as questions:
            for _ in range(5):
                read()
        assert len(questions) == 1


def test_what_the_process_knows_costs_nothing(site, marks):
    """A follower that was past a mark is past it for every other unit."""
    for server in site.followers:
        server.resume_replay()
    site.wait_for_replay()

    def followers_of_unit():
        with unit_with(marks):
            return read()[0]

    wait_until(
        lambda: {followers_of_unit() for _ in range(9)} == set(ALIASES[1:]), "both are asked"
    )
    with asked() as questions:
        for _ in range(9):
            assert followers_of_unit() in ALIASES[1:]
    assert questions == []


def test_the_follower_that_has_caught_up_is_found(site, marks):
    """One that was behind is asked last, so the leader serves no more than a few units."""
    site.followers[1].resume_replay()
    wait_until(
        lambda: site.followers[1].has_replayed(site.position()), "one follower has caught up"
    )
    answers = []
    for _ in range(9):
        with unit_with(marks):
            answers.append(read())
    assert set(answers[2:]) == {("replica2", Reason.FOLLOWER)}


@pytest.mark.usefixtures("site")
def test_a_follower_in_a_transaction_is_not_believed(marks):
    """It may show only what there was when the transaction began."""
    with ExitStack() as stack:
        for alias in ALIASES[1:]:
            stack.enter_context(transaction.atomic(using=alias))
        stack.enter_context(unit_with({"default": Mark(0, None, 0)}))
        assert read()[1] is Reason.FOLLOWER
    with ExitStack() as stack:
        for alias in ALIASES[1:]:
            stack.enter_context(transaction.atomic(using=alias))
        stack.enter_context(unit_with(marks))
        questions = stack.enter_context(asked())
        assert read() == ("default", Reason.MARKED)
        assert questions == []


@pytest.mark.usefixtures("site")
def test_a_block_reads_a_follower_all_the_same(marks):
    """``follower()`` and ``get_follower()`` ask for one, and the rest of the unit is as it was."""
    with unit_with(marks), asked() as questions:
        with follower("default"):
            alias, reason = read()
            assert (alias in ALIASES[1:], reason) == (True, Reason.BLOCK)
            assert read()[0] == get_follower("default") == alias
        assert questions == []
        assert read() == ("default", Reason.MARKED)
        with follower("default"):
            assert read()[0] == alias


@pytest.mark.usefixtures("site")
def test_other_threads_of_the_unit_keep_to_its_follower(site):
    """The thread's own connection is to the same server, which is known to be past the mark."""
    marks = written()
    site.wait_for_replay()
    with unit_with(marks):
        mine = read()
        answers = []
        thread = threading.Thread(
            target=bind(lambda: (answers.append(read()), connections.close_all()))
        )
        thread.start()
        thread.join()
    assert mine[1] is Reason.FOLLOWER
    assert answers == [mine]


def test_a_frozen_follower_is_waited_for_only_so_long(site, marks, settings):
    """Then it counts as down, and the leader answers."""
    settings.REPLICAS = {"SETS": {"default": ["replica1"]}, "TRACE": True, "CHECK_TIMEOUT": 0.2}
    connections["replica1"].ensure_connection()
    site.followers[0].freeze()
    with unit_with(marks):
        assert read()[0] == "default"
    with unit_with({}):
        assert read() == ("default", Reason.NO_FOLLOWER)


def test_a_follower_that_refuses_is_told_of_once(site, caplog, settings):
    """Its other readers keep it; those who wrote read the leader."""
    settings.REPLICAS = {"SETS": {"default": ["replica1"]}, "TRACE": True}
    site.leader.execute("REVOKE EXECUTE ON FUNCTION pg_last_wal_replay_lsn() FROM PUBLIC")
    site.wait_for_replay()
    try:
        marks = written()
        with caplog.at_level(logging.WARNING, "django_replicas"):
            for _ in range(3):
                with unit_with(marks):
                    assert read() == ("default", Reason.MARKED)
            with unit_with({}):
                assert read() == ("replica1", Reason.FOLLOWER)
    finally:
        site.leader.execute("GRANT EXECUTE ON FUNCTION pg_last_wal_replay_lsn() TO PUBLIC")
        site.wait_for_replay()
    (message,) = caplog.messages
    assert message.startswith("Follower 'replica1' of 'default' does not tell its position")


def test_marks_travel_in_text(site, marks):
    """From a request's response to the next request, and with a job's message."""
    sent = []

    def view(request):
        if request.method == "POST":
            write()
            sent.append(marks_to_send())
        return HttpResponse(" ".join(read()))

    def visit(method, jar):
        request = RequestFactory().generic(method, "/")
        request.COOKIES = jar
        response = ReplicasMiddleware(view)(request)
        return response.content.decode(), {k: m.value for k, m in response.cookies.items()}

    _, jar = visit("POST", {})
    assert visit("GET", jar) == (f"default {Reason.MARKED}", {})
    with Job(sent[0]):
        assert read() == ("default", Reason.MARKED)
    for server in site.followers:
        server.resume_replay()
    site.wait_for_replay()
    with Job(sent[0]):
        assert read()[1] is Reason.FOLLOWER
    assert visit("GET", jar)[0].endswith(Reason.FOLLOWER)


@pytest.mark.usefixtures("site")
def test_another_thread_of_the_unit_asks_on_its_own_connection(site, databases_are, settings):
    """It may be open, and lead to another server: what this thread was told says nothing there."""
    settings.REPLICAS = {"SETS": {"default": ["replica1"]}, "TRACE": True}
    site.followers[1].pause_replay()
    marks = written()
    wait_until(lambda: site.followers[0].has_replayed(site.position()), "one has replayed")
    answers = []

    def work():
        connections["replica1"].ensure_connection()
        answers.append(read())
        connections.close_all()

    with unit_with(marks):
        assert read() == ("replica1", Reason.FOLLOWER)
        connections.settings["replica1"]["PORT"] = str(site.followers[1].port)
        thread = threading.Thread(target=bind(work))
        thread.start()
        thread.join()
    assert answers[0][0] == "default"


@pytest.mark.usefixtures("site")
def test_a_connection_that_was_idle_for_long_is_opened_again(site, marks, settings):
    """Its server closed it, and is well: nobody leaves it alone for that."""
    settings.REPLICAS = {"SETS": {"default": ["replica1"]}, "TRACE": True}
    site.followers[0].resume_replay()
    wait_until(lambda: site.followers[0].has_replayed(site.position()), "it has replayed")
    with unit_with(marks):
        assert read() == ("replica1", Reason.FOLLOWER)
    site.followers[0].execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'"
    )
    with unit_with(written()):
        wait_until(lambda: site.followers[0].has_replayed(site.position()), "it has replayed")
        assert read() == ("replica1", Reason.FOLLOWER)


def test_a_frozen_follower_is_found_by_the_health_check(site, settings):
    """Units without marks wait for it no longer than others."""
    settings.REPLICAS = {"SETS": {"default": ["replica1"]}, "TRACE": True, "CHECK_TIMEOUT": 0.2}
    connection = connections["replica1"]
    connection.ensure_connection()
    connection.health_check_enabled, connection.health_check_done = True, False
    connection.settings_dict["OPTIONS"]["connect_timeout"] = 2
    site.followers[0].freeze()
    with unit_with({}):
        assert read() == ("default", Reason.NO_FOLLOWER)


def test_a_follower_that_refuses_serves_when_the_fallback_is_past(site, settings):
    """As it would if there were no positions."""
    settings.REPLICAS = {"SETS": {"default": ["replica1"]}, "TRACE": True}
    marks = written()
    site.leader.execute("REVOKE EXECUTE ON FUNCTION pg_last_wal_replay_lsn() FROM PUBLIC")
    site.wait_for_replay()
    try:
        with unit_with(marks):
            assert read() == ("default", Reason.MARKED)
        past = {"default": marks["default"]._replace(fallback=time.time() - 1)}
        with unit_with(past):
            assert read() == ("replica1", Reason.FOLLOWER)
    finally:
        site.leader.execute("GRANT EXECUTE ON FUNCTION pg_last_wal_replay_lsn() TO PUBLIC")
        site.wait_for_replay()
    with unit_with(past):
        assert read() == ("replica1", Reason.FOLLOWER)


async def test_a_block_on_an_event_loop_asks_nobody():
    """Marked or not, what would have to wait goes to the leader."""
    marked = unit_with({"default": Mark(0, WalPosition(1, 5), time.time() + 9)})
    with marked, follower("default"):
        assert read() == ("default", Reason.EVENT_LOOP)


@pytest.mark.usefixtures("site")
def test_what_is_routed_first_and_written_later_is_in_the_mark(settings):
    """With ``WRITES_AT: "routing"`` a job may be queued between the two."""
    settings.REPLICAS = {**settings.REPLICAS, "WRITES_AT": "routing"}
    with unit_of_work() as block:
        router.db_for_write(Book)
        early = marks_so_far(block.unit)["default"]
        write()
        late = take_marks(block.unit)["default"]
    assert late.position.lsn > early.position.lsn


# MariaDB


@pytest.fixture
def mariadb(databases_are, settings):
    pymysql.install_as_MySQLdb()
    try:
        leader, replica = Server(), Server(number=2)
    except MariaDBNotFound as reason:
        skip(reason)
    settings.REPLICAS = {"SETS": {"default": ["replica1"]}, "TRACE": True, "CHECK_INTERVAL": 0.05}
    with leader, replica:
        replica.follow(leader)
        leader.execute("CREATE TABLE app.note (id INT)")
        replica.wait_for(leader)
        databases_are(default=leader.django_database(), replica1=replica.django_database())
        yield leader, replica
        connections.close_all()


def test_mariadb_from_the_write_to_the_follower(mariadb):
    """The same as above, by GTID; a leader without a binary log is one with deadlines."""
    leader, replica = mariadb
    replica.pause_replay()
    marks = written()
    assert marks["default"].position is not None
    with unit_with(marks):
        assert read() == ("default", Reason.MARKED)
    replica.resume_replay()
    replica.wait_for(leader)
    with unit_with(marks):
        assert read() == ("replica1", Reason.FOLLOWER)

    replica.pause_replay()
    leader.execute("RESET MASTER")
    with unit_of_work() as block:
        current_unit().note_write("default")
        assert take_marks(block.unit)["default"].position is None
