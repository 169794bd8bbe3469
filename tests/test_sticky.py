"""One user stays on one follower, while it lives, and comes back to it."""

import asyncio
import os
from collections import Counter

import pytest
from django.contrib.auth import SESSION_KEY
from django.db import connections
from django.http import HttpResponse
from django.test import RequestFactory
from hypothesis import given
from hypothesis import strategies as st

from django_replicas import get_follower, unit_of_work
from django_replicas.conf import get_config
from django_replicas.followers import followers_of
from django_replicas.marks import Mark
from django_replicas.middleware import ReplicasMiddleware
from django_replicas.pinning import UnitOfWork
from django_replicas.positions import PostgreSQL
from django_replicas.reasons import Reason
from django_replicas.scopes import current_unit
from django_replicas.sticky import ranked
from django_replicas.units import Unit
from servers.postgres import Cluster
from servers.postgres_bindir import PostgresNotFound, find_bindir
from servers.waiting import wait_until

from .shop.models import Book

FOLLOWERS = ["replica1", "replica2"]

clients = st.text(min_size=1)
names = st.lists(st.text(min_size=1), min_size=1, max_size=8, unique=True)


# The order that a client prefers


@given(st.lists(clients, min_size=1, max_size=50), names, st.data())
def test_only_the_clients_of_the_one_that_is_lost_move(clients, names, data):
    """Whichever follower goes, who was on another stays there; when it is back all is as before."""
    lost = data.draw(st.sampled_from(names))
    left = [name for name in names if name != lost]
    for client in clients:
        before, after = ranked(client, names), ranked(client, left)
        assert after == [name for name in before if name != lost]


@given(clients, names)
def test_the_order_in_the_settings_means_nothing(client, names):
    """Every process may list the followers as it likes."""
    assert ranked(client, names) == ranked(client, names[::-1])
    assert sorted(ranked(client, names)) == sorted(names)


@given(st.text(st.characters(categories=["Cs"]), min_size=1))
def test_keys_that_are_no_text(client):
    """A client may send what cannot be encoded."""
    assert sorted(ranked(client, FOLLOWERS)) == FOLLOWERS


def test_the_same_in_every_process():
    """Nothing of it hangs on this process, nor on this release of Python."""
    orders = ["".join(ranked(f"session {number}", ["a", "b", "c"])) for number in range(6)]
    assert orders == ["bac", "bca", "abc", "cab", "acb", "bca"]


def test_clients_are_shared_out_evenly():
    """Each of three has about a third, and what one leaves is shared by the two others."""
    orders = [ranked(f"session {number}", ["a", "b", "c"]) for number in range(3000)]
    first = Counter(order[0] for order in orders)
    second = Counter(order[1] for order in orders if order[0] == "a")
    assert all(900 < count < 1100 for count in first.values())
    assert all(430 < count < 570 for count in second.values())
    assert (len(first), len(second)) == (3, 2)


# Requests


@pytest.fixture(autouse=True)
def _sticky(settings):
    settings.REPLICAS = {**settings.REPLICAS, "BALANCE": "sticky"}


def titles(request):
    return {Book.objects.get(pk=1).title for _ in range(3)}


def reads(session=None, address="127.0.0.1", view=titles):
    """Return where one request reads."""
    request = RequestFactory().get("/", REMOTE_ADDR=address)
    if session is not None:
        request.COOKIES["sessionid"] = session
    (title,) = ReplicasMiddleware(view)(request)
    return title


def theirs(follower, many=5):
    """Return sessions whose reads go to this follower first."""
    sessions = (f"s{number}" for number in range(1000))
    found = [each for each in sessions if ranked(f"session {each}", FOLLOWERS)[0] == follower]
    return found[:many]


def test_a_session_stays_on_its_follower():
    """Whatever the address, request after request; others are elsewhere."""
    for alias in FOLLOWERS:
        for session in theirs(alias):
            assert {reads(session, f"192.0.2.{number}") for number in range(10)} == {alias}


def test_clients_without_a_session_go_by_their_address():
    """It is the best that is known of them."""
    answers = [{reads(address=f"192.0.2.{number}") for _ in range(5)} for number in range(20)]
    assert all(len(each) == 1 for each in answers)
    assert set().union(*answers) == set(FOLLOWERS)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "", "unix:"])
def test_a_proxy_on_this_machine_is_no_client(address):
    """Its clients are not sent to one follower all together."""
    assert {reads(address=address) for _ in range(40)} == set(FOLLOWERS)


def test_units_without_a_request():
    """A command has no user, and uses all followers."""
    assert {unit_of_work(get_follower)("default") for _ in range(40)} == set(FOLLOWERS)


def test_outside_units():
    """So does a shell."""
    assert {get_follower("default") for _ in range(40)} == set(FOLLOWERS)


def test_a_unit_inside_a_request():
    """It works for the same user."""

    def nested(request):
        with unit_of_work():
            return titles(request)

    for alias in FOLLOWERS:
        for session in theirs(alias):
            assert reads(session, view=nested) == alias


def test_on_an_event_loop():
    """The follower that is named there, without trying it, is the user's own."""

    async def named():
        return get_follower("default")

    def view(request):
        return {asyncio.run(named())}

    for alias in FOLLOWERS:
        for session in theirs(alias):
            assert reads(session, view=view) == alias


def test_a_follower_that_dies(monkeypatch, tmp_path):
    """Its users move and nobody else, and they come back when it does."""
    now = 1000.0
    followers = followers_of(get_config().topology.by_leader["default"])
    monkeypatch.setattr(followers._liveness, "_clock", lambda: now)
    name = connections.settings["replica1"]["NAME"]
    connections["replica1"].close()
    connections.settings["replica1"]["NAME"] = str(tmp_path / "gone" / "file")
    try:
        for _ in range(3):
            assert {reads(session) for session in theirs("replica1")} == {"replica2"}
            assert {reads(session) for session in theirs("replica2")} == {"replica2"}
    finally:
        connections.settings["replica1"]["NAME"] = name
    now += 10
    assert {reads(session) for session in theirs("replica2")} == {"replica2"}
    assert {reads(session) for session in theirs("replica1")} == {"replica1"}


# Marks, on real servers


@pytest.fixture(scope="module")
def cluster():
    try:
        find_bindir()
    except PostgresNotFound as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason))
        pytest.skip(str(reason))
    with Cluster(standbys=2) as cluster:
        yield cluster


def test_a_session_that_is_a_dict(rf, settings):
    """Tests of views have such sessions: a user has one place all the same."""
    settings.REPLICAS = {**settings.REPLICAS, "MARK_KEY": "user"}

    def place(user):
        request = rf.get("/")
        request.session = {SESSION_KEY: user}
        return ReplicasMiddleware(lambda _: HttpResponse(Book.objects.get(pk=1).title))(
            request
        ).content

    assert {place("7") for _ in range(6)} == {place("7")}
    assert len({place(str(each)) for each in range(20)}) == 2


def test_a_marked_user(cluster, databases_are):
    """One who wrote leaves a follower that missed once, and is back when it has caught up."""
    servers = dict(zip(FOLLOWERS, cluster.followers, strict=True))
    databases_are(
        default=cluster.leader.django_database(),
        **{alias: server.django_database() for alias, server in servers.items()},
    )
    (session,) = theirs("replica1", 1)
    request = RequestFactory().get("/")
    request.COOKIES["sessionid"] = session

    def answer():
        with UnitOfWork(unit=Unit(lambda: {"default": mark}, request=request)):
            alias = Book.objects.all().db
            return alias, next(iter(current_unit().counts))[1]

    servers["replica1"].pause_replay()
    cluster.leader.execute("CREATE TABLE note (text text)")
    position = PostgreSQL().written(connections["default"], flushed=True)
    mark = Mark.at(position, 15)
    written = cluster.position()
    wait_until(lambda: servers["replica2"].has_replayed(written), "the other one goes on")
    assert answer() == ("default", Reason.MARKED)
    assert answer() == ("replica2", Reason.FOLLOWER)
    servers["replica1"].resume_replay()
    cluster.wait_for_replay()
    mark = Mark()
    assert answer() == ("replica1", Reason.FOLLOWER)
