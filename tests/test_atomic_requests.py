"""``ATOMIC_REQUESTS: atomic_in_leader_role``: a transaction around the views that need one."""

import asyncio
import copy
import pickle

import pytest
from asgiref.sync import sync_to_async
from django.core.checks import run_checks
from django.db import connection, connections, transaction
from django.http import JsonResponse
from django.test import AsyncClient, Client
from django.urls import path

from django_replicas import atomic_in_leader_role, unit_of_work, use_follower, use_leader

from .shop.models import Book

FOLLOWERS = ["replica1"], ["replica2"]


def tell(request):
    return JsonResponse([Book.objects.get(pk=1).title, connection.in_atomic_block], safe=False)


async def tell_async(request):
    return await sync_to_async(tell)(request)


@transaction.non_atomic_requests
async def tell_async_exempt(request):
    return await sync_to_async(tell)(request)


def fail_after_write(request):
    Book.objects.filter(pk=1).update(note="half")
    raise LookupError


urlpatterns = [
    path("view", tell),
    path("named", tell, name="named"),
    path("exempt", transaction.non_atomic_requests(lambda request: tell(request))),
    path("async", tell_async),
    path("async-exempt", tell_async_exempt),
    path("use-leader", use_leader(tell)),
    path("use-follower", use_follower(tell)),
    path("fail", fail_after_write),
]


@pytest.fixture(autouse=True)
def atomic(settings, monkeypatch):
    settings.ROOT_URLCONF = __name__
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", atomic_in_leader_role)


def _send(client, address, method, **headers):
    return getattr(client, method)(f"/{address}", headers=headers)


@pytest.fixture(params=["wsgi", "asgi"])
def ask(request):
    """Send one request; return where its view read, and whether in a transaction."""

    def ask_sync(*args, **headers):
        return _send(Client(), *args, **headers).json()

    def ask_async(*args, **headers):
        async def main():
            try:
                return (await _send(AsyncClient(), *args, **headers)).json()
            finally:
                await sync_to_async(connections.close_all)()

        return asyncio.run(main())

    return ask_sync if request.param == "wsgi" else ask_async


def test_a_unit_that_asks_for_followers_has_no_transaction(ask):
    """Its reads go to a follower, which no transaction on the leader would let them."""
    title, in_transaction = ask("view", "get")
    assert [title] in FOLLOWERS
    assert not in_transaction


def test_a_unit_that_asks_for_the_leader_has_one(ask):
    """As with True."""
    assert ask("view", "post") == ["default", True]


def test_the_override_of_a_view_decides(ask, settings):
    """Django asks when the view is known, and its override applied."""
    settings.REPLICAS = {**settings.REPLICAS, "VIEW_OVERRIDES": {"named": "leader"}}
    assert ask("named", "get") == ["default", True]
    settings.REPLICAS = {**settings.REPLICAS, "VIEW_OVERRIDES": {"named": "follower"}}
    assert ask("named", "post")[1] is False


def test_a_header_does_not(ask, settings):
    """No client takes the transaction away from a view that writes."""
    settings.REPLICAS = {**settings.REPLICAS, "FORCE_HEADER": "X-Role"}
    assert ask("view", "post", **{"X-Role": "follower"}) == ["default", True]
    assert ask("view", "get", **{"X-Role": "leader"}) == ["default", False]


def test_decorators_come_too_late(ask):
    """They are inside the transaction that Django opened, or did not open, before."""
    assert ask("use-leader", "get") == ["default", False]
    assert ask("use-follower", "post") == ["default", True]


def test_views_may_be_exempt_as_ever(ask):
    """`non_atomic_requests` works as with True, for async views too."""
    assert ask("exempt", "post") == ["default", False]
    assert ask("async-exempt", "post") == ["default", False]


def test_async_views_are_refused_by_django_where_they_ask_for_the_leader(ask):
    """A transaction is not lost in silence; reading is no matter."""
    assert ask("async", "get")[1] is False
    with pytest.raises(RuntimeError, match="ATOMIC_REQUESTS with async views"):
        ask("async", "post")


@pytest.mark.parametrize(("method", "note"), [("post", "default"), ("get", "half")])
def test_what_fails_is_rolled_back_in_a_transaction(method, note):
    """All or nothing for views in the role `leader`; each statement for itself in others."""
    with pytest.raises(LookupError):
        getattr(Client(), method)("/fail")
    assert Book.objects.using("default").get(pk=1).note == note


def test_without_the_middleware_there_is_none(settings):
    """Outside any unit nothing asked for the leader."""
    settings.MIDDLEWARE = []
    assert Client().post("/view").json() == ["default", False]


def test_blocks_and_decorators_inside_a_view_do_not_change_it():
    """Whoever asks in the middle of a view, to roll back, is told what Django was."""
    with unit_of_work(role="leader"):
        assert use_follower(bool)(atomic_in_leader_role)
    with unit_of_work(role="follower"):
        assert not use_leader(bool)(atomic_in_leader_role)
    assert not atomic_in_leader_role


@pytest.mark.parametrize("role", [None, "leader", "follower"])
def test_no_check_warns_of_it(role):
    """It is the remedy for what the check warns of, wherever checks are run."""
    with unit_of_work(role=role):
        assert [each.id for each in run_checks() if "django_replicas" in each.id] == []


def test_it_is_one_object_however_settings_are_copied():
    """Copies of settings, and the workers of a parallel test run, hold the same."""
    assert copy.copy(atomic_in_leader_role) is atomic_in_leader_role
    assert copy.deepcopy({"ATOMIC_REQUESTS": atomic_in_leader_role}) == {
        "ATOMIC_REQUESTS": atomic_in_leader_role
    }
    assert pickle.loads(pickle.dumps(atomic_in_leader_role)) is atomic_in_leader_role
    assert repr(atomic_in_leader_role) == "atomic_in_leader_role"
