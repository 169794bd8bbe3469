"""The ways in which routers of this kind go wrong, each over real requests, WSGI and ASGI.

No follower ever replicates here: what a user wrote is on the leader alone, and whoever reads a
follower does not see it.
"""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from http.cookies import SimpleCookie
from itertools import count
from pathlib import Path
from threading import Barrier

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.core.asgi import get_asgi_application
from django.core.management import call_command
from django.core.signing import Signer
from django.core.wsgi import get_wsgi_application
from django.db import connections
from django.db.backends.signals import connection_created
from django.test import AsyncClient, Client
from django.test.client import RequestFactory
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from django_replicas import unit_of_work

from .shop.models import Book

FOLLOWERS = {"replica1", "replica2"}
COOKIE = "replicas_mark"
SECOND_REQUEST = {"X-Requested-With": "XMLHttpRequest"}
# Django reads to its end what is iterated under the other kind of server, and warns of it.
ANY_ITERATOR = pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")
codes = count()


class Browser:
    """Keeps cookies as a browser does, and talks to the project through one of its two doors."""

    def __init__(self, door, views):
        self.client = Client() if door == "wsgi" else AsyncClient()
        self.views = views
        self._visit = self._visit_wsgi if door == "wsgi" else async_to_sync(self._visit_asgi)

    def get(self, path, **options):
        return self._visit("get", f"/{self.views}/{path}", options)

    def post(self, path, **options):
        return self._visit("post", f"/{self.views}/{path}", options)

    def _visit_wsgi(self, method, path, options):
        response = getattr(self.client, method)(path, **options)
        return response, b"".join(response)

    async def _visit_asgi(self, method, path, options):
        response = await getattr(self.client, method)(path, **options)
        if not response.streaming:
            return response, response.content
        return response, b"".join([part async for part in response])

    def answer(self, path, method="get", **options):
        """Return the JSON that a page answers; every page of these tests is to succeed."""
        response, body = getattr(self, method)(path, **options)
        assert response.status_code == 200
        return json.loads(body)


@pytest.fixture(params=["wsgi-sync", "wsgi-async", "asgi-sync", "asgi-async"])
def browser(request):
    """Visit sync and async views, through WSGI and through ASGI."""
    return Browser(*request.param.split("-"))


@pytest.fixture(params=["wsgi", "asgi"])
def visitor(request):
    """Visit sync views, through WSGI and through ASGI."""
    return Browser(request.param, "sync")


@pytest.fixture(autouse=True)
def patient_connections(databases, monkeypatch):
    """Let SQLite's writers wait for each other; close what `sync_to_async` opened by itself."""
    for database in connections.settings.values():
        monkeypatch.setitem(database, "OPTIONS", {"timeout": 60})
    yield
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(sync_to_async(connections.close_all)())).result()


def a_code():
    return f"book-{next(codes)}"


# One GET


def test_ten_reads_of_one_get_use_one_follower(browser):
    """The page does not go back and forth in time."""
    pages = [browser.answer("title") for _ in range(20)]
    assert {len(titles) for titles in pages} == {10}
    assert all(len(set(titles)) == 1 for titles in pages)
    assert {titles[0] for titles in pages} == FOLLOWERS


def test_get_opens_its_follower_alone(visitor):
    """No leader is connected to by a page that only reads, nor any other follower."""
    opened = []
    connections.close_all()

    def note(connection, **kwargs):
        opened.append(connection.alias)

    connection_created.connect(note)
    try:
        (title, *_) = visitor.answer("title")
    finally:
        connection_created.disconnect(note)
    assert opened == [title]


# After a POST


@pytest.mark.parametrize("with_session", [False, True])
@pytest.mark.parametrize("then", ["", "?redirect"])
def test_requests_after_a_post_see_the_write(browser, then, with_session, settings):
    """The page after a redirect or a 200, its second request, and its own XHR."""
    if with_session:
        as_sync(browser).answer("touch")
        assert settings.SESSION_COOKIE_NAME in browser.client.cookies
    else:
        settings.MIDDLEWARE = settings.MIDDLEWARE[:1]
    code = a_code()
    assert browser.answer(f"books/{code}")["found"] is False
    response, body = browser.post(f"books/{code}{then}")
    if then:
        assert response.status_code == 302
    else:
        assert json.loads(body) == {"found": True, "titles": ["default"] * 3}
    for headers in ({}, {}, SECOND_REQUEST, {}):
        seen = browser.answer(f"books/{code}", headers=headers)
        assert seen == {"found": True, "titles": ["default"] * 3}


def as_sync(browser):
    """Return a browser with the same cookies that visits the sync views."""
    other = object.__new__(Browser)
    other.__dict__.update(browser.__dict__, views="sync")
    return other


def test_post_reads_what_it_writes(browser):
    """Within the request, before and after the write, all is on the leader."""
    assert browser.answer("title", "post") == ["default"] * 10


def test_others_go_on_reading_followers(browser):
    """One user's write sends nobody else to the leader."""
    browser.post(f"books/{a_code()}")
    assert set(Browser("wsgi", "sync").answer("title")) <= FOLLOWERS


def test_user_returns_to_the_followers(browser, settings):
    """A mark is a matter of seconds."""
    settings.REPLICAS = {**settings.REPLICAS, "PIN_SECONDS": 0.01}
    browser.post(f"books/{a_code()}")
    while browser.answer("title")[0] == "default":
        pass


def test_mark_that_is_past_before_it_is_sent(browser, settings):
    """However short PIN_SECONDS is, a request that wrote is answered."""
    settings.REPLICAS = {**settings.REPLICAS, "PIN_SECONDS": 1e-9}
    assert browser.answer(f"books/{a_code()}", "post")["found"] is True


def test_request_that_was_under_way_does_not_undo_the_mark(browser):
    """A GET's answer that comes late has no cookie, so the mark stays."""
    code = a_code()
    browser.post(f"books/{code}")
    late, _ = Browser("wsgi", "sync").get("title")
    browser.client.cookies.update(late.cookies)
    assert browser.answer(f"books/{code}")["found"] is True


def test_get_that_writes_reads_its_write_and_so_does_the_next(browser):
    """Greedy: before the write a follower, from then on the leader."""
    code = a_code()
    page = browser.answer(f"by-get/{code}")
    assert page["before"] in FOLLOWERS
    assert (page["found"], page["titles"]) == (True, ["default"])
    assert browser.answer(f"books/{code}") == {"found": True, "titles": ["default"] * 3}


def test_polling_by_post_renews_no_pin(browser):
    """A POST that writes nothing sets no cookie, so the next GET reads a follower."""
    for _ in range(3):
        response, _ = browser.post("title")
        assert COOKIE not in response.cookies
        assert set(browser.answer("title")) <= FOLLOWERS


@ANY_ITERATOR
def test_streamed_body_after_a_post(browser):
    """It is read while the request is already answered, and still sees what the request wrote."""
    response, body = browser.post("stream")
    assert body.split() == [b"default"] * 5
    assert COOKIE in response.cookies


@ANY_ITERATOR
def test_streamed_body_of_a_get(browser):
    """It is read from one follower."""
    _, body = browser.get("stream")
    assert len(set(body.split())) == 1
    assert {title.decode() for title in body.split()} <= FOLLOWERS


def test_failed_request_that_wrote(browser):
    """What was committed before the exception must be seen, too."""
    browser.client.raise_request_exception = False
    response, _ = browser.post("fail")
    assert response.status_code == 500
    assert COOKIE in response.cookies
    assert browser.answer("title") == ["default"] * 10


def test_session_writes_are_nobodys_business(visitor):
    """Visiting a page that counts visits in the session pins nothing."""
    for _ in range(3):
        response, body = visitor.get("touch")
        assert set(json.loads(body)) <= FOLLOWERS
        assert COOKIE not in response.cookies


# Transactions and relations


def test_reads_inside_atomic(browser):
    """They go to the leader, those before and after to the follower."""
    page = browser.answer("transaction")
    assert page["inside"] == "default"
    assert page["before"] == page["after"]
    assert page["before"] in FOLLOWERS


def test_related_sets_of_an_object_from_the_leader(browser):
    """They stay there, prefetched ones too; those of another object stay with the follower."""
    page = browser.answer("related")
    assert page["leader"] == page["prefetched"] == ["default"]
    assert page["routed"] == [page["shelf"]]
    assert page["shelf"] in FOLLOWERS


# The next user of a thread


def test_task_after_another_unit_on_the_same_thread_starts_clean(visitor):
    """Neither a request nor a job finds anything of the one before it."""

    @unit_of_work
    def job():
        return Book.objects.get(pk=1).title

    for _ in range(3):
        visitor.post(f"books/{a_code()}")
        assert job() in FOLLOWERS
        with unit_of_work():
            Book.objects.create(code=a_code())
        assert set(Browser("wsgi", "sync").answer("title")) <= FOLLOWERS
    assert Book.objects.get(pk=1).title == "default"


# Clients that want to decide


FORGERIES = [
    {"Cookie": f"{COOKIE}=1"},
    {"Cookie": f"{COOKIE}=default"},
    {"Cookie": f'{COOKIE}={{"default": 99999999999}}'},
    {"Cookie": "multidb_pin_writes=y; pindb_pinned_set=[]; django_replicated=1; pinned=1"},
    {"X-Replicas-Role": "leader", "X-Replicas-Mark": "default", "Replicas-Mark": "default"},
    {"X-Django-Replicated-State": "master", "X-Replica": "default", "X-Pin": "default"},
    {"X-HTTP-Method-Override": "POST", "X-HTTP-Method": "POST", "X-Method-Override": "POST"},
]


@pytest.mark.parametrize(
    "headers", FORGERIES, ids=lambda headers: next(iter(headers.values()))[:20]
)
def test_client_cannot_forge_its_way_to_the_leader(browser, headers):
    """Neither cookies nor headers nor parameters pin or give a role."""
    response, body = browser.get("title?_method=POST&role=leader&pin=default", headers=headers)
    assert set(json.loads(body)) <= FOLLOWERS
    assert not response.cookies


def test_client_cannot_forge_its_way_to_a_follower(browser):
    """What an unsafe method means is not the client's to say."""
    headers = {
        "X-HTTP-Method-Override": "GET",
        "X-Replicas-Role": "follower",
        "X-Django-Replicated-State": "slave",
    }
    page = browser.answer("title?_method=GET&role=follower", "post", headers=headers)
    assert page == ["default"] * 10


@pytest.mark.parametrize("salt", ["", "django_replicas", "django.contrib.sessions", "other.marks"])
def test_signature_of_something_else_is_no_signature(browser, salt):
    """What the project signed for another purpose is not taken for a mark."""
    browser.client.cookies[COOKIE] = Signer(salt=salt or None).sign(
        f"default:{int(time.time()) + 10}"
    )
    assert set(browser.answer("title")) <= FOLLOWERS


def test_mark_is_believed_no_longer_than_it_may_last(browser, settings):
    """A cookie that says "for a year" is good for PIN_SECONDS, from now."""
    browser.client.cookies[COOKIE] = signed(f"default:{int(time.time()) + 31_536_000}")
    assert browser.answer("title") == ["default"] * 10
    settings.REPLICAS = {**settings.REPLICAS, "PIN_SECONDS": 1e-9}
    while browser.answer("title")[0] == "default":
        pass


# Cookies that cannot be read


def signed(text):
    return Signer(salt="django_replicas.marks").sign(text)


HEADER_TEXT = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters=';,"\\\x7f'),
    max_size=200,
)
FORGED = HEADER_TEXT | st.builds(
    lambda payload, signature: f"{payload}:{signature}", HEADER_TEXT, HEADER_TEXT
)
TRUNCATED = st.integers(0, 50).map(lambda length: signed("default:999999999999")[:length])
EXPIRED = st.integers(0, 10**9).map(lambda ago: signed(f"default:{int(time.time()) - ago}"))
OVERSIZED = st.integers(4096, 8000).map(
    lambda length: signed(f"default:{int(time.time()) + 10}|{'x' * length}")
)
WRONG_SHAPE = st.builds(
    lambda alias, deadline: signed(f"{alias}{deadline}"),
    st.sampled_from(["default", "default:", "default::", "%64efault%", "default|", "{default:"]),
    st.sampled_from(["", "x", "-1", "1e99", "9" * 13, "inf", "9:9", "\xb2"])
    | HEADER_TEXT.map("x".__add__),
)
UNKNOWN = st.sampled_from(["replica1", "other-0", "lonely", "nonsense", "", "Default"]).map(
    lambda alias: signed(f"{alias}:999999999999")
)


@pytest.mark.parametrize(
    "cookies",
    [FORGED, TRUNCATED, EXPIRED, OVERSIZED, WRONG_SHAPE, UNKNOWN],
    ids=["forged", "truncated", "expired", "oversized", "wrong shape", "unknown"],
)
def test_unreadable_cookie_is_as_good_as_none(cookies):
    """Status 200, a follower, no cookie in the answer."""

    @given(cookies)
    @hypothesis_settings(max_examples=60, deadline=None, database=None)
    def visit(cookie):
        assume(cookie)
        response = Client().get("/sync/title", headers={"Cookie": f"{COOKIE}={cookie}"})
        assert response.status_code == 200
        assert set(response.json()) <= FOLLOWERS
        assert not response.cookies

    visit()


@given(st.data())
@hypothesis_settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_cookie_changed_in_one_place_is_as_good_as_none(data):
    """Each character of it is signed for."""
    valid = signed({"default": 99999999999})
    place = data.draw(st.integers(0, len(valid) - 1))
    character = data.draw(st.characters(codec="ascii", categories=["L", "N"]))
    assume(character != valid[place])
    changed = valid[:place] + character + valid[place + 1 :]
    response = Client().get("/sync/title", headers={"Cookie": f"{COOKIE}={changed}"})
    assert response.status_code == 200
    assert set(response.json()) <= FOLLOWERS
    assert not response.cookies


def shortly(until):
    return until[:8]


@pytest.mark.parametrize(
    "until", ["1" * 400, "-" + "1" * 400, "Infinity", "NaN", "-Infinity"], ids=shortly
)
def test_deadline_beyond_all_numbers_is_no_error(browser, until):
    """Whatever it is taken for, the page is served, and nothing is set."""
    browser.client.cookies[COOKIE] = signed(f"default:{until}")
    response, _ = browser.get("title")
    assert response.status_code == 200
    assert not response.cookies


@pytest.mark.parametrize("until", ["1" * 400, "Infinity", "NaN"], ids=shortly)
def test_deadline_beyond_all_numbers_beside_a_write(browser, until):
    """Nor is it when the marks are handed on."""
    browser.client.cookies[COOKIE] = signed(f"other:{until}")
    response, _ = browser.post(f"books/{a_code()}")
    assert response.status_code == 200
    assert COOKIE in response.cookies


# Followers


def test_migrate_on_a_follower_makes_no_tables(settings):
    """Neither the models' tables nor content types and permissions."""
    connections.close_all()
    Path(settings.DATABASES["replica1"]["NAME"]).write_bytes(b"")
    call_command("migrate", database="replica1", run_syncdb=True, verbosity=0)
    with connections["replica1"].cursor() as cursor:
        tables = connections["replica1"].introspection.table_names(cursor)
    assert set(tables) <= {"django_migrations"}


@pytest.fixture
def unreachable(settings, monkeypatch, tmp_path):
    """Take followers away, in every thread."""

    def take_away(*aliases):
        connections.close_all()
        for alias in aliases:
            missing = str(tmp_path / "nowhere" / alias)
            monkeypatch.setitem(connections.settings[alias], "NAME", missing)

    return take_away


@pytest.mark.parametrize("alias", sorted(FOLLOWERS))
def test_one_follower_unreachable(browser, unreachable, alias):
    """No GET fails; the other one serves."""
    unreachable(alias)
    pages = [browser.answer("title") for _ in range(10)]
    assert {title for titles in pages for title in titles} == FOLLOWERS - {alias}


def test_both_followers_unreachable(browser, unreachable):
    """No GET fails; the leader serves."""
    unreachable(*FOLLOWERS)
    for _ in range(5):
        assert browser.answer("title") == ["default"] * 10


def test_follower_lost_between_two_requests(browser, unreachable):
    """It is found when it is chosen, before any read."""
    browser.answer("title")
    unreachable("replica1")
    for _ in range(10):
        assert set(browser.answer("title")) == {"replica2"}


# Many at once


async def ask(application, method, path, cookies=""):
    """Send one request to an ASGI application, and return its status, headers and body."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"testserver"), (b"cookie", cookies.encode())],
    }
    communicator = ApplicationCommunicator(application, scope)
    await communicator.send_input({"type": "http.request", "body": b""})
    start = await communicator.receive_output(timeout=30)
    body = b""
    more = True
    while more:
        message = await communicator.receive_output(timeout=30)
        body += message.get("body", b"")
        more = message.get("more_body", False)
    await communicator.wait()
    return start["status"], start["headers"], body


def mark_in(headers):
    """Return the Cookie header that a browser would send after such an answer."""
    cookies = [value.decode() for name, value in headers if name.lower() == b"set-cookie"]
    sent = SimpleCookie()
    for cookie in cookies:
        sent.load(cookie)
    return "; ".join(f"{name}={morsel.coded_value}" for name, morsel in sent.items())


@pytest.mark.parametrize("views", ["sync", "async"])
async def test_32_asgi_requests_at_once(views):
    """Each on its side: readers on followers, writers and those who have written on the leader."""
    application = get_asgi_application()
    marks = [await write_one(application, views) for _ in range(4)]

    async def reader(number):
        status, headers, body = await ask(application, "GET", f"/{views}/title")
        assert status == 200
        assert mark_in(headers) == ""
        assert len(set(json.loads(body))) == 1
        assert set(json.loads(body)) <= FOLLOWERS

    async def writer(number):
        code, mark = await write_one(application, views)
        await returning(code, mark)

    async def streamer(number):
        _, _, body = await ask(application, "GET", f"/{views}/stream")
        assert len(set(body.split())) == 1
        assert {title.decode() for title in body.split()} <= FOLLOWERS

    async def reader_again(number):
        await returning(*marks[number % len(marks)])

    async def returning(code, mark):
        status, _, body = await ask(application, "GET", f"/{views}/books/{code}", mark)
        assert status == 200
        assert json.loads(body) == {"found": True, "titles": ["default"] * 3}

    kinds = [reader, writer, reader_again] + ([streamer] if views == "async" else [reader])
    for _ in range(3):
        await asyncio.gather(*(kinds[number % 4](number) for number in range(32)))


async def write_one(application, views):
    code = a_code()
    status, headers, body = await ask(application, "POST", f"/{views}/books/{code}")
    assert status == 200
    assert json.loads(body) == {"found": True, "titles": ["default"] * 3}
    assert mark_in(headers)
    return code, mark_in(headers)


def test_16_wsgi_requests_at_once():
    """The same on the threads of a WSGI server."""
    application = get_wsgi_application()
    together = Barrier(16)

    def serve(method, path, cookies=""):
        environ = RequestFactory().generic(method, path, headers={"Cookie": cookies}).environ
        started = []
        body = application(environ, lambda status, headers: started.append(headers))
        try:
            return dict(started[0]), json.loads(b"".join(body))
        finally:
            body.close()

    def reader():
        together.wait()
        for _ in range(10):
            _, titles = serve("GET", "/sync/title")
            assert len(set(titles)) == 1
            assert set(titles) <= FOLLOWERS

    def writer():
        together.wait()
        for _ in range(4):
            code = a_code()
            headers, _ = serve("POST", f"/sync/books/{code}")
            mark = headers["Set-Cookie"].split(";")[0]
            assert serve("GET", f"/sync/books/{code}", mark)[1]["found"] is True

    def work(job):
        try:
            job()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(16) as pool:
        for future in [pool.submit(work, (reader, writer)[number % 2]) for number in range(16)]:
            future.result()
