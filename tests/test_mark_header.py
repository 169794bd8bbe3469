"""Marks in a header: for clients without cookies, and from one service to the next."""

import json
import sys
import types

import httpx
import pytest
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse
from django.test import Client, RequestFactory
from django.urls import path
from django.utils.cache import has_vary_header, patch_cache_control

from django_replicas import pin, unit_of_work
from django_replicas.calls import headers_to_send
from django_replicas.marks import Mark
from django_replicas.stores import HeaderStore

from .pages import python_of
from .shop.models import Book

FOLLOWERS = {"replica1", "replica2"}
HEADER = "X-Replicas-Mark"
NOW = 1_800_000_000.5
STORE = HeaderStore(clock=lambda: NOW)


def title():
    return Book.objects.get(pk=1).title


def read(request):
    return JsonResponse(title(), safe=False)


def save(request):
    Book.objects.filter(pk=1).update(note="written")
    response = HttpResponse()
    patch_cache_control(response, public=True, max_age=60)
    return response


urlpatterns = [
    path(f"{folder}{view.__name__}", view) for view in (read, save) for folder in ("", "api/")
]


@pytest.fixture(autouse=True)
def site(settings):
    settings.ROOT_URLCONF = __name__
    settings.REPLICAS = {**settings.REPLICAS, "MARK_STORE": "header"}


@pytest.fixture
def client():
    return Client()


def answer(client, path="/read", **headers):
    return json.loads(client.get(path, headers=headers).content)


def saved(marks):
    response = HttpResponse()
    STORE.save(RequestFactory().get("/"), response, marks)
    return response


def loaded(value, name=HEADER):
    return STORE.load(RequestFactory().get("/", headers={name: value}))


# Clients without cookies


def test_a_client_that_sends_back_what_it_received(client):
    """It reads what it wrote; others do not have to."""
    response = client.post("/save")
    assert not response.cookies
    assert answer(client, **{HEADER: response.headers[HEADER]}) == "default"
    assert answer(client) in FOLLOWERS


def test_no_response_without_a_write_has_it(client):
    """Who wrote nothing has nothing to send back, also with a mark from before."""
    mark = client.post("/save").headers[HEADER]
    assert HEADER not in client.get("/read").headers
    assert HEADER not in client.get("/read", headers={HEADER: mark}).headers


def test_a_response_with_a_mark_is_nobody_elses(client):
    """No cache may keep it, whatever the view says."""
    response = client.post("/save")
    assert has_vary_header(response, HEADER)
    directives = set(response.headers["Cache-Control"].split(", "))
    assert {"private", "no-store"} <= directives
    assert "public" not in directives


def test_what_the_response_varies_by_already_stays():
    """The header is one more."""
    response = HttpResponse(headers={"Vary": "Accept"})
    STORE.save(RequestFactory().get("/"), response, {"default": Mark(NOW + 5)})
    assert response.headers["Vary"] == f"Accept, {HEADER}"


def test_marks_come_back():
    """As they were, to the end of the second."""
    response = saved({"default": Mark(NOW + 3.5)})
    assert loaded(response.headers[HEADER]) == {"default": Mark(NOW + 3.5)}


def test_marks_that_are_past_are_not_sent():
    """There is nothing to say."""
    response = saved({"default": Mark(NOW - 1)})
    assert not {HEADER, "Vary", "Cache-Control"} & set(response.headers)


@pytest.mark.parametrize("forged", ["", "default:1800000010", "default:1800000010:x", "a" * 5000])
def test_what_nobody_signed_is_dropped(forged):
    """A client cannot make up a mark."""
    assert loaded(forged) == {}


def test_the_name_can_be_chosen(settings, client):
    """It is sent and read under the name that ``MARK_HEADER`` gives."""
    settings.REPLICAS = {**settings.REPLICAS, "MARK_HEADER": "X-Seen"}
    response = client.post("/save")
    assert HEADER not in response.headers
    assert has_vary_header(response, "X-Seen")
    assert answer(client, **{"X-Seen": response.headers["X-Seen"]}) == "default"
    with unit_of_work():
        pin("default")
        assert set(headers_to_send()) == {"X-Seen"}


# From one service to the next


def test_nothing_to_send():
    """Outside units, and where nothing was written, requests are as they were."""
    assert headers_to_send() == {}
    with unit_of_work():
        assert title() in FOLLOWERS
        assert headers_to_send() == {}


def test_a_called_service_sees_what_was_written(client):
    """Also through a service in between that wrote nothing."""
    with unit_of_work():
        assert answer(client, **headers_to_send()) in FOLLOWERS
        Book.objects.filter(pk=1).update(note="written")
        sent = headers_to_send()
    assert answer(client, **sent) == "default"

    def between(request):
        return JsonResponse(answer(client, **headers_to_send()), safe=False)

    from django_replicas.middleware import ReplicasMiddleware  # noqa: PLC0415

    request = RequestFactory().get("/", headers=sent)
    assert json.loads(ReplicasMiddleware(between)(request).content) == "default"


def test_services_with_keys_of_their_own(client, settings):
    """The other's key is enough among those that are believed."""
    with unit_of_work():
        pin("default")
        sent = headers_to_send()
    settings.SECRET_KEY, before = "another", settings.SECRET_KEY
    assert answer(client, **sent) in FOLLOWERS
    settings.SECRET_KEY_FALLBACKS = [before]
    assert answer(client, **sent) == "default"


# The page


@pytest.fixture
def page(monkeypatch):
    """What the Python blocks of the page define, in their order."""
    stand_in = types.SimpleNamespace(auth=types.SimpleNamespace(AuthBase=object))
    defined = {"requests": stand_in, "__name__": "project.marks"}
    for block in python_of("stores"):
        exec(block, defined)
    yield defined
    defined["client"].close()


def test_the_calls_of_the_page(page):
    """With httpx by hand, with its hook, and as ``requests`` has it."""
    transport = httpx.WSGITransport(app=get_wsgi_application())

    def hooked():
        hooks = page["client"].event_hooks
        with httpx.Client(transport=transport, base_url="http://x", event_hooks=hooks) as client:
            return client.get("/read").json()

    def by_hand():
        with httpx.Client(transport=transport, base_url="http://x/api") as client:
            return client.get("/read", headers=headers_to_send()).json()

    def by_page():
        with httpx.Client(transport=Renamed(transport), base_url="http://x") as client:
            return page["prices"](client)

    def authorised():
        request = types.SimpleNamespace(headers={})
        return answer(Client(), **page["Marks"]()(request).headers)

    for ask in (hooked, by_hand, by_page, authorised):
        with unit_of_work():
            assert ask() in FOLLOWERS
            pin("default")
            assert ask() == "default"


class Renamed(httpx.BaseTransport):
    """Has the page's path answered by the view of these tests."""

    def __init__(self, transport):
        self.transport = transport

    def handle_request(self, request):
        request.url = request.url.copy_with(path="/read")
        return self.transport.handle_request(request)


def test_the_store_of_the_page(page, settings, client, monkeypatch):
    """A header for one part of the site, a cookie for the other."""
    module = types.ModuleType("project.marks")
    module.ByPath = page["ByPath"]
    monkeypatch.setitem(sys.modules, "project", types.ModuleType("project"))
    monkeypatch.setitem(sys.modules, "project.marks", module)
    settings.REPLICAS = page["REPLICAS"]

    by_api = client.post("/api/save")
    assert not by_api.cookies
    assert answer(client, "/api/read", **{HEADER: by_api.headers[HEADER]}) == "default"
    assert answer(client, "/api/read") in FOLLOWERS
    assert HEADER not in client.post("/save").headers
    assert answer(client) == "default"
