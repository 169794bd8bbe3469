"""What Django does that breaks naive routers: each trap shown on one, and stepped over by ours.

Each is explained by the comment above its tests; the numbers only name them.
"""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.checks import run_checks
from django.core.exceptions import ValidationError
from django.core.handlers.base import BaseHandler
from django.core.management import call_command
from django.db import OperationalError, connections, router, transaction
from django.db.backends.signals import connection_created
from django.http import HttpResponse
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from django_replicas import bind, get_follower, is_pinned, pin, unit_of_work, unpin_all
from django_replicas.middleware import ReplicasMiddleware
from django_replicas.reasons import Reason
from django_replicas.scopes import current_unit

from .naive import PinsInLocal, PinsWhenAsked
from .shop.models import Book, Label, Shelf

pytestmark = pytest.mark.usefixtures("traced")

FOLLOWERS = {"replica1", "replica2"}


@pytest.fixture
def naive(settings):
    """Put a naive router, by its name, in the place of ours."""

    def use(name):
        settings.DATABASE_ROUTERS = [f"tests.naive.{name}"]

    yield use
    PinsWhenAsked.pinned.set(False)
    PinsInLocal.state.pinned = False


@pytest.fixture
async def loop_connections():
    """Close what the thread behind the event loop opened."""
    yield
    await sync_to_async(connections.close_all)()


def title():
    return Book.objects.get(pk=1).title


def on(alias, sql):
    """Execute SQL behind every router's back, as replication does."""
    connection = connections[alias]
    wrappers, connection.execute_wrappers = connection.execute_wrappers, []
    try:
        with connection.cursor() as cursor:
            return cursor.execute(sql).fetchall()
    finally:
        connection.execute_wrappers = wrappers


def titles_on(alias):
    return [title for (title,) in on(alias, "SELECT title FROM shop_book ORDER BY id")]


def in_thread(work):
    """Run *work* in a new thread, which closes its connections."""

    def run():
        try:
            return work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


# 1: db_for_write runs for construction, validation, hits and locks


def construct_with_a_related_object():
    Book(shelf=Shelf.objects.using("default").get())


def validate():
    book = Book(title="new", note="new", code="new", shelf=Shelf.objects.get())
    book.clean_fields(exclude=["sequel"])


def validate_uniqueness():
    Book(title="new", code="a").validate_unique()


def get_or_create_hit():
    Book.objects.get_or_create(pk=1)


def lock():
    with transaction.atomic():
        list(Book.objects.select_for_update())


@pytest.mark.parametrize(
    "harmless",
    [construct_with_a_related_object, get_or_create_hit, lock],
    ids=lambda function: function.__name__,
)
def test_gotcha_1_naive(harmless, naive):
    """A router that takes the question for the write pins without one."""
    naive("PinsWhenAsked")
    assert title() == "replica1"
    harmless()
    assert title() == "default"


@pytest.mark.parametrize(
    "harmless",
    [construct_with_a_related_object, validate, validate_uniqueness, get_or_create_hit, lock],
    ids=lambda function: function.__name__,
)
@pytest.mark.parametrize("name", ["GreedyPinRouter", "StrictPinRouter", "LeaderFollowerRouter"])
def test_gotcha_1(name, harmless, settings):
    """Construction, validation, hits and locks neither pin nor are refused."""
    settings.DATABASE_ROUTERS = [f"django_replicas.routers.{name}"]
    with unit_of_work(role="follower"):
        harmless()
        assert not is_pinned("default")
        assert title() in FOLLOWERS


# 2: raw() and raw cursors pass by db_for_write


def write_with_a_cursor():
    with connections["default"].cursor() as cursor:
        cursor.execute("UPDATE shop_book SET title = 'new'")


def write_with_raw():
    list(Book.objects.using("default").raw("UPDATE shop_book SET title = 'new' RETURNING *"))


RAW_WRITES = pytest.mark.parametrize(
    "write", [write_with_a_cursor, write_with_raw], ids=lambda function: function.__name__
)


@RAW_WRITES
def test_gotcha_2_naive(write, naive):
    """A router that waits to be asked does not see raw SQL write."""
    naive("PinsWhenAsked")
    write()
    assert title() == "replica1"


@RAW_WRITES
def test_gotcha_2(write):
    """Raw SQL that writes is seen where it is executed."""
    with unit_of_work():
        write()
        assert title() == "new"


def test_gotcha_2_raw_on_the_follower(naive):
    """``raw()`` asks where to read, also for SQL that writes: on a pinned unit that is the leader.

    A naive router has it write to the follower.
    """
    sql = "UPDATE shop_book SET title = 'new' RETURNING *"
    with unit_of_work(), pin("default"):
        list(Book.objects.raw(sql))
    assert (titles_on("default"), titles_on("replica1")) == (["new"], ["replica1"])
    naive("FirstFollower")
    list(Book.objects.raw(sql))
    assert titles_on("replica1") == ["new"]


# 3: sessions saved with each request and last_login pin everybody for ever


def visit(request):
    """Answer as a project does that saves the session with each request."""
    request.session.setdefault("seen", True)
    return HttpResponse(title())


@pytest.fixture
def respond(settings):
    settings.SESSION_SAVE_EVERY_REQUEST = True
    return ReplicasMiddleware(SessionMiddleware(visit))


def test_gotcha_3_naive(naive, respond):
    """A router that counts every write sends a user to the leader who only reads."""
    naive("PinsWhenAsked")
    assert respond(RequestFactory().get("/")).content == b"replica1"
    assert title() == "default"


def test_gotcha_3(respond):
    """A session that is saved after the view leaves no mark, request after request."""
    browser = RequestFactory()
    for _ in range(3):
        response = respond(browser.get("/"))
        assert response.content.decode() in FOLLOWERS
        assert set(response.cookies) == {"sessionid"}
        browser.cookies.update(response.cookies)
    assert on("default", "SELECT count(*) FROM django_session") == [(1,)]


def test_gotcha_3_last_login(settings):
    """A model named in ``LEADER_MODELS``, as the user's for ``last_login``, pins nothing."""
    user = User.objects.create(username="reader")
    settings.REPLICAS = {
        **settings.REPLICAS,
        "LEADER_MODELS": ["sessions.Session", "auth.User"],
    }
    with unit_of_work():
        user_logged_in.send(User, user=user, request=None)
        assert User.objects.get().last_login == user.last_login
        assert title() in FOLLOWERS
    settings.REPLICAS = {**settings.REPLICAS, "LEADER_MODELS": ["sessions.Session"]}
    with unit_of_work():
        user_logged_in.send(User, user=user, request=None)
        assert title() == "default"


# 4: reads inside atomic()


def test_gotcha_4_naive(naive):
    """A naive router reads a follower inside a transaction on the leader."""
    naive("FirstFollower")
    with transaction.atomic():
        assert title() == "replica1"


@pytest.mark.parametrize("nested", [False, True])
def test_gotcha_4(nested):
    """Reads inside ``atomic()`` go to the leader, nested or not, and only as long as it lasts."""
    with unit_of_work():
        before = title()
        with transaction.atomic():
            if nested:
                with transaction.atomic():
                    pass
            assert title() == "default"
        assert before == title()
        assert before in FOLLOWERS


# 5: ATOMIC_REQUESTS


@pytest.fixture
def atomic_requests():
    connections.settings["default"]["ATOMIC_REQUESTS"] = True
    yield
    connections.settings["default"]["ATOMIC_REQUESTS"] = False


def view_in_its_transaction(request):
    view = BaseHandler().make_view_atomic(lambda request: HttpResponse(title()))
    return view(request)


def test_gotcha_5_naive(naive, atomic_requests):
    """A naive router leaves the request's transaction for its reads."""
    naive("FirstFollower")
    assert view_in_its_transaction(RequestFactory().get("/")).content == b"replica1"


def test_gotcha_5(atomic_requests):
    """With ``ATOMIC_REQUESTS`` a view's reads are in its transaction."""
    respond = ReplicasMiddleware(view_in_its_transaction)
    assert respond(RequestFactory().get("/")).content == b"default"


def test_gotcha_5_check(atomic_requests):
    """With ``ATOMIC_REQUESTS`` on a leader, where followers would serve no view, a check warns."""
    found = [message for message in run_checks() if "ATOMIC_REQUESTS" in message.msg]
    assert [message.id.startswith("django_replicas.W") for message in found] == [True]
    assert "'default'" in found[0].msg


# 6: asking for autocommit opens a connection


def test_gotcha_6_naive(naive):
    """A router that asks for autocommit opens the leader's connection to read a follower."""
    naive("AsksForAutocommit")
    assert title() == "replica1"
    assert connections["default"].connection is not None


@pytest.mark.parametrize("role", [None, "follower", "leader"])
def test_gotcha_6(role):
    """Whatever is decided, deciding opens nothing on the leader, and one follower at most."""
    opened = []

    def note(connection, **kwargs):
        opened.append(connection.alias)

    connection_created.connect(note)
    try:
        with unit_of_work(role=role):
            decided = router.db_for_read(Book)
            router.db_for_write(Book)
            assert connections["default"].connection is None
            assert opened == [decided][: decided != "default"]
            assert title() == decided
            assert opened == [decided]
    finally:
        connection_created.disconnect(note)


def test_gotcha_6_autocommit_off(monkeypatch):
    """With ``AUTOCOMMIT: False`` what is open on the leader is a transaction, without atomic()."""
    monkeypatch.setitem(connections["default"].settings_dict, "AUTOCOMMIT", False)
    with unit_of_work():
        assert title() in FOLLOWERS
        list(Book.objects.using("default"))
        assert title() == "default"
        connections["default"].rollback()


# 7: on_commit runs when atomic is over


def read_on_commit():
    read = []
    with transaction.atomic():
        Book.objects.filter(pk=1).update(title="new")
        transaction.on_commit(lambda: read.append(title()))
    return read


def test_gotcha_7_naive(naive):
    """A router that only looks for ``atomic()`` reads stale data when the commit is reported."""
    naive("LooksForAtomic")
    assert read_on_commit() == ["replica1"]


def test_gotcha_7():
    """What was written in a transaction is seen by its ``on_commit`` callbacks, and after them."""
    with unit_of_work():
        assert read_on_commit() == ["new"]
        assert title() == "new"


# 8: atomic() without using


def change_in_bare_atomic():
    """Read and write what the transaction holds, and take it all back."""
    with transaction.atomic():
        Book.objects.filter(pk=1).update(title="new")
        read = title()
        transaction.set_rollback(True)
    return read


def test_gotcha_8_naive(naive):
    """A bare ``atomic()`` opens on ``default``, and a naive router reads outside of it."""
    naive("FirstFollower")
    assert change_in_bare_atomic() == "replica1"


def test_gotcha_8():
    """A bare ``atomic()`` is on the leader, and reads and writes are inside it."""
    with unit_of_work():
        assert change_in_bare_atomic() == "new"
    assert titles_on("default") == ["default"]


class BooksElsewhere:
    def db_for_read(self, model, **hints):
        return "other" if model is Book else None

    db_for_write = db_for_read


def test_gotcha_8_another_set(settings, naive):
    """``atomic(using=router.db_for_write(Model))`` names a leader, pins nothing, and holds reads.

    A naive router names ``default`` whatever the model.
    """
    settings.REPLICAS = {**settings.REPLICAS, "DELEGATE_ROUTERS": [BooksElsewhere()]}
    with unit_of_work():
        with transaction.atomic():
            assert title() == "other-0"
        with transaction.atomic(using=router.db_for_write(Book)):
            assert title() == "other"
            assert Shelf.objects.get().name in FOLLOWERS
        assert title() == "other-0"
    naive("FirstFollower")
    assert router.db_for_write(Book) == "default"


# 13: without db_for_write Django deletes where the object came from


def test_gotcha_13_naive(naive):
    """A router without an opinion about writes has Django delete on the follower."""
    naive("ReadsOnly")
    Book.objects.get(pk=1).delete()
    assert (titles_on("replica1"), titles_on("default")) == ([], ["default"])


def test_gotcha_13():
    """What was read from a follower is deleted on its leader, and the follower left alone."""
    with unit_of_work():
        book = Book.objects.get(pk=1)
        assert book.title in FOLLOWERS
        book.delete()
        assert not Book.objects.exists()
    assert titles_on("default") == []
    assert {*titles_on("replica1"), *titles_on("replica2")} == FOLLOWERS


def test_gotcha_13_related_rows():
    """What cascades goes with it, from the leader."""
    with unit_of_work():
        Shelf.objects.get().delete()
    assert titles_on("default") == []
    assert titles_on("replica1") == ["replica1"]


# 14: refresh_from_db asks the router


def test_gotcha_14_naive(naive):
    """An object that was just saved is not there, or old, when it is refreshed."""
    naive("FirstFollower")
    book = Book.objects.create(title="new")
    with pytest.raises(Book.DoesNotExist):
        book.refresh_from_db()
    first = Book.objects.using("default").get(pk=1)
    first.refresh_from_db()
    assert first.title == "replica1"


def test_gotcha_14():
    """An object from the leader is refreshed there, also where nothing pins the unit."""
    book = Book.objects.create(title="new")
    with unit_of_work():
        book.refresh_from_db()
        assert book.title == "new"
        first = Book.objects.using("default").get(pk=1)
        first.refresh_from_db()
        assert first.title == "default"
        assert current_unit().counts == {("default", Reason.INSTANCE): 2}
        assert title() in FOLLOWERS


def test_gotcha_14_saved_before_a_fresh_start():
    """An object that this unit saved is refreshed from the leader after ``unpin_all()``, too."""
    with unit_of_work():
        book = Book.objects.create(title="new")
        unpin_all()
        book.refresh_from_db()
        assert book.title == "new"


def test_gotcha_14_deferred():
    """Deferred fields of an object from the leader come from the leader."""
    with unit_of_work():
        assert Book.objects.using("default").defer("title").get(pk=1).title == "default"


# 15: prefetch_related asks the router afresh


def related_titles(**lookup):
    shelf = Shelf.objects.using("default").prefetch_related("books").get(pk=1)
    return [book.title for book in shelf.books.all()]


def test_gotcha_15_naive(naive):
    """A naive router mixes objects from the leader with related ones from a follower."""
    naive("FirstFollower")
    assert related_titles() == ["replica1"]


def test_gotcha_15():
    """What is prefetched for objects from the leader comes from the leader, in all directions."""
    book = Book.objects.create(title="sequel", shelf_id=1)
    book.labels.add(Label.objects.create(word="new"))
    Book.objects.filter(pk=1).update(sequel=book)
    with unit_of_work():
        assert related_titles() == ["default", "sequel"]
        found = Book.objects.using("default").prefetch_related("shelf", "labels", "prequels")
        found = found.get(pk=book.pk)
        assert found.shelf.name == "default"
        assert [label.word for label in found.labels.all()] == ["new"]
        assert [prequel.title for prequel in found.prequels.all()] == ["default"]
        assert title() in FOLLOWERS


def test_gotcha_15_lazily():
    """Related objects that are fetched when they are touched come from the leader as well."""
    with unit_of_work():
        book = Book.objects.using("default").get(pk=1)
        assert book.shelf.name == "default"
        assert [other.title for other in book.shelf.books.all()] == ["default"]
        assert book.shelf.books.filter(title="default").exists()


# 16: validation reads


def duplicate():
    Book(title="duplicate", note="n", code="taken").validate_unique()


def fresh_parent(pk):
    Book(title="child", note="n", shelf_id=pk).clean_fields(exclude=["sequel", "code"])


@pytest.fixture
def ahead():
    """Write what no follower has yet."""
    Book.objects.create(title="new", code="taken")
    return Shelf.objects.create(name="new").pk


def test_gotcha_16_naive(naive, ahead):
    """On a follower a duplicate passes and a fresh parent is missing."""
    naive("FirstFollower")
    duplicate()
    with pytest.raises(ValidationError, match="shelf instance with id"):
        fresh_parent(ahead)


@pytest.mark.parametrize("name", ["GreedyPinRouter", "StrictPinRouter", "LeaderFollowerRouter"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_gotcha_16(method, name, ahead, settings):
    """A request with an unsafe method validates on the leader, before anything was written."""
    settings.DATABASE_ROUTERS = [f"django_replicas.routers.{name}"]

    def view(request):
        with pytest.raises(ValidationError, match="already exists"):
            duplicate()
        fresh_parent(ahead)
        return HttpResponse("validated")

    response = ReplicasMiddleware(view)(RequestFactory().generic(method, "/"))
    assert response.content == b"validated"


# 22: subqueries on another alias


def books_on_shelves(choose):
    shelves = Shelf.objects.using(choose())
    return Book.objects.using(choose()).filter(shelf__in=shelves).get().title


def test_gotcha_22_naive(naive):
    """With a choice for each query a subquery meets another alias, and Django refuses."""
    naive("EachReadAnother")
    with pytest.raises(ValueError, match="Subqueries aren't allowed across different databases"):
        books_on_shelves(lambda: router.db_for_read(Book))


@pytest.mark.parametrize("balance", ["random", "round_robin"])
def test_gotcha_22(balance, settings):
    """Within a unit there is one choice, by ``get_follower`` as by the router."""
    settings.REPLICAS = {**settings.REPLICAS, "BALANCE": balance}
    chosen = set()
    for _ in range(20):
        with unit_of_work():
            chosen.add(books_on_shelves(lambda: get_follower("default")))
            assert books_on_shelves(lambda: router.db_for_read(Book)) == title()
    assert chosen == FOLLOWERS


# 23: ContentType caching per alias


def content_type_queries():
    """Count the queries that finding one content type ten times takes."""
    ContentType.objects.clear_cache()
    captured = [CaptureQueriesContext(connections[alias]) for alias in sorted(FOLLOWERS)]
    with captured[0], captured[1]:
        for _ in range(10):
            ContentType.objects.get_for_model(Book)
    ContentType.objects.clear_cache()
    return [len(queries) for queries in captured]


def test_gotcha_23_naive(naive):
    """With a choice for each read every follower is asked for the same content type."""
    naive("EachReadAnother")
    assert content_type_queries() == [1, 1]


@pytest.mark.parametrize("balance", ["random", "round_robin"])
def test_gotcha_23(balance, settings):
    """With one choice for each unit it is asked for once."""
    settings.REPLICAS = {**settings.REPLICAS, "BALANCE": balance}
    with unit_of_work():
        assert sorted(content_type_queries()) == [0, 1]


# 28: fresh connections for each ASGI request


async def asgi_requests(number, respond):
    """Run *respond* as so many ASGI requests would, each with a thread of its own."""

    def run():
        try:
            return respond()
        finally:
            connections.close_all()

    async def request():
        async with ThreadSensitiveContext():
            return await sync_to_async(run)()

    return [await request() for _ in range(number)]


@pytest.fixture
def attempts(monkeypatch, tmp_path):
    """Count attempts to connect to ``replica1``, whose server is gone."""
    unreachable = str(tmp_path / "gone" / "file.sqlite3")
    monkeypatch.setitem(connections.settings["replica1"], "NAME", unreachable)
    made = []
    connect = type(connections["replica1"]).get_new_connection

    def note(self, parameters):
        if self.alias == "replica1":
            made.append(threading.get_ident())
        return connect(self, parameters)

    monkeypatch.setattr(type(connections["replica1"]), "get_new_connection", note)
    return made


async def test_gotcha_28_naive(naive, attempts):
    """What a router remembers in its connections is forgotten with each request."""
    naive("FirstFollower")

    def respond():
        with pytest.raises(OperationalError):
            title()

    await asgi_requests(5, respond)
    assert len(attempts) == 5


async def test_gotcha_28(attempts):
    """That a follower is down is known to the process: one attempt, whatever the request."""

    def respond():
        with unit_of_work():
            return title()

    answers = await asgi_requests(20, respond)
    assert set(answers) == {"replica2"}
    assert len(attempts) == 1


# 29: the event loop's connections are others


async def test_gotcha_29_naive(naive, loop_connections):
    """On the loop ``in_atomic_block`` looks false while a transaction is open behind it."""
    naive("LooksForAtomic")
    atomic = transaction.atomic()
    await sync_to_async(atomic.__enter__)()
    try:
        assert await sync_to_async(router.db_for_read)(Book) == "default"
        assert router.db_for_read(Book) == "replica1"
    finally:
        await sync_to_async(atomic.__exit__)(None, None, None)


async def test_gotcha_29(loop_connections):
    """On the loop the answer is the leader, without I/O, whatever the unit has chosen."""
    with unit_of_work():
        assert router.db_for_read(Book) == "default"
        assert await sync_to_async(title)() in FOLLOWERS
        assert router.db_for_read(Book) == "default"
        assert current_unit().trace[-1].reason is Reason.EVENT_LOOP
        assert all(connections[alias].connection is None for alias in connections)


def test_gotcha_29_on_a_thread_that_read_before():
    """A loop has no say about transactions, also on a thread that has used its connections."""
    with unit_of_work():
        title()

        async def ask():
            return router.db_for_read(Book), current_unit().trace[-1].reason

        assert asyncio.run(ask()) == ("default", Reason.EVENT_LOOP)


async def test_gotcha_29_aiterator(loop_connections):
    """``aiterator()`` and the async methods read the follower, and the unit's writes."""
    with unit_of_work():
        (chosen,) = [book.title async for book in Book.objects.aiterator()]
        assert chosen in FOLLOWERS
        assert (await Book.objects.aget(pk=1)).title == chosen
        await Book.objects.filter(pk=1).aupdate(title="new")
        assert [book.title async for book in Book.objects.aiterator()] == ["new"]
        assert [book.title async for book in Book.objects.all()] == ["new"]


async def test_gotcha_29_aiterator_in_a_transaction(loop_connections):
    """What ``sync_to_async`` runs inside ``atomic()`` reads the leader."""

    def work():
        with transaction.atomic():
            return title()

    with unit_of_work():
        assert await sync_to_async(work)() == "default"


# 30 and 31: what a gathered child task sets, its parent does not see


async def write():
    await Book.objects.filter(pk=1).aupdate(title="new")


async def read():
    return (await Book.objects.aget(pk=1)).title


async def write_in_a_child():
    await asyncio.gather(write())
    return await read()


@pytest.mark.parametrize("name", ["PinsWhenAsked", "PinsInLocal"])
async def test_gotcha_30_and_31_naive(name, naive, loop_connections):
    """A pin in a context variable, or in asgiref's ``Local``, does not leave the task."""
    naive(name)
    assert await write_in_a_child() == "replica1"


async def write_in_a_task():
    await asyncio.create_task(write())
    return await read()


async def write_in_a_task_group():
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
    return await read()


@pytest.mark.parametrize(
    "work",
    [write_in_a_child, write_in_a_task, write_in_a_task_group],
    ids=lambda function: function.__name__,
)
async def test_gotcha_30(work, loop_connections):
    """A write in a child task is seen by its parent, and by nobody else's unit."""
    with unit_of_work():
        assert await work() == "new"
    with unit_of_work():
        assert await read() in FOLLOWERS


async def test_gotcha_30_siblings(loop_connections):
    """Tasks with units of their own do not see each other's writes."""
    wrote = asyncio.Event()

    @unit_of_work
    async def writer():
        await write()
        wrote.set()
        return await read()

    @unit_of_work
    async def reader():
        await wrote.wait()
        return await read()

    written, unaware = await asyncio.gather(writer(), reader())
    assert written == "new"
    assert unaware in FOLLOWERS


async def test_gotcha_30_cancelled(loop_connections):
    """A task that is cancelled inside a block leaves nothing of it behind."""
    entered = asyncio.Event()

    async def wait_inside():
        with pin("default"):
            entered.set()
            await asyncio.Event().wait()

    with unit_of_work():
        task = asyncio.create_task(wait_inside())
        await entered.wait()
        assert await read() in FOLLOWERS
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await read() in FOLLOWERS


def test_gotcha_31():
    """A new thread starts outside of the unit; ``bind`` takes it along, and its writes count."""
    with unit_of_work():
        assert title() in FOLLOWERS
        assert in_thread(title) == "default"
        assert in_thread(current_unit) is None
        in_thread(lambda: Book.objects.filter(pk=1).update(title="new"))
        assert title() in FOLLOWERS
        in_thread(bind(lambda: Book.objects.filter(pk=1).update(title="newer")))
        assert title() == "newer"
        assert in_thread(bind(title)) == "newer"


def test_gotcha_31_naive(naive):
    """A pin that lives in one thread's context is not seen by the unit's other threads."""
    naive("PinsInLocal")
    in_thread(lambda: Book.objects.filter(pk=1).update(title="new"))
    assert title() == "replica1"


# 35: allow_migrate


@pytest.fixture
def empty_follower():
    """Have a follower without any tables."""
    Path(connections["replica1"].settings_dict["NAME"]).unlink()


def tables_of(alias):
    with connections[alias].cursor() as cursor:
        return set(connections[alias].introspection.table_names(cursor))


def migrate(alias):
    call_command("migrate", database=alias, run_syncdb=True, verbosity=0, interactive=False)


def test_gotcha_35_naive(naive, empty_follower):
    """Without an opinion ``migrate`` makes a follower's tables and writes content types there."""
    naive("FirstFollower")
    migrate("replica1")
    assert {"shop_book", "django_content_type"} <= tables_of("replica1")
    assert ContentType.objects.using("replica1").exists()


def test_gotcha_35(empty_follower):
    """``migrate`` on a follower makes none of the models' tables."""
    migrate("replica1")
    assert tables_of("replica1") <= {"django_migrations"}


def test_gotcha_35_relations(naive):
    """Objects from the whole set may be related; a naive router has Django refuse them."""
    book = Book.objects.using("replica1").get(pk=1)
    shelf = Shelf.objects.using("default").get()
    book.shelf = shelf
    assert book.shelf is shelf
    naive("FirstFollower")
    with pytest.raises(ValueError, match="current database router prevents this relation"):
        Book.objects.using("replica1").get(pk=1).shelf = shelf


# 38: routers are made once and shared


OTHER_WAY_ROUND = {"SETS": {"default": ["other-0"]}}


def test_gotcha_38_naive(naive, settings):
    """A router that keeps its settings does not hear of others."""
    naive("KeepsItsSettings")
    assert title() == "replica1"
    settings.REPLICAS = OTHER_WAY_ROUND
    assert title() == "replica1"


def test_gotcha_38(settings):
    """The same router follows the settings as they change."""
    same = router.routers[0]
    with unit_of_work():
        assert title() in FOLLOWERS
    settings.REPLICAS = OTHER_WAY_ROUND
    with unit_of_work():
        assert title() == "other-0"
    assert router.routers[0] is same


def test_gotcha_38_threads():
    """One router serves threads with different pins at once."""
    together = threading.Barrier(8)

    @unit_of_work
    def work(number):
        try:
            if number % 2:
                pin("default")
            together.wait(30)
            return {title() for _ in range(50)}
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(work, range(8)))
    assert answers[1::2] == [{"default"}] * 4
    assert all(len(answer) == 1 and answer < FOLLOWERS for answer in answers[::2])
