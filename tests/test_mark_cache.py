"""Marks kept in a cache: for all devices of a client, and for responses that race."""

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import logout
from django.core.cache import cache, caches
from django.core.cache.backends.locmem import LocMemCache
from django.core.management import call_command
from django.db import connections
from django.http import HttpResponse, JsonResponse
from django.test import AsyncClient, Client, RequestFactory
from django.urls import path

from django_replicas import follower, unpin_all
from django_replicas.jobs import marks_to_send
from django_replicas.marks import Mark
from django_replicas.scopes import current_unit, on_event_loop
from django_replicas.stores import CacheStore
from servers.memcached import Memcached, MemcachedNotFound
from servers.redis import Redis, RedisNotFound

from .shop.models import Book

FOLLOWERS = {"replica1", "replica2"}
COOKIE = "replicas_mark"
PYMEMCACHE = "django.core.cache.backends.memcached.PyMemcacheCache"
REDIS = "django.core.cache.backends.redis.RedisCache"
# It tries one server that failed as often as it is asked.
PATIENT = {"retry_attempts": 0, "dead_timeout": 0, "ignore_exc": False}


# The site


def title():
    return Book.objects.get(pk=1).title


def write():
    Book.objects.filter(pk=1).update(note="written")


def read(request):
    return JsonResponse(title(), safe=False)


def save(request):
    write()
    return HttpResponse()


def enter(request):
    """Begin a session, or one more device's of a user."""
    request.session["_auth_user_id"] = request.GET.get("user", "1")
    return HttpResponse()


def change_key(request):
    request.session.cycle_key()
    return HttpResponse(status=int(request.GET.get("status", 200)))


def save_and_change_key(request):
    write()
    return change_key(request)


def leave(request):
    logout(request)
    return HttpResponse()


def become(request):
    """Log somebody else in, as Django does it."""
    request.session.flush()
    return enter(request)


async def read_on_loop(request):
    """Ask on the event loop for all that hangs on marks, then read in a thread."""
    sent = marks_to_send()
    known = dict(current_unit().marks)
    with follower("default"):
        assert [each.title async for each in Book.objects.aiterator()]
    return JsonResponse([sorted(known), bool(sent), await sync_to_async(title)()], safe=False)


async def forget_on_loop(request):
    unpin_all()
    return JsonResponse(await sync_to_async(title)(), safe=False)


urlpatterns = [
    path(view.__name__, view)
    for view in (
        read,
        save,
        enter,
        change_key,
        save_and_change_key,
        leave,
        become,
        read_on_loop,
        forget_on_loop,
    )
]


class ThreadsOnly(LocMemCache):
    """A cache that must not be waited for on an event loop."""

    def get(self, *args, **kwargs):
        assert not on_event_loop()
        return super().get(*args, **kwargs)


def device(request):
    return request.headers.get("X-Device")


def owner(request):
    """Ask the database whose device it is, as a project's function may."""
    Book.objects.get(pk=1)
    return request.headers.get("X-Device")


@pytest.fixture
def configure(settings):
    settings.ROOT_URLCONF = __name__
    settings.CACHES = {"default": {"BACKEND": f"{__name__}.ThreadsOnly", "LOCATION": str(uuid4())}}

    def configure(**keys):
        settings.REPLICAS = {**settings.REPLICAS, "MARK_STORE": "cache", **keys}

    configure()
    return configure


@pytest.fixture(params=["wsgi", "asgi"])
def browser(request, configure):
    """Return a function that makes a browser, each with cookies of its own."""
    return Browser if request.param == "wsgi" else AsyncBrowser


class Browser:
    def __init__(self, **headers):
        self.client = Client(headers=headers, raise_request_exception=False)

    def post(self, page):
        return self.client.post(f"/{page}")

    def get(self, page):
        return json.loads(self.client.get(f"/{page}").content)


class AsyncBrowser(Browser):
    def __init__(self, **headers):
        self.client = AsyncClient(raise_request_exception=False)
        self.headers = headers

    def post(self, page):
        return run(self.client.post(f"/{page}", headers=self.headers))

    def get(self, page):
        return json.loads(run(self.client.get(f"/{page}", headers=self.headers)).content)


def run(awaitable):
    async def main():
        try:
            return await awaitable
        finally:
            await sync_to_async(connections.close_all)()

    return asyncio.run(main())


# By session


def test_what_a_session_wrote(browser):
    """Its next requests read the leader, without a cookie of ours; other sessions do not."""
    mine, yours = browser(), browser()
    for each in (mine, yours):
        each.post("enter")
        assert each.get("read") in FOLLOWERS
    assert COOKIE not in mine.post("save").cookies
    assert mine.get("read") == "default"
    assert yours.get("read") in FOLLOWERS


def test_who_has_no_session(browser):
    """The cookie carries what nothing else could be kept by."""
    mine = browser()
    assert COOKIE in mine.post("save").cookies
    assert mine.get("read") == "default"
    assert browser().get("read") in FOLLOWERS


def test_a_cookie_from_before_the_session(browser):
    """What the visitor wrote before is still seen."""
    mine = browser()
    mine.post("save")
    mine.post("enter")
    assert mine.get("read") == "default"


@pytest.mark.parametrize("page", ["change_key", "leave"])
def test_a_session_that_gets_another_key(browser, page):
    """What was kept by the former key moves along, also where the request wrote nothing."""
    mine = browser()
    mine.post("enter")
    mine.post("save")
    assert COOKIE in mine.post(page).cookies
    assert mine.get("read") == "default"


def test_a_new_key_that_is_not_sent(browser):
    """With a server error Django keeps the new key to itself: the client comes with the former."""
    mine = browser()
    mine.post("enter")
    assert COOKIE in mine.post("save_and_change_key?status=500").cookies
    assert mine.get("read") == "default"


def test_a_session_that_ended_elsewhere(browser):
    """It had no marks, so that there is nothing to move."""
    mine = browser()
    mine.client.cookies["sessionid"] = "a" * 32
    assert COOKIE not in mine.post("leave").cookies
    assert mine.get("read") in FOLLOWERS


def test_a_cache_shows_no_session_keys(browser):
    """Who may look at the cache must not be able to open sessions."""
    mine = browser()
    mine.post("enter")
    mine.post("save")
    key = mine.client.cookies["sessionid"].value
    kept = [*cache._cache]
    assert kept
    assert not [name for name in kept if key in name]


# By user


def test_all_devices_of_a_user(browser, configure):
    """What was written on one device is seen on the others, and by nobody else."""
    configure(MARK_KEY="user")
    laptop, phone, other = browser(), browser(), browser()
    laptop.post("enter?user=1")
    phone.post("enter?user=1")
    other.post("enter?user=2")
    assert COOKIE not in laptop.post("save").cookies
    assert [phone.get("read"), laptop.get("read")] == ["default"] * 2
    assert other.get("read") in FOLLOWERS


def test_a_user_who_logs_out(browser, configure):
    """It is the same person at the same browser, who still sees what was written."""
    configure(MARK_KEY="user")
    mine = browser()
    mine.post("enter")
    mine.post("save")
    assert COOKIE in mine.post("leave").cookies
    assert mine.get("read") == "default"


def test_another_user_logs_in(browser, configure):
    """The browser sees what either of them wrote."""
    configure(MARK_KEY="user")
    mine, colleague = browser(), browser()
    mine.post("enter?user=1")
    colleague.post("enter?user=2")
    colleague.post("save")
    mine.post("become?user=2")
    assert mine.get("read") == "default"


def test_nobody_is_logged_in(browser, configure):
    """Without a user it is the cookie."""
    configure(MARK_KEY="user")
    mine = browser()
    assert COOKIE in mine.post("save").cookies
    assert mine.get("read") == "default"


def test_a_site_without_sessions(configure, settings):
    """Then there are no users either."""
    configure(MARK_KEY="user")
    settings.MIDDLEWARE = settings.MIDDLEWARE[:1]
    assert COOKIE in Client().post("/save").cookies


def test_looking_for_the_user_does_not_make_pages_vary(browser, configure):
    """A page that looks at no session is the same for all, and says so."""
    configure(MARK_KEY="user")
    mine = browser()
    mine.post("enter")
    response = mine.client.get("/read")
    response = response if hasattr(response, "headers") else run(response)
    assert "Vary" not in response.headers


def reading_outside(get_response):
    def middleware(request):
        request.seen = [title(), title()]
        response = get_response(request)
        response.headers["X-Seen"] = " ".join(request.seen)
        return response

    return middleware


def test_before_the_session_is_there(configure, settings):
    """A middleware that reads before ``SessionMiddleware`` has run reads the leader."""
    configure(MARK_KEY="user")
    first, *others = settings.MIDDLEWARE
    settings.MIDDLEWARE = [first, f"{__name__}.reading_outside", *others]
    mine = Client()
    assert set(mine.post("/enter").headers["X-Seen"].split()) <= {"default"}
    response = mine.get("/read")
    assert response.headers["X-Seen"] == "default default"
    assert json.loads(response.content) in FOLLOWERS


# By a function of the project


@pytest.mark.parametrize("function", [device, owner])
def test_by_whatever_a_project_knows(browser, configure, function):
    """The function may read the database: its reads go to the leader, and ask for no marks."""
    configure(MARK_KEY=f"{__name__}.{function.__name__}")
    one, same, another, nobody = (
        browser(**headers)
        for headers in ({"X-Device": "1"}, {"X-Device": "1"}, {"X-Device": "2"}, {})
    )
    assert COOKIE not in one.post("save").cookies
    assert [one.get("read"), same.get("read")] == ["default"] * 2
    assert {another.get("read"), nobody.get("read")} <= FOLLOWERS
    assert COOKIE in nobody.post("save").cookies


def test_keys_of_another_kind(browser, configure):
    """A user and a device of the same name are two."""
    configure(MARK_KEY="user")
    mine = browser()
    mine.post("enter?user=1")
    mine.post("save")
    configure(MARK_KEY=f"{__name__}.device")
    assert browser(**{"X-Device": "1"}).get("read") in FOLLOWERS


# On an event loop


def test_marks_that_nobody_may_ask_for(configure):
    """There the cache is not waited for: every set is its leader's, until a thread asks."""
    mine = AsyncBrowser()
    mine.post("enter")
    assert mine.get("read_on_loop")[:2] == [["default", "other"], True]
    assert mine.get("read_on_loop")[2] in FOLLOWERS
    mine.post("save")
    assert mine.get("read_on_loop")[2] == "default"
    assert mine.get("forget_on_loop") in FOLLOWERS


def test_marks_of_who_has_no_key(configure):
    """Where there is nothing to ask, it is known on the loop too."""
    assert AsyncBrowser().get("read_on_loop")[:2] == [[], False]
    configure(MARK_KEY=f"{__name__}.device")
    assert AsyncBrowser().get("read_on_loop")[:2] == [["default", "other"], True]


# Caches that fail


def of_ours(caplog):
    return [record for record in caplog.records if record.name == "django_replicas"]


def test_a_cache_that_keeps_nothing(browser, settings, caplog):
    """The cookie carries what the cache does not, which is logged once."""
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
    mine = browser()
    mine.post("enter")
    for _ in range(2):
        assert COOKIE in mine.post("save").cookies
    assert mine.get("read") == "default"
    (record,) = of_ours(caplog)
    assert record.levelno == logging.WARNING
    assert "The cache 'default' does not keep marks" in record.getMessage()


def test_a_cache_in_the_database(configure, settings, caplog):
    """It may be in the very set: to ask it is neither a read of the unit nor a write."""
    in_database = "django.core.cache.backends.db.DatabaseCache"
    settings.CACHES = {"default": {"BACKEND": in_database, "LOCATION": "kept_marks"}}
    call_command("createcachetable", database="default", verbosity=0)
    mine = Browser()
    mine.post("enter")
    assert mine.get("read") in FOLLOWERS
    assert COOKIE not in mine.post("save").cookies
    assert mine.get("read") == "default"
    assert not of_ours(caplog)


def test_a_project_without_sets(configure):
    """There is nothing to keep, and nothing to wait for."""
    configure(SETS={})
    configure(SETS={}, MARK_KEY=f"{__name__}.device")
    request = RequestFactory().get("/", headers={"X-Device": "1"})
    assert CacheStore().load(request) == {}
    response = HttpResponse()
    CacheStore().save(request, response, {})
    assert not response.cookies


# Real caches


@pytest.fixture(scope="module")
def servers():
    try:
        memcached, redis = Memcached(), Redis()
    except (MemcachedNotFound, RedisNotFound) as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    with ExitStack() as stack:
        yield stack.enter_context(memcached), stack.enter_context(redis)


@pytest.fixture(params=["memcached", "redis"])
def shared(request, servers):
    """Return the settings of a real cache, which is empty."""
    memcached, redis = servers
    if request.param == "memcached":
        return {"BACKEND": PYMEMCACHE, "LOCATION": memcached.location, "OPTIONS": PATIENT}
    return {"BACKEND": REDIS, "LOCATION": redis.url}


@pytest.fixture
def in_shared(shared, browser, settings):
    settings.CACHES = {"default": {**shared, "KEY_PREFIX": str(uuid4())}}
    yield
    caches["default"].close()


@pytest.mark.usefixtures("in_shared")
def test_on_real_servers(browser, configure):
    """What was written on one device is seen on the other."""
    configure(MARK_KEY="user")
    laptop, phone = browser(), browser()
    laptop.post("enter")
    phone.post("enter")
    assert phone.get("read") in FOLLOWERS
    assert COOKIE not in laptop.post("save").cookies
    assert phone.get("read") == "default"


def test_marks_expire(configure, servers, settings):
    """A cache forgets them when nobody can need them any more, and not before."""
    _, redis = servers
    settings.CACHES = {"default": {"BACKEND": REDIS, "LOCATION": redis.url, "KEY_PREFIX": "ends"}}
    configure(MARK_KEY=f"{__name__}.device", MARK_SECONDS=100, PIN_SECONDS=5)
    request = RequestFactory().get("/", headers={"X-Device": "1"})
    for _ in range(2):
        CacheStore().save(request, HttpResponse(), {"default": Mark.lasting(5)})
    client = cache._cache.get_client()
    lasting = sorted(map(client.ttl, client.keys("ends*")))
    cache.close()
    assert 90 <= lasting[0] <= 101
    assert 101 < lasting[1] <= lasting[-1] <= 161


def test_racing_processes(shared):
    """Of responses of one client that end at once, in several processes, no mark is lost."""
    racers = 4
    caches_of_all = json.dumps({"default": {**shared, "KEY_PREFIX": str(uuid4())}})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.racer", caches_of_all, f"leader{n}", "60", str(racers)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(racers)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [errors for _, errors in outputs] == [""] * racers
    assert [output.strip() for output, _ in outputs] == ["60"] * racers


def test_a_server_that_dies(configure, servers, settings, caplog):
    """Users with a key read the leader, new marks go into the cookie, and it is logged once."""
    memcached, _ = servers
    settings.CACHES = {
        "default": {"BACKEND": PYMEMCACHE, "LOCATION": memcached.location, "OPTIONS": PATIENT}
    }
    configure(MARK_KEY=f"{__name__}.device")
    mine, anonymous = Browser(**{"X-Device": "1"}), Browser()
    assert mine.get("read") in FOLLOWERS
    memcached.kill()
    try:
        assert mine.get("read") == "default"
        assert anonymous.get("read") in FOLLOWERS
        assert COOKIE in mine.post("save").cookies
        assert mine.get("read") == "default"
    finally:
        memcached.start()
    (record,) = of_ours(caplog)
    assert re.match(
        "The cache 'default' fails, so that users whose marks it keeps read the leader: ",
        record.getMessage(),
    )
