"""FORCE_HEADER: a role that the client asks for, where a project lets it."""

import asyncio

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.http import JsonResponse, StreamingHttpResponse
from django.test import AsyncClient, Client
from django.urls import path

from django_replicas import pin, use_follower, use_leader
from django_replicas.exceptions import FollowerRoleWriteError
from django_replicas.scopes import current_unit
from django_replicas.units import Role

from .shop.models import Book

FOLLOWERS = {"replica1", "replica2"}


def title():
    return Book.objects.get(pk=1).title


def tell(request):
    return JsonResponse([title()], safe=False)


async def tell_async(request):
    return JsonResponse([(await Book.objects.aget(pk=1)).title], safe=False)


def writing(request):
    Book.objects.filter(pk=1).update(note="written")
    return tell(request)


def pinning(request):
    pin("default")
    return tell(request)


def stream(request):
    return StreamingHttpResponse(title() for _ in range(1))


def role(request):
    return JsonResponse([current_unit().role], safe=False)


urlpatterns = [
    path("sync", tell),
    path("async", tell_async),
    path("writing", writing),
    path("pinning", pinning),
    path("stream", stream),
    path("role", role),
    path("named", tell, name="named"),
    path("use-leader", use_leader(tell)),
    path("use-follower", use_follower(tell)),
]


@pytest.fixture(autouse=True)
def urls(settings):
    settings.ROOT_URLCONF = __name__


@pytest.fixture
def header(settings):
    settings.REPLICAS = {**settings.REPLICAS, "FORCE_HEADER": "X-Role"}


def _send(client, address, method, value):
    headers = {} if value is None else {"X-Role": value}
    return getattr(client, method)(f"/{address}", headers=headers)


@pytest.fixture(params=["wsgi", "asgi"])
def ask(request):
    """Send one request, with the header or without, and return where its view read."""

    def ask_sync(address, method="get", value=None):
        return _send(Client(), address, method, value).json()[0]

    def ask_async(address, method="get", value=None):
        async def main():
            try:
                return (await _send(AsyncClient(), address, method, value)).json()[0]
            finally:
                await sync_to_async(connections.close_all)()

        return asyncio.run(main())

    return ask_sync if request.param == "wsgi" else ask_async


@pytest.mark.parametrize("address", ["sync", "async"])
@pytest.mark.parametrize("value", ["leader", "master", "Leader"])
def test_the_header_asks_for_the_leader(header, ask, address, value):
    """A GET reads the leader."""
    assert ask(address, value=value) == "default"


@pytest.mark.parametrize("address", ["sync", "async"])
@pytest.mark.parametrize("value", ["follower", "slave", "SLAVE"])
def test_the_header_asks_for_a_follower(header, ask, address, value):
    """A POST reads a follower."""
    assert ask(address, "post", value=value) in FOLLOWERS


@pytest.mark.parametrize(
    "value", [None, "", "leading", "default", "leader, leader", "\xff", "None"]
)
def test_anything_else_is_ignored(header, ask, value):
    """What is no role changes nothing, and fails nothing."""
    assert ask("sync", value=value) in FOLLOWERS
    assert ask("sync", "post", value=value) == "default"


def test_no_header_is_listened_to_unless_configured(ask):
    """It is off by default."""
    assert ask("sync", value="leader") in FOLLOWERS
    assert ask("sync", "post", value="follower") == "default"


def test_the_header_goes_before_the_view_overrides(settings, ask):
    """Forced is forced."""
    settings.REPLICAS = {
        **settings.REPLICAS,
        "FORCE_HEADER": "x-role",
        "VIEW_OVERRIDES": {"named": "leader"},
    }
    assert ask("named") == "default"
    assert ask("named", value="follower") in FOLLOWERS


def test_decorators_go_before_the_header(header, ask):
    """What the view's own code says holds whatever the client wants."""
    assert ask("use-leader", value="follower") == "default"
    assert ask("use-follower", value="leader") in FOLLOWERS


@pytest.mark.parametrize("address", ["writing", "pinning"])
def test_pins_and_writes_count_no_less(header, ask, address):
    """No header makes a unit miss what it wrote."""
    assert ask(address, "post", value="follower") == "default"


def test_marks_count_no_less(header):
    """No header makes users miss what they wrote a moment ago."""
    client = Client()
    client.post("/writing")
    assert client.get("/sync", headers={"X-Role": "follower"}).json() == ["default"]


def test_it_is_no_way_around_the_role_of_writes(header, settings):
    """Where followers are asked for, `LeaderFollowerRouter` refuses to write."""
    settings.DATABASE_ROUTERS = ["django_replicas.routers.LeaderFollowerRouter"]
    with pytest.raises(FollowerRoleWriteError):
        Client().post("/writing", headers={"X-Role": "follower"})


def test_a_streamed_body_is_made_in_the_forced_role(header):
    """The body comes after the view, and belongs to the same request."""
    response = Client().get("/stream", headers={"X-Role": "leader"})
    assert list(response) == [b"default"]


@pytest.mark.parametrize("value", ["leader", "follower"])
def test_the_role_that_decides_about_transactions_is_not_the_clients(header, value):
    """The unit's own role is what the server made it."""
    assert Client().post("/role", headers={"X-Role": value}).json() == [Role.LEADER]
    assert Client().get("/role", headers={"X-Role": value}).json() == [Role.FOLLOWER]
