"""`SessionPinnedRouter`: what a session wrote lately is read from the leader, in every process.

Each row of django-distributed's README that is about its router has a test which quotes it. No
follower ever replicates here, so that who does not ask the leader does not see a write.
"""

import asyncio
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from importlib import import_module
from threading import Barrier, Event
from urllib.parse import quote

import crum
import django
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model, login, logout
from django.core.cache import cache, caches
from django.core.management import call_command
from django.core.signals import setting_changed
from django.db import DatabaseError, connections, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.test import AsyncClient, AsyncRequestFactory, Client, override_settings
from django.urls import path

from django_replicas import leader, pin, unit_of_work, unpin_all, use_follower, use_leader
from django_replicas.jobs import Job, marks_to_send
from django_replicas.middleware import ReplicasMiddleware
from django_replicas.reasons import Reason
from django_replicas.recency import get_recency, key_of
from django_replicas.routers import ReplicaRouter, SessionPinnedRouter
from django_replicas.scopes import current_unit
from django_replicas.stores import get_mark_store
from servers.memcached import Memcached, MemcachedNotFound
from servers.waiting import wait_until

from .jobs import celery_tasks
from .jobs.reports import VARIABLE
from .pages import python_of
from .shop.models import Book, Label, Shelf

FOLLOWERS = {"replica1", "replica2"}
ROUTER = "django_replicas.routers.SessionPinnedRouter"
COOKIE = "replicas_mark"
OURS = "django_replicas.middleware.ReplicasMiddleware"
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
CRUM = "crum.CurrentRequestUserMiddleware"
LOCAL = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "sessions"}
IN_DATABASE = {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "cached"}
NOT_TO_BE_REACHED = {
    "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
    "LOCATION": "127.0.0.1:1",
}
THROUGH = "shop_book_labels"


# The site


def book():
    return Book.objects.get(pk=1).title


def shelf():
    return Shelf.objects.get(pk=1).name


def labelled():
    return Book.objects.filter(pk=1, labels__word="seen").exists()


def save_book():
    Book.objects.filter(pk=1).update(note="written")


def run(sql):
    with connections["default"].cursor() as cursor:
        cursor.execute(sql)


def read(request):
    return JsonResponse({"book": book(), "shelf": shelf(), "again": book()})


async def read_async(request):
    answer = (await Book.objects.aget(pk=1)).title
    return JsonResponse({"book": answer, "shelf": (await Shelf.objects.aget(pk=1)).name})


def write(request):
    save_book()
    return HttpResponse()


async def write_async(request):
    await Book.objects.filter(pk=1).aupdate(note="written")
    return HttpResponse()


def write_and_fail(request):
    save_book()
    raise ValueError


async def write_and_fail_async(request):
    await write_async(request)
    raise ValueError


def begin_session(request):
    """Write, and have a session only when the response is made."""
    request.session["visited"] = True
    return write(request)


def begin_session_and_fail(request):
    begin_session(request)
    raise ValueError


def count(request):
    request.session["count"] = request.session.get("count", 0) + int(request.GET.get("by", 1))
    return write(request) if request.method == "POST" else HttpResponse()


def count_then_read(request):
    count(request)
    return read(request)


decorated, read_decorated = use_leader(count), use_follower(read)


def log_in_and_fail(request):
    log_in(request)
    return write_and_fail(request)


def log_in(request):
    login(request, get_user_model().objects.using("default").get(), BACKEND)
    return HttpResponse()


BACKEND = "django.contrib.auth.backends.ModelBackend"


def log_out(request):
    logout(request)
    return HttpResponse()


def log_out_then_read(request):
    logout(request)
    return read(request)


def queue(request):
    if "write" in request.GET:
        save_book()
    sent = [marks_to_send() for _ in range(int(request.GET.get("times", 1)))]
    return JsonResponse({"sent": sent[-1]})


def cycle_then_read(request):
    with leader("default"):
        request.session.cycle_key()
    return read(request)


def label(request):
    Book.objects.using("default").get(pk=1).labels.set([Label.objects.create(word="seen")])
    return HttpResponse()


def see_label(request):
    return JsonResponse({"seen": labelled(), "shelf": shelf()})


def raw(request):
    run(request.GET["sql"])
    return HttpResponse()


def write_to_both(request):
    Shelf.objects.using("other").update(name="other")
    return write(request)


def inner(request):
    with unit_of_work():
        save_book()
    return HttpResponse()


def read_inside(request):
    with unit_of_work():
        return read(request)


@unit_of_work
def save_in_a_unit(request):
    save_book()


@use_leader
def save_as_leader(request):
    save_book()


def save_by_celery(request):
    celery_tasks.work.apply([1, "write"])


def save_by_tasks(request):
    import_module("tests.jobs.tasks").work.enqueue(1, "write")


def save_inside_then_read(request):
    """Write in a unit inside the request's."""
    before = book()
    {each.__name__: each for each in INSIDE}[request.GET["by"]](request)
    return JsonResponse([before, book()], safe=False)


INSIDE = [save_in_a_unit, save_as_leader, save_by_celery]
if django.VERSION >= (6, 0):
    INSIDE.append(save_by_tasks)


def stream(request):
    def body():
        save_book()
        yield "written"

    return StreamingHttpResponse(body())


async def stream_async(request):
    async def body():
        await write_async(request)
        yield "written"

    return StreamingHttpResponse(body())


def in_transaction(request):
    with transaction.atomic():
        save_book()
    return HttpResponse()


def in_block(request):
    with leader("default"):
        save_book()
    return HttpResponse()


def pinned(request):
    pin("default")
    return write(request)


def cached(request):
    cache.set("page", "contents")
    return JsonResponse({"page": cache.get("page")})


def see_cached(request):
    return JsonResponse({"page": cache.get("page"), "book": book()})


async def on_loop(request):
    from django.db import router  # noqa: PLC0415 - not the module's routers

    return JsonResponse({"alias": router.db_for_read(Book)})


urlpatterns = [
    *(path("decorated", decorated), path("read_decorated", read_decorated)),
    *(
        path(view.__name__, view)
        for view in [
            *(read, read_async, write, write_async, write_and_fail, write_and_fail_async, log_in),
            *(
                begin_session,
                log_out,
                log_out_then_read,
                queue,
                cycle_then_read,
                label,
                see_label,
                raw,
                write_to_both,
                *(begin_session_and_fail, log_in_and_fail, count, count_then_read),
                inner,
                read_inside,
                save_inside_then_read,
            ),
            *(stream, stream_async, in_transaction, in_block, pinned, cached, see_cached, on_loop),
        ]
    ),
]


@pytest.fixture(autouse=True)
def site(settings):
    settings.ROOT_URLCONF = "tests.test_session_pinned"
    settings.DATABASE_ROUTERS = [ROUTER]
    settings.CACHES = {"default": LOCAL}
    cache.clear()
    yield
    caches.close_all()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(sync_to_async(connections.close_all)())).result()


@pytest.fixture
def configure(settings):
    """Change keys of ``REPLICAS`` for one test."""

    def change(**keys):
        settings.REPLICAS = {**settings.REPLICAS, **keys}

    return change


@contextmanager
def distributed(**others):
    """Have django-distributed's settings, and no ``REPLICAS``."""
    older = {
        "LEADER_DATABASE": "default",
        "FOLLOWER_DATABASES": ["replica1", "replica2"],
        "REPLICATION_LAG": 60,
    }
    with override_settings(**{**older, **others}):
        del django_settings.REPLICAS
        setting_changed.send(sender=None, setting="REPLICAS", value=None, enter=True)
        yield
    setting_changed.send(sender=None, setting="REPLICAS", value=None, enter=False)


def add_session(client):
    """Give the visitor a session, without a request that would write."""
    session = client.session
    session["name"] = "visitor"
    with leader("default"):
        session.save()
    client.cookies[django_settings.SESSION_COOKIE_NAME] = session.session_key
    return client


@pytest.fixture
def visitor():
    return add_session(Client())


def where(client, page="read"):
    return client.get(f"/{page}").json()


def reads(client, *, leaders=(), page="read"):
    """Tell whether the page reads these models, and no other, from the leader."""
    answer = where(client, page)
    on_leader = {name for name in ("book", "shelf") if answer[name] == "default"}
    assert all(answer[name] in {"default", *FOLLOWERS} for name in ("book", "shelf"))
    return on_leader == set(leaders)


def test_a_session_reads_what_it_wrote_from_the_leader(visitor):
    """And only that: the other models, and the other sessions, go on with the followers."""
    assert reads(visitor, leaders=[])
    response = visitor.post("/write")
    assert COOKIE not in response.cookies
    assert reads(visitor, leaders=["book"])
    assert where(visitor)["book"] == where(visitor)["again"] == "default"
    assert reads(add_session(Client()), leaders=[])
    assert reads(Client(), leaders=[])


# The README of django-distributed


def test_leader_database(visitor):
    """ "LEADER_DATABASE: The name of the leader database (i.e. default)"."""
    with distributed(LEADER_DATABASE="other", FOLLOWER_DATABASES=["replica1"]), unit_of_work():
        assert SessionPinnedRouter().db_for_write(Book) == "default"
        assert book() == "default", "not the leader of a set"
    with distributed():
        visitor.post("/write")
        assert Book.objects.using("default").get(pk=1).note == "written"


def test_follower_databases():
    """ "FOLLOWER_DATABASES: A list of follower databases (i.e. ['replica1', 'replica2'])"."""
    with distributed():
        client = Client()
        assert {where(client)["book"] for _ in range(40)} == FOLLOWERS
    with distributed(FOLLOWER_DATABASES=["replica2"]):
        assert {where(Client())["book"] for _ in range(10)} == {"replica2"}


@pytest.mark.parametrize(("lag", "seconds"), [(60, 61), (0.5, 2), (3600.5, 3602)])
def test_replication_lag(lag, seconds, settings, visitor):
    """ "REPLICATION_LAG: The replication lag in seconds between the read and write instances"."""
    settings.CACHES = {"default": LOCAL | {"BACKEND": f"{__name__}.TimedCache"}}
    with distributed(REPLICATION_LAG=lag):
        visitor.post("/write")
    assert caches["default"].timeouts == [seconds]


class TimedCache(type(caches.create_connection("default"))):
    """Remembers how long things are to be kept."""

    timeouts = ()

    def set_many(self, data, timeout=None, version=None):
        self.timeouts = [*self.timeouts, timeout]
        return super().set_many(data, timeout, version)


@pytest.mark.parametrize("default", [0, 1, None])
def test_lag_longer_than_the_default_timeout(default, settings, configure, visitor):
    """What the cache does with other things says nothing about how long a write is remembered."""
    settings.CACHES = {"default": LOCAL | {"TIMEOUT": default}}
    configure(REPLICATION_LAG=3600)
    visitor.post("/write")
    assert reads(visitor, leaders=["book"])


def test_database_routers_and_middleware(visitor):
    """"DATABASE_ROUTERS = ('django_distributed.SessionCachedRouter',)
    MIDDLEWARE = ('crum.CurrentRequestUserMiddleware',) + MIDDLEWARE".
    """  # fmt: skip
    middleware = {"DATABASE_ROUTERS": (ROUTER,), "MIDDLEWARE": (CRUM, SESSIONS)}
    with distributed(**middleware):
        assert reads(visitor, leaders=[])
        visitor.post("/write")
        assert reads(visitor, leaders=["book"])
        assert reads(visitor, leaders=["book"], page="read_inside")
        assert reads(add_session(Client()), leaders=[])
        assert book() == "default", "outside any request"


@pytest.mark.parametrize("middleware", [CRUM, OURS])
@pytest.mark.parametrize("save", INSIDE)
def test_what_units_inside_the_requests_wrote(
    save, middleware, settings, visitor, tmp_path, monkeypatch
):
    """The request sees it, by whichever middleware it is known."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "reports"))
    settings.MIDDLEWARE = [middleware, SESSIONS]
    before, after = where(visitor, f"save_inside_then_read?by={save.__name__}")
    assert before in FOLLOWERS
    assert after == "default"


def test_a_job_is_sent_what_its_session_wrote_with_crum_alone(settings, visitor):
    """As with our middleware."""
    settings.MIDDLEWARE = [CRUM, SESSIONS]
    assert where(visitor, "queue") == {"sent": ""}
    visitor.post("/write")
    assert where(visitor, "queue")["sent"].startswith("default:")


def test_one_unit_is_made_for_a_request(settings, rf, monkeypatch):
    """Not one for each read."""
    settings.MIDDLEWARE = [CRUM, SESSIONS]
    integration = import_module("django_replicas.integrations.crum")
    made, make = [], integration.Unit
    monkeypatch.setattr(integration, "Unit", lambda *a, **k: made.append(make(*a, **k)) or made[-1])
    crum.set_current_request(rf.get("/"))
    try:
        assert {book() for _ in range(3)} <= FOLLOWERS
    finally:
        crum.set_current_request(None)
    assert len(made) == 1


def test_a_worker_knows_no_request(settings, rf):
    """Whatever is left in its thread, a job that was queued is no part of it."""
    settings.MIDDLEWARE = [CRUM, SESSIONS]
    crum.set_current_request(rf.get("/"))
    try:
        unit = import_module("django_replicas.integrations.crum").current_unit()
        unit.note_write("default")
        with Job():
            assert book() in FOLLOWERS
        with Job(inline=True):
            assert book() == "default"
    finally:
        crum.set_current_request(None)


@pytest.mark.parametrize("door", [Client, AsyncClient])
def test_async_views_with_crum_alone(door, visitor):
    """What Django's async methods read in a thread of the request goes by the session."""
    client = door()
    client.cookies = visitor.cookies
    get, post = client.get, client.post
    if door is AsyncClient:
        get, post = async_to_sync(get), async_to_sync(post)
    with distributed(DATABASE_ROUTERS=[ROUTER], MIDDLEWARE=[CRUM, SESSIONS]):
        assert get("/read_async").json()["book"] in FOLLOWERS
        post("/write_async")
        answer = get("/read_async").json()
        assert answer["book"] == "default"
        assert answer["shelf"] in FOLLOWERS
        assert get("/on_loop").json() == {"alias": "default"}


def test_session_based():
    """ "we decide to which database to read from or write to based on the user session"."""
    visitors = [add_session(Client()) for _ in range(4)]
    for visitor in visitors[:2]:
        visitor.post("/write")
    assert [where(visitor)["book"] == "default" for visitor in visitors] == [True] * 2 + [False] * 2


class ByTenant(SessionPinnedRouter):
    """Goes by a header in place of the session."""

    def get_cache_key(self, model):
        unit = current_unit()
        tenant = unit and unit.request and unit.request.headers.get("X-Tenant")
        return tenant and f"{tenant}:{model._meta.label_lower}"


def test_extend_cached_router(settings):
    """"Extend the class CachedRouter and implement the method get_cache_key. Define your custom
    cache key there".
    """  # fmt: skip
    settings.DATABASE_ROUTERS = [f"{__name__}.ByTenant"]
    one, other = (add_session(Client(headers={"X-Tenant": name})) for name in ("one", "other"))
    assert COOKIE not in one.post("/write").cookies
    assert reads(one, leaders=["book"])
    assert reads(add_session(Client(headers={"X-Tenant": "one"})), leaders=["book"])
    assert reads(other, leaders=[])
    assert list(caches["default"].get_many(["one:shop.book", "one:shop.shelf"])) == [
        "one:shop.book"
    ]


@pytest.mark.parametrize("sql", ["UPDATE shop_book SET note='x'", "REINDEX"])
def test_a_key_for_some_models_only(sql, settings, visitor):
    """What has no key is carried by a mark, as everything is where there is no session."""
    settings.DATABASE_ROUTERS = [f"{__name__}.ForShelves"]
    assert COOKIE in visitor.post(f"/raw?sql={sql}").cookies
    assert reads(visitor, leaders=["book", "shelf"])


class ForShelves(SessionPinnedRouter):
    """Knows a key for shelves alone."""

    def get_cache_key(self, model):
        return super().get_cache_key(model) if model is Shelf else None


class WholeSession(SessionPinnedRouter):
    """Has one key for all models of a session."""

    def get_cache_key(self, model):
        return super().get_cache_key(Book)


def test_one_key_for_all_models(settings, user, visitor):
    """The documented way to cover joins; the key moves along like any other."""
    settings.DATABASE_ROUTERS = [f"{__name__}.WholeSession"]
    assert reads(visitor, leaders=[])
    assert COOKIE not in visitor.post("/raw?sql=UPDATE shop_shelf SET name=name").cookies
    assert reads(visitor, leaders=["book", "shelf"])
    visitor.post("/log_in")
    assert reads(visitor, leaders=["book", "shelf"])


class ShelvesAreRecent(SessionPinnedRouter):
    """Decides by other means than a cache."""

    asked = ()

    def is_recently_updated(self, model):
        ShelvesAreRecent.asked = [*ShelvesAreRecent.asked, model]
        return model is Shelf


def test_extend_distributed_router(settings, visitor):
    """"Extend the class DistributedRouter and implement the method is_recently_updated. Our
    distributed router logic will read from the write database if it is recently updated else
    replica database".
    """  # fmt: skip
    settings.DATABASE_ROUTERS = [f"{__name__}.ShelvesAreRecent"]
    ShelvesAreRecent.asked = []
    assert reads(visitor, leaders=["shelf"])
    assert ShelvesAreRecent.asked == [Book, Shelf], "once for each model of a request"


# Who writes what


@pytest.mark.parametrize(
    ("page", "on_leader"),
    [
        ("write", ["book"]),
        ("write_async", ["book"]),
        ("inner", ["book"]),
        ("in_transaction", ["book"]),
        ("in_block", []),
        ("raw?sql=UPDATE shop_shelf SET name='default'", ["shelf"]),
        ("raw?sql=REINDEX", ["book", "shelf"]),
        ("raw?sql=UPDATE sqlite_sequence SET seq=seq", ["book", "shelf"]),
        ("raw?sql=SELECT 1", []),
        ("raw?sql=DELETE FROM django_session WHERE 1=0", []),
    ],
)
@pytest.mark.parametrize("door", [Client, AsyncClient])
def test_what_counts_as_a_write_of_a_model(page, on_leader, door, visitor):
    """The tables in the statement tell the models; a table that nobody knows is any model's."""
    sender = door()
    sender.cookies = visitor.cookies
    post = sender.post if door is Client else async_to_sync(sender.post)
    assert COOKIE not in post(f"/{page}").cookies
    assert reads(visitor, leaders=on_leader)
    assert reads(visitor, leaders=on_leader, page="read_inside")


def test_what_is_written_while_streaming(visitor):
    """The unit is over by then; each write is noted by itself."""
    assert b"".join(visitor.post("/stream")) == b"written"
    assert reads(visitor, leaders=["book"])


def test_what_is_written_while_streaming_async(visitor):
    """Under ASGI as well."""

    async def post():
        client = AsyncClient()
        client.cookies = visitor.cookies
        return [part async for part in await client.post("/stream_async")]

    assert async_to_sync(post)() == [b"written"]
    assert reads(visitor, leaders=["book"])


def test_a_request_that_is_cancelled_when_it_has_written(database_cache, caplog):
    """What is left to do is done in a thread all the same, and the loop has no part in it."""
    key = key_of("a-session", "shop_book")
    taken, free, units, busy = Event(), Event(), [], []

    async def view(request):
        units.append(current_unit())
        await Book.objects.filter(pk=1).aupdate(note="written")
        # From here on the one thread of this context has no time for the end of the unit.
        busy.append(asyncio.ensure_future(sync_to_async(keep_busy)()))
        while not taken.is_set():
            await asyncio.sleep(0)
        return HttpResponse()

    def keep_busy():
        taken.set()
        free.wait()

    async def main():
        request = AsyncRequestFactory().get("/")
        request.COOKIES[django_settings.SESSION_COOKIE_NAME] = "a-session"
        task = asyncio.ensure_future(ReplicasMiddleware(view)(request))
        while not (units and units[0].has_ended):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        free.set()
        await asyncio.gather(*busy)
        return await sync_to_async(lambda: key in cache)()

    assert asyncio.run(main())
    assert not caplog.records
    assert get_recency().is_noted(key)


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_written_while_streaming_is_noted_when_it_is_done(fails, rf):
    """A write may take longer than its note is kept; one that fails may have been done."""
    seen = []
    key = key_of("a-session", "shop_book")

    def look(execute, *args):
        seen.append(key in cache)
        if fails:
            raise DatabaseError
        return execute(*args)

    def body():
        with connections["default"].execute_wrapper(look):
            save_book()
            yield "written"

    request = rf.get("/")
    request.COOKIES[django_settings.SESSION_COOKIE_NAME] = "a-session"
    response = ReplicasMiddleware(lambda request: StreamingHttpResponse(body()))(request)
    with pytest.raises(DatabaseError) if fails else nullcontext():
        assert list(response) == [b"written"]
    assert seen == [False]
    assert key in cache


@pytest.mark.parametrize("page", ["write_and_fail", "write_and_fail_async"])
@pytest.mark.parametrize("door", [Client, AsyncClient])
def test_a_view_that_fails_has_written(page, door, visitor):
    """What it committed before is on the leader all the same."""
    sender = door(raise_request_exception=False)
    sender.cookies = visitor.cookies
    post = sender.post if door is Client else async_to_sync(sender.post)
    assert post(f"/{page}").status_code == 500
    assert reads(visitor, leaders=["book"])


def test_both_ends_of_a_relation(visitor):
    """`Book.objects.filter(labels=...)` reads a table that is neither book's nor label's."""
    visitor.post("/label")
    answer = where(visitor, "see_label")
    assert answer["seen"]
    assert answer["shelf"] in FOLLOWERS


def test_writes_at_routing(configure, visitor):
    """Where `db_for_write` is the write, its model is what was written."""
    configure(WRITES_AT="routing")
    visitor.post("/write")
    assert reads(visitor, leaders=["book"])


def test_nothing_is_noted_where_routing_is_disabled(configure, visitor):
    """With `ENABLED` off there is no recency."""
    configure(ENABLED=False)
    visitor.post("/write")
    configure(ENABLED=True)
    assert reads(visitor, leaders=[])


def test_the_cache_is_left_alone_where_routing_is_disabled(configure, settings, visitor):
    """A session's key may change as it likes."""
    configure(ENABLED=False)
    settings.CACHES = {"default": LOCAL | {"BACKEND": f"{__name__}.CountingCache"}}
    CountingCache.calls = []
    visitor.post("/write")
    visitor.post("/log_out")
    where(visitor, "cycle_then_read")
    assert CountingCache.calls == []


def test_a_pin_travels_by_its_mark(visitor):
    """What a view pins is no model's; the mark carries it as everywhere."""
    response = visitor.post("/pinned")
    assert COOKIE in response.cookies
    assert reads(visitor, leaders=["book", "shelf"])


# Units


def test_the_unit_reads_what_it_wrote(settings):
    """The rules before recency are those of every router, and the reason tells which it was."""
    with unit_of_work():
        assert book() in FOLLOWERS
        save_book()
        assert shelf() == "default"
        assert [reason for _, reason in current_unit().counts] == [Reason.FOLLOWER, Reason.WRITTEN]
    with unit_of_work(role="leader"):
        assert book() == "default"


def test_the_reason_is_told(settings):
    """A read that recency sends to the leader says so."""
    settings.DATABASE_ROUTERS = [f"{__name__}.ShelvesAreRecent"]
    with unit_of_work():
        assert shelf() == "default"
        assert current_unit().counts == {("default", Reason.RECENT): 1}


class Everybody(SessionPinnedRouter):
    """Has one key for all the world."""

    def get_cache_key(self, model):
        return f"all:{model._meta.db_table}"


def test_units_without_a_request(settings):
    """Tasks and commands have no session, but they may have a key."""
    with unit_of_work():
        save_book()
    with unit_of_work():
        assert book() in FOLLOWERS
    settings.DATABASE_ROUTERS = [f"{__name__}.Everybody"]
    with unit_of_work():
        save_book()
        unpin_all()
        assert book() == "default", "noted at once, and asked anew"
    with unit_of_work():
        assert (book(), shelf() in FOLLOWERS) == ("default", True)
        cache.clear()
        assert book() == "default", "it keeps to its answer"
    with unit_of_work():
        assert book() in FOLLOWERS
        save_book()
        unpin_all()
        assert book() == "default", "it wrote, and asks anew"


def test_what_a_unit_without_a_request_asks_of_the_cache(settings):
    """Once for each model, as a request does."""
    settings.DATABASE_ROUTERS = [f"{__name__}.Everybody"]
    settings.CACHES = {"default": LOCAL | {"BACKEND": f"{__name__}.CountingCache"}}
    CountingCache.calls = []
    with unit_of_work():
        assert {book() for _ in range(5)} <= FOLLOWERS
        assert shelf() in FOLLOWERS
    assert CountingCache.calls == ["get_many"] * 2


class Failing(SessionPinnedRouter):
    def get_cache_key(self, model):
        raise LookupError("no tenant")


@pytest.mark.parametrize("page", ["write", "write_and_fail"])
def test_a_hook_that_fails_when_all_is_written(page, settings, caplog):
    """It takes the place of no response and of no other error; it is logged, and a mark carries."""
    settings.DATABASE_ROUTERS = [f"{__name__}.Failing"]
    client = Client(raise_request_exception=False)
    response = client.post(f"/{page}")
    assert response.status_code == (200 if page == "write" else 500)
    assert response.status_code == 200 or response.exc_info[0] is ValueError
    assert COOKIE in response.cookies
    (record,) = [each for each in caplog.records if each.name == "django_replicas"]
    assert record.exc_info[0] is LookupError


def test_a_write_without_a_request_counts_from_its_commit(settings):
    """What is not committed is nobody's, and what is rolled back never will be."""
    settings.DATABASE_ROUTERS = [f"{__name__}.Everybody"]
    with unit_of_work():
        with transaction.atomic():
            save_book()
            assert cache.get("all:shop_book") is None
        assert cache.get("all:shop_book") is not None
        cache.clear()
        with transaction.atomic():
            save_book()
            transaction.set_rollback(True)
        assert cache.get("all:shop_book") is None


def test_two_sets(settings):
    """One unit may write to several; each counts from its own commit."""
    settings.DATABASE_ROUTERS = [f"{__name__}.Everybody"]
    with unit_of_work(), transaction.atomic(using="other"):
        Shelf.objects.using("other").update(name="x")
        save_book()
        assert cache.get("all:shop_book") is not None
        assert cache.get("all:shop_shelf") is None
    assert cache.get("all:shop_shelf") is not None


def test_implicit_units(configure, settings):
    """A thread's own unit lasts as long as the thread, and so never keeps to an answer."""
    configure(OUTSIDE_UNITS="routed")
    settings.DATABASE_ROUTERS = [f"{__name__}.Everybody"]
    assert book() in FOLLOWERS
    cache.set("all:shop_book", 1)
    assert book() == "default"
    cache.delete("all:shop_book")
    assert book() in FOLLOWERS


def test_outside_units_all_is_on_the_leader():
    """Nothing is noted of shells and commands."""
    assert book() == "default"
    save_book()
    assert SessionPinnedRouter().get_cache_key(Book) is None
    assert not SessionPinnedRouter().is_recently_updated(Book)


class Undecided(ReplicaRouter):
    """Says that models differ, and not how."""

    depends_on_model = True


def test_a_router_that_does_not_say_how_models_differ(settings):
    """It reads followers, as other routers do."""
    settings.DATABASE_ROUTERS = [f"{__name__}.Undecided"]
    with unit_of_work():
        assert book() in FOLLOWERS


def test_no_shortcut_is_left():
    """An answer for one model says nothing about the next."""
    assert not SessionPinnedRouter().answers_alike(None)


def test_on_an_event_loop(visitor):
    """Where the router is asked on the loop it asks no cache."""
    client = AsyncClient()
    client.cookies = visitor.cookies
    assert async_to_sync(client.get)("/on_loop").json() == {"alias": "default"}


@pytest.mark.parametrize("door", [Client, AsyncClient])
def test_async_reads(door, visitor):
    """Async views read as others do."""
    visitor.post("/write")
    client = door()
    client.cookies = visitor.cookies
    get = client.get if door is Client else async_to_sync(client.get)
    answer = get("/read_async").json()
    assert answer["book"] == "default"
    assert answer["shelf"] in FOLLOWERS


def test_threads_of_one_unit(settings, visitor):
    """Threads that meet a unit at once have one notebook."""
    router = SessionPinnedRouter()
    with unit_of_work():
        unit, barrier = current_unit(), Barrier(8)

        def notebook():
            barrier.wait()
            return router._notebook(unit)

        with ThreadPoolExecutor(8) as pool:
            assert (
                len({id(each.result()) for each in [pool.submit(notebook) for _ in range(8)]}) == 1
            )


# Sessions that begin, change and end


def test_no_session_yet():
    """A mark carries what was written by somebody who has no session."""
    client = Client()
    assert COOKIE in client.post("/write").cookies
    assert reads(client, leaders=["book", "shelf"])


def test_a_session_that_begins_with_the_write():
    """Its key is noted when it is saved, after the view; and a mark is made as well, because
    `SessionMiddleware` does not send the key with every response.
    """
    client = Client()
    assert COOKIE in client.post("/begin_session").cookies
    client.cookies.pop(COOKIE)
    assert reads(client, leaders=["book"])


def test_a_session_that_the_client_is_not_told_of():
    """After a status of 500 it has none, and what it wrote is carried by the mark alone."""
    client = Client(raise_request_exception=False)
    response = client.post("/begin_session_and_fail")
    assert (response.status_code, list(response.cookies)) == (500, [COOKIE])
    assert reads(client, leaders=["book", "shelf"])


@pytest.mark.parametrize("door", [Client, AsyncClient])
def test_a_log_in_that_the_client_is_not_told_of(door, user, visitor):
    """Its old session is gone, and its new one is nobody's."""
    sender = door(raise_request_exception=False)
    sender.cookies = visitor.cookies
    post = sender.post if door is Client else async_to_sync(sender.post)
    response = post("/log_in_and_fail")
    assert response.status_code == 500
    assert COOKIE in response.cookies
    assert django_settings.SESSION_COOKIE_NAME not in response.cookies
    assert reads(visitor, leaders=["book", "shelf"])


@pytest.mark.parametrize("engine", ["db", "signed_cookies"])
def test_a_decorated_view_without_the_middleware(engine, settings):
    """Its unit ends before the session's key is final, so that a mark goes with the response."""
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    settings.MIDDLEWARE = [SESSIONS]
    client = Client()
    client.post("/decorated")
    client.cookies.pop(COOKIE)
    assert client.cookies[settings.SESSION_COOKIE_NAME].value
    assert COOKIE in client.post("/decorated").cookies
    assert where(client, "read_decorated")["book"] == "default"


def test_no_session_middleware(settings, visitor):
    """A session cookie of another site is no session; the mark carries."""
    settings.MIDDLEWARE = [OURS]
    assert COOKIE in visitor.post("/write").cookies
    visitor.cookies.pop(COOKIE)
    assert COOKIE in Client().post("/write").cookies


def test_a_dict_for_a_session(rf):
    """As tests of a single view give its request; the mark carries."""
    request = rf.post("/")
    request.session = {}

    @use_follower
    def view(request):
        before = book()
        save_book()
        return HttpResponse(before)

    response = view(request)
    assert response.content.decode() in FOLLOWERS
    assert COOKIE in response.cookies


def test_reads_before_the_session_is_there(settings, visitor):
    """A middleware that reads before `SessionMiddleware` goes by what the client sent."""
    settings.MIDDLEWARE = [OURS, f"{__name__}.early", SESSIONS]
    assert visitor.get("/read").headers["X-Book"] in FOLLOWERS
    visitor.post("/write")
    assert visitor.get("/read").headers["X-Book"] == "default"


def early(get_response):
    """Read before the session's middleware has run."""

    def middleware(request):
        answer = book()
        response = get_response(request)
        response["X-Book"] = answer
        return response

    return middleware


@pytest.fixture
def user():
    with leader("default"):
        return get_user_model().objects.create(username="anna")


def test_recency_moves_along_when_the_user_logs_in(user, visitor):
    """Log-in gives the session another key. What it writes itself is marked as well, because
    `SessionMiddleware` does not send the key with every response.
    """
    visitor.post("/write")
    before = visitor.session.session_key
    assert COOKIE in visitor.post("/log_in").cookies
    assert visitor.session.session_key != before
    visitor.cookies.pop(COOKIE)
    assert reads(visitor, leaders=["book"])


def test_recency_is_asked_under_the_new_key_at_once(visitor):
    """The key may change in the middle of a request that only reads."""
    visitor.post("/write")
    assert reads(visitor, leaders=["book"], page="cycle_then_read")
    assert reads(visitor, leaders=["book"])


def test_a_key_that_changes_with_nothing_noted(user, visitor):
    """There is nothing to move, and nothing to mark."""
    assert reads(visitor, leaders=[], page="cycle_then_read")
    assert COOKIE not in visitor.get("/cycle_then_read").cookies


def test_after_log_out_a_mark_carries(visitor):
    """There is no session any more, but the same person sits there."""
    visitor.post("/write")
    assert COOKIE in visitor.post("/log_out").cookies
    assert reads(visitor, leaders=["book", "shelf"])


def test_log_out_in_the_middle_of_a_request(visitor):
    """What the session wrote is not forgotten with it, from the very next read on."""
    visitor.post("/write")
    assert reads(visitor, leaders=["book", "shelf"], page="log_out_then_read")


def test_a_job_is_sent_what_its_session_wrote(visitor):
    """It has no session to ask, so a mark goes with it; others' jobs have none."""
    assert where(visitor, "queue") == {"sent": ""}
    visitor.post("/write")
    assert where(visitor, "queue")["sent"].startswith("default:")
    assert where(add_session(Client()), "queue") == {"sent": ""}
    assert where(Client(), "queue") == {"sent": ""}


def test_what_jobs_ask_of_the_cache(configure, settings, visitor):
    """Once, however many are queued; and nothing where the request wrote all that there is."""
    settings.CACHES = {"default": LOCAL | {"BACKEND": f"{__name__}.CountingCache"}}
    CountingCache.calls = []
    where(visitor, "queue?times=3")
    assert CountingCache.calls == ["get_many"]
    where(visitor, "queue?times=3&write=1")
    assert CountingCache.calls == ["get_many"] * 2 + ["set_many", "get_many"]
    configure(SETS={"default": ["replica1", "replica2"]})
    CountingCache.calls = []
    assert where(visitor, "queue?times=3&write=1")["sent"].startswith("default:")
    assert CountingCache.calls == ["set_many", "get_many"]


def test_log_out_of_who_wrote_nothing(visitor):
    """No mark is made for nothing."""
    assert COOKIE not in visitor.post("/log_out").cookies
    assert reads(visitor, leaders=[])


@pytest.mark.parametrize("key", ["x", "\x00'\"/", "é" * 40, "a" * 4000, ""])
def test_keys_that_no_session_has(key):
    """What a client sends as its session is looked up like any other, and found nowhere."""
    client = Client(headers={"cookie": f"{django_settings.SESSION_COOKIE_NAME}={key}"})
    assert reads(client, leaders=[])
    assert client.post("/write").status_code == 200


def test_signed_cookie_sessions(settings):
    """Their key is all that they hold, another with every change, and moves recency each time."""
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    client = Client()
    client.post("/count")
    client.cookies.pop(COOKIE)
    for _ in range(3):
        assert reads(client, leaders=["book"], page="count_then_read")


def test_signed_cookie_sessions_of_requests_at_once(settings):
    """The slower response overwrites the key that the write was noted under; its mark is left."""
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    client, slower = Client(), Client()
    client.get("/count_then_read")
    slower.cookies = client.cookies.copy()
    assert COOKIE in client.post("/count").cookies
    where(slower, "count_then_read?by=2")
    name = settings.SESSION_COOKIE_NAME
    assert slower.cookies[name].value != client.cookies[name].value
    client.cookies[name] = slower.cookies[name].value
    assert reads(client, leaders=["book", "shelf"])


def test_a_key_does_not_show_its_session():
    """Who can list a cache's keys cannot take sessions over; keys fit every cache."""
    key = key_of("secretkey", 'odd "table"')
    assert "secretkey" not in key
    assert key.isascii()
    assert key.isprintable()
    assert " " not in key
    assert len(key) < 200
    assert len({key_of(a, b) for a, b in [("k", "t"), ("kt", ""), ("", "kt"), ("k", "u")]}) == 4


# Caches


def test_another_cache(settings, configure, visitor):
    """`RECENCY_CACHE` names it."""
    settings.CACHES = {"default": LOCAL, "shared": LOCAL | {"LOCATION": "shared"}}
    configure(RECENCY_CACHE="shared")
    visitor.post("/write")
    key = key_of(visitor.session.session_key, "shop_book")
    assert caches["shared"].get(key) is not None
    assert caches["default"].get(key) is None
    assert reads(visitor, leaders=["book"])


@pytest.fixture
def database_cache(settings):
    settings.CACHES = {"default": IN_DATABASE}
    with override_settings(DATABASE_ROUTERS=[]):
        for alias in ("default", *FOLLOWERS):
            call_command("createcachetable", "cached", database=alias)


@pytest.mark.parametrize("writes_at", ["execution", "routing"])
def test_a_cache_in_the_database(database_cache, configure, writes_at, visitor, caplog):
    """Its own queries go to the leader, asking nothing back, and are no writes of the session."""
    configure(WRITES_AT=writes_at, TRACE=True)
    assert reads(visitor, leaders=[])
    response = visitor.post("/write")
    assert COOKIE not in response.cookies
    assert reads(visitor, leaders=["book"])
    assert reads(visitor, leaders=["book"])
    assert not caplog.records


@pytest.mark.parametrize("writes_at", ["execution", "routing"])
@pytest.mark.parametrize("page", ["write", "write_async"])
def test_a_cache_in_the_database_under_asgi(database_cache, configure, writes_at, page, visitor):
    """The end of a unit on an event loop leaves its queries to a thread."""
    configure(WRITES_AT=writes_at)
    client = AsyncClient()
    client.cookies = visitor.cookies
    assert COOKIE not in async_to_sync(client.post)(f"/{page}").cookies
    assert reads(visitor, leaders=["book"])


def test_the_projects_own_use_of_a_cache_in_the_database(database_cache, configure, visitor):
    """What a session cached it finds; caching is no write of its other models."""
    configure(TRACE=True)
    assert where(visitor, "see_cached")["page"] is None
    assert visitor.post("/cached").json() == {"page": "contents"}
    answer = where(visitor, "see_cached")
    assert answer["page"] == "contents"
    assert answer["book"] in FOLLOWERS


def test_a_cache_that_fails(settings, caplog, visitor):
    """It is logged once; reads go to the leader, and marks carry what is written."""
    settings.CACHES = {"default": NOT_TO_BE_REACHED}
    caplog.set_level("INFO", "django_replicas")
    for _ in range(3):
        assert reads(visitor, leaders=["book", "shelf"])
    assert COOKIE in visitor.post("/write").cookies
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "The cache 'default' fails" in caplog.text
    assert reads(Client(), leaders=[]), "who has no session has nothing to ask"
    settings.CACHES = {"default": LOCAL}
    visitor.cookies[COOKIE] = ""
    assert reads(visitor, leaders=[])


@pytest.mark.parametrize("backend", ["dummy.DummyCache", "db.DatabaseCache"])
@pytest.mark.parametrize("door", [Client, AsyncClient])
def test_a_cache_that_keeps_nothing(backend, door, settings, visitor):
    """The dummy, and one in the database without its table: no error, no note, but a mark."""
    settings.CACHES = {"default": {"BACKEND": f"django.core.cache.backends.{backend}"}}
    sender = door()
    sender.cookies = visitor.cookies
    post = sender.post if door is Client else async_to_sync(sender.post)
    assert COOKIE in post("/write").cookies
    assert reads(visitor, leaders=["book", "shelf"])


def test_a_cache_that_keeps_nothing_when_the_key_changes(settings, configure, visitor):
    """What could not be moved is carried by a mark."""
    visitor.post("/write")
    settings.CACHES = {"default": LOCAL | {"BACKEND": f"{__name__}.FullCache"}}
    assert COOKIE in visitor.get("/cycle_then_read").cookies
    assert reads(visitor, leaders=["book", "shelf"])


class FullCache(type(caches.create_connection("default"))):
    """Has room for nothing more, and says nothing."""

    def set_many(self, data, timeout=None, version=None):
        return []


class CountingCache(type(caches.create_connection("default"))):
    """Remembers what it was asked."""

    calls = ()

    def get_many(self, keys, version=None):
        CountingCache.calls = [*CountingCache.calls, "get_many"]
        return super().get_many(keys, version)

    def set_many(self, data, timeout=None, version=None):
        CountingCache.calls = [*CountingCache.calls, "set_many"]
        return super().set_many(data, timeout, version)


@pytest.mark.parametrize("page", ["write", "label", "write_to_both"])
def test_what_a_write_asks_of_the_cache(page, settings, visitor):
    """One note and one look whether it is there, however many models and sets were written."""
    settings.CACHES = {"default": LOCAL | {"BACKEND": f"{__name__}.CountingCache"}}
    CountingCache.calls = []
    assert COOKIE not in visitor.post(f"/{page}").cookies
    assert CountingCache.calls == ["set_many", "get_many"]
    CountingCache.calls = []
    where(visitor)
    assert CountingCache.calls == ["get_many"] * 2, "one for each model that is read"


def test_what_a_log_in_asks_of_the_cache(user, settings, visitor):
    """What moves along is read back; what it writes itself is not, because a mark carries it."""
    settings.CACHES = {"default": LOCAL | {"BACKEND": f"{__name__}.CountingCache"}}
    visitor.post("/write")
    CountingCache.calls = []
    assert COOKIE in visitor.post("/log_in").cookies
    assert CountingCache.calls == ["get_many", "set_many", "get_many", "set_many"]


def test_one_of_two_sets_is_carried(settings, visitor):
    """Where the cache keeps the note of one and drops the other's, one mark is made."""
    settings.CACHES = {"default": LOCAL | {"BACKEND": f"{__name__}.NoShelves"}}
    NoShelves.sessions = [visitor.session.session_key]
    visitor.post("/write_to_both")
    request = HttpRequest()
    request.COOKIES = {COOKIE: visitor.cookies[COOKIE].value}
    assert list(get_mark_store().load(request)) == ["other"]


class NoShelves(type(caches.create_connection("default"))):
    """Drops what is noted of shelves."""

    sessions = ()

    def set_many(self, data, timeout=None, version=None):
        shelves = {key_of(session, "shop_shelf") for session in NoShelves.sessions}
        kept = {key: value for key, value in data.items() if key not in shelves}
        return super().set_many(kept, timeout, version)


def test_log_in_while_the_cache_fails(settings, user, visitor):
    """Nobody knows what to move, so a mark is made."""
    settings.CACHES = {"default": NOT_TO_BE_REACHED}
    assert COOKIE in visitor.get("/cycle_then_read").cookies


# The page


@pytest.fixture(scope="module")
def page():
    """What the Python blocks of the page define, in their order, for models of these tests."""
    defined = {"Album": Book, "Price": Shelf}
    for code in python_of("session-pinned"):
        if "class " in code:
            exec(code, defined)
    return defined


@pytest.mark.parametrize("tenant", ["one", "two words", "line\u2028break", "a" * 4000, "ü"])
def test_the_tenants_of_the_page(tenant, page, settings, in_memcached):
    """Whatever a client calls itself is a key for memcached, and nobody else's."""
    settings.DATABASE_ROUTERS = [page["TenantRouter"]()]
    cache.clear()
    name = quote(tenant)
    one, colleague, other = (
        add_session(Client(headers={"X-Tenant": each})) for each in (name, name, f"{name}!")
    )
    assert COOKIE not in one.post("/write").cookies
    for visitor in (one, colleague):
        assert reads(visitor, leaders=["book"])
        assert reads(visitor, leaders=["book"], page="read_inside")
    assert reads(other, leaders=[])
    assert reads(add_session(Client()), leaders=[])
    assert book() == "default", "outside any unit"


def test_the_session_of_the_page(page, settings, visitor):
    """One key for all models."""
    settings.DATABASE_ROUTERS = [page["WholeSessionRouter"]()]
    assert reads(visitor, leaders=[])
    visitor.post("/raw?sql=UPDATE shop_shelf SET name=name")
    assert reads(visitor, leaders=["book", "shelf"])


def test_the_prices_of_the_page(page, settings, visitor):
    """One model always, the others by the session."""
    settings.DATABASE_ROUTERS = [page["PricesRouter"]()]
    assert reads(visitor, leaders=["shelf"])
    visitor.post("/write")
    assert reads(visitor, leaders=["book", "shelf"])


# A real memcached


@pytest.fixture(scope="module")
def memcached():
    try:
        server = Memcached()
    except MemcachedNotFound as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    with server:
        yield server


@pytest.fixture
def in_memcached(memcached, settings):
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
            "LOCATION": memcached.location,
            "TIMEOUT": 1,
            "OPTIONS": {"retry_attempts": 0, "dead_timeout": 0, "ignore_exc": False},
        }
    }
    return memcached


def visit(method, page, visitor, settings):
    """Have a page answered by another process, which shares the files and the cache alone."""
    cookie = f"{settings.SESSION_COOKIE_NAME}={visitor.cookies['sessionid'].value}"
    overrides = {
        name: getattr(settings, name)
        for name in ("CACHES", "DATABASE_ROUTERS", "REPLICAS", "ROOT_URLCONF")
    }
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            ANOTHER_PROCESS,
            json.dumps(overrides),
            str(settings.FOLDER),
            method,
            page,
            cookie,
        ],
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


ANOTHER_PROCESS = """
import json, sys
import django
from django.db import connections
from django.test import Client, override_settings
from tests.settings import DATABASES

overrides, folder, method, page, cookie = sys.argv[1:]
for alias, database in DATABASES.items():
    database["NAME"] = f"{folder}/{alias}.sqlite3"
django.setup()
with override_settings(**json.loads(overrides), ALLOWED_HOSTS=["testserver"]):
    response = getattr(Client(headers={"cookie": cookie}), method)(page)
    print(json.dumps([response.status_code, sorted(response.cookies), response.text]))
connections.close_all()
"""


def test_two_processes(in_memcached, configure, settings, visitor):
    """What one process hears of, the other knows, for longer than the cache's default timeout."""
    configure(REPLICATION_LAG=3600)
    assert reads(visitor, leaders=[])
    cache.set("for-a-while", 1)
    assert visit("post", "/write", visitor, settings) == [200, [], ""]
    wait_until(lambda: cache.get("for-a-while") is None, "the default timeout is over")
    assert reads(visitor, leaders=["book"])
    status, cookies, text = visit("get", "/read", visitor, settings)
    assert (status, cookies) == (200, [])
    assert json.loads(text)["book"] == "default"
    assert json.loads(text)["shelf"] in FOLLOWERS
    assert reads(add_session(Client()), leaders=[])


def test_recency_ends(in_memcached, configure, visitor):
    """When the lag is over, followers answer again."""
    configure(REPLICATION_LAG=0.1)
    visitor.post("/write")
    assert reads(visitor, leaders=["book"])
    wait_until(lambda: reads(visitor, leaders=[]), "the followers answer again")


def test_a_memcached_that_dies(in_memcached, settings, visitor, caplog):
    """A write that is not remembered is carried by a mark, and followers come back with it."""
    visitor.post("/write")
    in_memcached.kill()
    try:
        assert COOKIE in visitor.post("/write").cookies
        assert reads(visitor, leaders=["book", "shelf"])
    finally:
        in_memcached.start()
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_memcached_needs_a_program(monkeypatch):
    """Where there is none, the error says what to install."""
    monkeypatch.delenv("DJANGO_REPLICAS_MEMCACHED", raising=False)
    monkeypatch.setattr("shutil.which", lambda *args, **kwargs: None)
    with pytest.raises(MemcachedNotFound, match="apt-get install memcached"):
        Memcached()
