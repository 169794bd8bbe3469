"""The request middleware: units, roles, marks in and out, streamed bodies."""

import asyncio
import gc
import io
import json
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from types import ModuleType

import pytest
from asgiref.sync import iscoroutinefunction, sync_to_async
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.core.wsgi import get_wsgi_application
from django.db import connections, transaction
from django.http import FileResponse, Http404, HttpResponse, JsonResponse, StreamingHttpResponse
from django.test import AsyncClient, AsyncRequestFactory, Client, RequestFactory, override_settings
from django.urls import path
from django.utils.cache import has_vary_header

from django_replicas import follower, get_newly_pinned, leader, pin, unit_of_work, unpin_all
from django_replicas.exceptions import ReplicasConfigError
from django_replicas.http import role_of
from django_replicas.marks import Mark
from django_replicas.middleware import ReplicasMiddleware
from django_replicas.scopes import current_scope, current_unit
from django_replicas.stores import CookieStore
from django_replicas.units import Role

from .shop.deeds import aanswer, answer, awrite, write
from .shop.models import Book

FOLLOWERS = {"replica1", "replica2"}
COOKIE = "replicas_mark"
SAFE = ["GET", "HEAD", "OPTIONS", "TRACE"]
UNSAFE = ["POST", "PUT", "PATCH", "DELETE", "CONNECT", "PROPFIND", "get"]


def titles(request):
    return JsonResponse([answer()], safe=False)


@pytest.fixture(autouse=True)
def closed_connections_of_the_loop(databases):
    """Close what `sync_to_async` opened in the one thread that it uses outside requests."""
    yield
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(sync_to_async(connections.close_all)())).result()


def respond(view, method="POST", cookies=None, **options):
    """Send one request through the middleware to a sync view."""
    request = RequestFactory().generic(method, "/", **options)
    request.COOKIES.update(cookies or {})
    return ReplicasMiddleware(view)(request)


async def arespond(view, method="POST", cookies=None, **options):
    """Send one request through the middleware to an async view."""
    request = AsyncRequestFactory().generic(method, "/", **options)
    request.COOKIES.update(cookies or {})
    return await ReplicasMiddleware(view)(request)


@pytest.fixture(params=["sync", "async"])
def send(request):
    """Send one request through the middleware, to a view that is sync or made async."""
    if request.param == "sync":
        return respond

    def send_async(view, *args, **kwargs):
        async def main():
            try:
                return await arespond(sync_to_async(view), *args, **kwargs)
            finally:
                await sync_to_async(connections.close_all)()

        return asyncio.run(main())

    return send_async


def saving(request):
    write()
    return HttpResponse("saved")


# Sync and async


def test_sync_and_async_natively():
    """The middleware is of the kind of what it wraps."""

    async def view(request):
        return HttpResponse()

    assert ReplicasMiddleware.sync_capable
    assert ReplicasMiddleware.async_capable
    assert iscoroutinefunction(ReplicasMiddleware(view))
    assert not iscoroutinefunction(ReplicasMiddleware(lambda request: HttpResponse()))


async def test_async_view_runs_on_its_own_loop():
    """No thread is put between the server and the view."""
    loops = []

    async def view(request):
        loops.append(asyncio.get_running_loop())
        return HttpResponse()

    await arespond(view)
    assert loops == [asyncio.get_running_loop()]


def test_each_request_is_a_unit_of_its_own(send):
    """It is closed afterwards, and the next one knows nothing of it."""
    units = []

    def view(request):
        units.append(current_unit())
        pin("default")
        return titles(request)

    send(view, "GET")
    send(view, "GET")
    assert None not in units
    assert units[0] is not units[1]
    assert current_unit() is None


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_is_gone_with_its_response(method):
    """Nothing of a unit is in a cycle: request and all would wait for the garbage collector."""

    def view(request):
        if method == "POST":
            write()
        return titles(request)

    respond(view, method)
    request = RequestFactory().generic(method, "/")
    gone = weakref.ref(request)
    gc.collect()
    gc.disable()
    try:
        ReplicasMiddleware(view)(request)
        del request
        assert gone() is None
    finally:
        gc.enable()


def test_unit_is_closed_after_an_exception():
    """Whatever the view raises goes on, and the unit is gone."""

    def view(request):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        respond(view)
    assert current_unit() is None


async def test_unit_is_closed_after_an_exception_and_after_cancellation():
    """Likewise on a loop."""
    inside = asyncio.Event()

    async def failing(request):
        raise ZeroDivisionError

    async def endless(request):
        inside.set()
        await asyncio.Event().wait()

    with pytest.raises(ZeroDivisionError):
        await arespond(failing)
    assert current_unit() is None
    task = asyncio.create_task(arespond(endless))
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert current_unit() is None


def test_request_inside_a_unit(send):
    """A test's own unit around the client is as it was afterwards."""
    with unit_of_work():
        outer = current_unit()
        send(titles, "GET")
        assert current_unit() is outer


def test_request_on_a_thread_with_an_implicit_unit(settings):
    """Neither knows of the other: a thread's requests are not each other's."""
    settings.REPLICAS = {**settings.REPLICAS, "OUTSIDE_UNITS": "routed"}

    def work():
        try:
            respond(saving)
            before = answer()
            write()
            return before, answer(), json.loads(respond(titles, "GET").content)[0]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        before, after, in_request = pool.submit(work).result()
    assert before in FOLLOWERS
    assert after == "default"
    assert in_request in FOLLOWERS


# Roles


@pytest.mark.parametrize("method", SAFE)
def test_role_of_safe_methods(method):
    """RFC 9110 says which they are."""
    assert role_of(RequestFactory().generic(method, "/")) is Role.FOLLOWER


@pytest.mark.parametrize("method", UNSAFE)
def test_role_of_other_methods(method):
    """Whatever else a method is called, it may write."""
    request = RequestFactory().get("/")
    request.method = method
    assert role_of(request) is Role.LEADER


@pytest.mark.parametrize(("method", "expected"), [("GET", FOLLOWERS), ("POST", {"default"})])
@pytest.mark.parametrize("router", ["LeaderFollowerRouter", "StrictPinRouter", "GreedyPinRouter"])
def test_role_is_obeyed_by_every_router(send, settings, router, method, expected):
    """Safe methods read a follower, others the leader, from their first read on."""
    settings.DATABASE_ROUTERS = [f"django_replicas.routers.{router}"]
    roles = []

    def view(request):
        roles.append(current_scope().role)
        return HttpResponse(answer())

    assert send(view, method).content.decode() in expected
    assert roles == [Role.FOLLOWER if method == "GET" else Role.LEADER]


# Marks out


def test_response_of_a_unit_that_wrote(send):
    """It carries the mark, whose attributes keep it from scripts and from other sites."""
    response = send(saving)
    morsel = response.cookies[COOKIE]
    assert morsel["path"] == "/"
    assert morsel["httponly"] is True
    assert morsel["samesite"] == "Lax"
    assert not morsel["secure"]
    assert not morsel["domain"]
    assert 15 <= morsel["max-age"] <= 16
    assert has_vary_header(response, "Cookie")


def test_response_of_a_unit_that_pinned(send):
    """A pin that counts as new is carried as a write is."""

    def view(request):
        pin("default")
        return HttpResponse()

    assert COOKIE in send(view, "GET").cookies


def passing(request):
    answer()
    return HttpResponse()


def pinning_for_itself(request):
    pin("default", count_as_new=False)
    with pin("default"), leader("default"):
        write()
        return HttpResponse()


def pinning_and_unpinning(request):
    pin("default")
    unpin_all()
    return HttpResponse()


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("view", [passing, pinning_for_itself, pinning_and_unpinning])
def test_response_of_a_unit_that_owes_nothing(send, view, method):
    """No cookie and no Vary header, whatever the method is."""
    response = send(view, method)
    assert not response.cookies
    assert not response.has_header("Vary")


def test_mark_that_came_is_not_sent_back(send):
    """A request that only reads renews nothing."""
    cookies = {COOKIE: send(saving).cookies[COOKIE].value}
    response = send(titles, "GET", cookies)
    assert response.content == b'["default"]'
    assert not response.cookies


def test_mark_that_came_is_handed_on_with_a_new_one(send):
    """A write to one set does not make the user forget the other."""

    def saving_elsewhere(request):
        Book.objects.using("other").filter(pk=1).update(note="written")
        return HttpResponse()

    def pinned(request):
        found = current_unit()
        return JsonResponse([found.is_marked("default"), found.is_marked("other")], safe=False)

    first = {COOKIE: send(saving).cookies[COOKIE].value}
    assert send(pinned, "GET", first).content == b"[true, false]"
    both = {COOKIE: send(saving_elsewhere, "POST", first).cookies[COOKIE].value}
    assert send(pinned, "GET", both).content == b"[true, true]"


def test_write_forgotten_by_unpin_all_is_carried(send):
    """The unit may begin afresh; the user still wants to see the write."""

    def view(request):
        write()
        unpin_all()
        return HttpResponse()

    assert COOKIE in send(view).cookies


def test_write_of_an_inner_unit_is_carried(send):
    """It is the request's, too."""

    def view(request):
        with unit_of_work():
            write()
        return HttpResponse(",".join(get_newly_pinned()))

    response = send(view)
    assert response.content == b"default"
    assert COOKIE in response.cookies


def test_write_of_a_rolled_back_transaction_is_carried(send):
    """Doubt means the leader."""

    def view(request):
        with transaction.atomic():
            write()
            transaction.set_rollback(True)
        return HttpResponse()

    assert COOKIE in send(view).cookies


def test_secure_as_the_request_is(send):
    """A cookie that came over TLS goes back over nothing else."""
    with override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https")):
        response = send(saving, headers={"X-Forwarded-Proto": "https"})
        assert response.cookies[COOKIE]["secure"] is True


def test_every_attribute_is_configurable(send, settings):
    """COOKIE says what they are."""
    settings.REPLICAS = {
        **settings.REPLICAS,
        "PIN_SECONDS": 3,
        "COOKIE": {
            "NAME": "fresh",
            "PATH": "/shop",
            "DOMAIN": "example.com",
            "SECURE": True,
            "HTTPONLY": False,
            "SAMESITE": "Strict",
        },
    }
    response = send(saving)
    morsel = response.cookies["fresh"]
    assert list(response.cookies) == ["fresh"]
    assert (morsel["path"], morsel["domain"]) == ("/shop", "example.com")
    assert (morsel["secure"], morsel["httponly"], morsel["samesite"]) == (True, "", "Strict")
    assert 3 <= morsel["max-age"] <= 4
    assert send(titles, "GET", {"fresh": morsel.value}).content == b'["default"]'


def test_cookie_that_is_never_secure(send, settings):
    """False is no "as the request is"."""
    settings.REPLICAS = {**settings.REPLICAS, "COOKIE": {"SECURE": False}}
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    response = send(saving, headers={"X-Forwarded-Proto": "https"})
    assert not response.cookies[COOKIE]["secure"]


def test_cookie_holds_no_mark_that_is_past():
    """What came with the request and has ended meanwhile is not sent back."""
    store = CookieStore(clock=lambda: 1000.5)
    request, response = RequestFactory().get("/"), HttpResponse()
    store.save(request, response, {"default": Mark(1010), "other": Mark(1000)})
    assert response.cookies[COOKIE]["max-age"] == 10
    request.COOKIES[COOKIE] = response.cookies[COOKIE].value
    earlier = CookieStore(clock=lambda: 999)
    assert earlier.load(request) == {"default": Mark(1010)}
    later = CookieStore(clock=lambda: 1010)
    assert later.load(request) == {}


# Exceptions that become responses


@pytest.mark.parametrize(
    ("error", "status"), [(ZeroDivisionError, 500), (Http404, 404), (PermissionDenied, 403)]
)
def test_exception_after_a_commit(error, status):
    """Its response carries the mark: what was committed is to be seen."""

    def view(request):
        write()
        raise error

    client = Client(raise_request_exception=False)
    with override_settings(ROOT_URLCONF=urlconf(view)):
        response = client.post("/")
        assert response.status_code == status
        assert COOKIE in response.cookies


async def test_exception_after_a_commit_async():
    """Likewise under ASGI."""

    async def view(request):
        await awrite()
        raise ZeroDivisionError

    client = AsyncClient(raise_request_exception=False)
    with override_settings(ROOT_URLCONF=urlconf(view)):
        response = await client.post("/")
        assert response.status_code == 500
        assert COOKIE in response.cookies


def urlconf(view):
    """Return a URL configuration with one view."""
    module = ModuleType("urlconf")
    module.urlpatterns = [path("", view)]
    return module


# Disabled


def test_disabled_routing(send, settings):
    """All goes to the leader, nothing is carried, and no cookie is believed."""
    cookies = {COOKIE: send(saving).cookies[COOKIE].value}
    settings.REPLICAS = {**settings.REPLICAS, "ENABLED": False}
    assert send(titles, "GET").content == b'["default"]'
    assert send(titles, "GET", cookies).content == b'["default"]'
    assert not send(saving).cookies

    def pinning(request):
        pin("default")
        with follower("default"):
            return titles(request)

    response = send(pinning)
    assert response.content == b'["default"]'
    assert not response.cookies


# Sessions


def test_writes_of_the_session_make_no_mark(settings):
    """Not even where every request saves it."""
    settings.SESSION_SAVE_EVERY_REQUEST = True
    client = Client()
    for _ in range(2):
        response = client.get("/sync/touch")
        assert settings.SESSION_COOKIE_NAME in response.cookies
        assert COOKIE not in response.cookies
        assert set(response.json()) <= FOLLOWERS


def test_session_is_read_from_the_leader():
    """Its rows exist nowhere else here, and it is found again."""
    client = Client()
    client.get("/sync/touch")
    client.get("/sync/touch")
    assert client.session["visits"] == 2


# Page caches


CACHED = [
    "django.middleware.cache.UpdateCacheMiddleware",
    "django_replicas.middleware.ReplicasMiddleware",
    "django.middleware.cache.FetchFromCacheMiddleware",
]


@pytest.fixture
def page_cache(settings):
    """Put Django's page cache in front of the middleware."""
    settings.MIDDLEWARE = CACHED
    cache.clear()
    yield
    cache.clear()


def test_page_cache_does_not_serve_one_users_mark_to_others(page_cache):
    """A page with a mark is not stored: nobody else is sent to the leader by it."""
    first = Client().get("/sync/by-get/cached-1")
    assert COOKIE in first.cookies
    assert has_vary_header(first, "Cookie")
    Book.objects.filter(code="cached-1").delete()
    second = Client().get("/sync/by-get/cached-1")
    assert second.cookies[COOKIE].value
    assert Book.objects.filter(code="cached-1").exists()


def test_page_cache_serves_other_pages(page_cache):
    """A page without a mark is stored as ever, and served without routing anything."""
    first, second = Client().get("/sync/title"), Client().get("/sync/title")
    assert first.content == second.content
    assert first.headers["Expires"] == second.headers["Expires"]
    assert not second.cookies


# Other stores


class Notebook:
    """Keeps marks in a dict, by user agent."""

    marks = {}  # noqa: RUF012 - the point is that it is shared

    def load(self, request):
        return self.marks.get(request.headers.get("User-Agent"), {})

    def save(self, request, response, marks):
        self.marks[request.headers.get("User-Agent")] = marks


def test_store_by_its_dotted_path(send, settings):
    """It is asked for marks, and given those of the units that wrote, and no cookie is set."""
    settings.REPLICAS = {**settings.REPLICAS, "MARK_STORE": f"{__name__}.Notebook"}
    Notebook.marks.clear()
    mine = {"headers": {"User-Agent": "mine"}}
    assert not send(saving, **mine).cookies
    assert set(Notebook.marks) == {"mine"}
    assert isinstance(Notebook.marks["mine"]["default"], Mark)
    assert send(titles, "GET", **mine).content == b'["default"]'
    yours = send(titles, "GET", headers={"User-Agent": "yours"})
    assert set(json.loads(yours.content)) <= FOLLOWERS


def test_store_is_asked_only_when_a_read_needs_it(send, settings):
    """A request without a query costs nothing."""
    settings.REPLICAS = {**settings.REPLICAS, "MARK_STORE": "tests.nowhere.Store"}
    assert send(lambda request: HttpResponse("ok"), "GET").content == b"ok"
    with pytest.raises(ReplicasConfigError):
        send(titles, "GET")


# Streamed bodies


def streamed(request):
    if request.method == "POST":
        write()
    return StreamingHttpResponse(f"{answer()}\n" for _ in range(4))


async def streamed_async(request):
    if request.method == "POST":
        await awrite()

    async def body():
        for _ in range(4):
            yield f"{await aanswer()}\n"

    return StreamingHttpResponse(body())


def test_body_is_iterated_inside_its_unit():
    """After the middleware has returned, in the unit and the role of the request."""
    seen = []

    def view(request):
        unit = current_unit()

        def body():
            seen.append((current_unit() is unit, current_scope().role))
            yield b"part"

        return StreamingHttpResponse(body())

    response = respond(view, "GET")
    assert seen == []
    assert b"".join(response) == b"part"
    assert seen == [(True, Role.FOLLOWER)]
    assert current_unit() is None


def test_body_after_a_post_reads_the_leader():
    """It sees what the request wrote."""
    assert b"".join(respond(streamed)).split() == [b"default"] * 4


def test_body_after_a_get_reads_the_units_follower():
    """The one that the view has read."""

    def body(before):
        yield before
        for _ in range(9):
            yield answer()

    def view(request):
        return StreamingHttpResponse(body(answer()))

    parts = list(respond(view, "GET"))
    assert len(parts) == 10
    assert len(set(parts)) == 1
    assert parts[0].decode() in FOLLOWERS


def test_body_is_left_between_its_parts():
    """Who iterates is outside the unit, or in their own, while they hold a part."""
    response = respond(streamed, "GET")
    with unit_of_work():
        outer = current_unit()
        for _ in response:
            assert current_unit() is outer
    assert current_unit() is None


def test_two_bodies_in_turns():
    """Each goes on in its own unit."""
    one, other = iter(respond(streamed)), iter(respond(streamed, "GET"))
    pairs = list(zip(one, other, strict=True))
    assert {first for first, _ in pairs} == {b"default\n"}
    assert len({second for _, second in pairs}) == 1
    assert {second.decode().strip() for _, second in pairs} <= FOLLOWERS


def test_body_that_writes_reads_its_write():
    """The unit is the same one to the end."""

    def view(request):
        def body():
            yield answer()
            write()
            yield answer()

        return StreamingHttpResponse(body())

    before, after = (part.decode() for part in respond(view, "GET"))
    assert before in FOLLOWERS
    assert after == "default"


def test_body_that_fails():
    """Its exception goes on, and the unit is left."""

    def view(request):
        def body():
            yield b"part"
            raise ZeroDivisionError

        return StreamingHttpResponse(body())

    parts = iter(respond(view))
    assert next(parts) == b"part"
    with pytest.raises(ZeroDivisionError):
        next(parts)
    assert current_unit() is None


def test_body_that_is_no_generator():
    """A list and any other iterable are as good."""
    parts = list(respond(lambda request: StreamingHttpResponse(["one", b"two"])))
    assert parts == [b"one", b"two"]


def test_body_is_closed_with_its_response():
    """Whether it was read or not, what the view opened is closed once."""
    closed = []

    class Body:
        def __iter__(self):
            return iter([b"one", b"two"])

        def close(self):
            closed.append("body")

    for parts in (0, 1, 2):
        response = respond(lambda request: StreamingHttpResponse(Body()))
        body = iter(response)
        for _ in range(parts):
            next(body)
        response.close()
    assert closed == ["body"] * 3


def test_generator_is_closed_with_its_response():
    """Its `finally` runs in its unit when the client has gone away, and a block ends there."""
    events = []

    def view(request):
        unit = current_unit()

        def body():
            try:
                with leader("default"):
                    yield b"one"
                    yield b"two"
            finally:
                events.append((current_unit() is unit, dict(current_scope().overrides)))

        return StreamingHttpResponse(body())

    response = respond(view)
    assert next(iter(response)) == b"one"
    response.close()
    assert events == [(True, {})]
    assert current_unit() is None


async def test_async_generator_is_closed_in_its_unit():
    """Also when whoever iterated has gone away."""
    events = []

    async def view(request):
        unit = current_unit()

        async def body():
            try:
                yield b"one"
                yield b"two"
            finally:
                events.append(current_unit() is unit)

        return StreamingHttpResponse(body())

    response = await arespond(view, "GET")
    async with aclosing(response.streaming_content) as parts:
        assert await anext(parts) == b"one"
    response.close()
    del response, parts
    gc.collect()
    for _ in range(3):
        await asyncio.sleep(0)
    assert events == [True]
    assert current_unit() is None


async def test_async_body_after_a_post_reads_the_leader():
    """It sees what the request wrote."""
    response = await arespond(streamed_async)
    assert [part async for part in response] == [b"default\n"] * 4


async def test_async_body_after_a_get_reads_the_units_follower():
    """One and the same."""
    response = await arespond(streamed_async, "GET")
    parts = [part.decode().strip() async for part in response]
    assert len(parts) == 4
    assert len(set(parts)) == 1
    assert set(parts) <= FOLLOWERS


async def test_async_body_is_left_between_its_parts():
    """Who iterates is outside the unit while they hold a part."""
    response = await arespond(streamed_async, "GET")
    async for _ in response:
        assert current_unit() is None
    assert current_unit() is None


async def test_async_body_that_is_no_generator():
    """Nothing more than its parts is asked of it."""

    class Body:
        def __init__(self):
            self.parts = [b"one", b"two"]

        def __aiter__(self):
            return self

        async def __anext__(self):
            if not self.parts:
                raise StopAsyncIteration
            return self.parts.pop(0)

    async def view(request):
        return StreamingHttpResponse(Body())

    assert [part async for part in await arespond(view)] == [b"one", b"two"]


async def test_async_body_that_fails_or_is_cancelled():
    """The unit is left in either case."""
    waiting = asyncio.Event()

    async def view(request):
        async def body():
            yield b"part"
            waiting.set()
            await asyncio.Event().wait()

        return StreamingHttpResponse(body())

    async def consume():
        try:
            async for _ in await arespond(view):
                pass
        finally:
            units.append(current_unit())

    units = []
    task = asyncio.create_task(consume())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert units == [None]


async def test_async_body_that_is_iterated_in_another_task():
    """A server may do so; the unit is still the request's."""
    response = await arespond(streamed_async)

    async def consume():
        return [part async for part in response]

    assert await asyncio.create_task(consume()) == [b"default\n"] * 4


def test_file_is_left_alone():
    """The server may send it by itself, so it must find it where Django put it."""
    content = io.BytesIO(b"contents")
    response = respond(lambda request: (write(), FileResponse(content))[1])
    assert response.file_to_stream is content
    assert response.streaming_content is not None
    assert b"".join(response) == b"contents"
    assert COOKIE in response.cookies
    response.close()
    assert content.closed


def test_file_wrapper_of_the_server_is_used():
    """As WSGI says it may be."""

    class Wrapper:
        def __init__(self, file, block_size):
            self.file = file

        def __iter__(self):
            return iter([self.file.read()])

    environ = RequestFactory().get("/sync/file").environ | {"wsgi.file_wrapper": Wrapper}
    body = get_wsgi_application()(environ, lambda *args: None)
    assert isinstance(body, Wrapper)
    assert b"".join(body) == b"contents"
    # Left to the garbage collector, it would end the request in the middle of another test.
    body.file.close()


@pytest.mark.parametrize(
    "block",
    [lambda: leader("default"), lambda: unit_of_work(role="leader"), lambda: pin("default")],
)
def test_block_inside_a_body_goes_on_between_its_parts(block):
    """What the body opened holds until the body leaves it."""

    def view(request):
        def body():
            with block():
                for _ in range(3):
                    yield f"{answer()} "
            yield "end"

        return StreamingHttpResponse(body())

    assert b"".join(respond(view, "GET")) == b"default default default end"


async def test_block_inside_an_async_body_goes_on_between_its_parts():
    """So it does where the body is asynchronous."""

    async def view(request):
        async def body():
            with leader("default"):
                for _ in range(3):
                    yield f"{await aanswer()} "

        return StreamingHttpResponse(body())

    response = await arespond(view, "GET")
    assert [part async for part in response] == [b"default "] * 3
