"""One alias over poolers: pgbouncer in transaction mode, two of them before one PostgreSQL."""

import os
from contextlib import ExitStack

import pytest
from django.db import connections, transaction

from django_replicas.outages import Outage
from django_replicas.peers import peers_of
from django_replicas.signals import peer_down
from servers.pgbouncer import PgBouncer, PgBouncerNotFound
from servers.postgres import Cluster
from servers.waiting import wait_until

from .peers import aliases, balanced
from .shop.models import Shelf


@pytest.fixture(scope="module")
def bouncers():
    with ExitStack() as stack:
        leader = stack.enter_context(Cluster(standbys=0)).leader
        leader.execute("CREATE TABLE shop_shelf (id serial PRIMARY KEY, name text)")
        leader.execute("GRANT ALL ON shop_shelf TO app")
        leader.execute("GRANT ALL ON shop_shelf_id_seq TO app")
        try:
            yield {name: stack.enter_context(PgBouncer(leader)) for name in ("one", "two")}
        except PgBouncerNotFound as reason:
            if os.environ.get("CI") == "true":
                pytest.fail(str(reason))
            pytest.skip(str(reason))


@pytest.fixture(params=[0, None], ids=["a connection each time", "persistent connections"])
def many(bouncers, request):
    entries = {name: bouncer.django_database() for name, bouncer in bouncers.items()}
    own = {"CHECK_INTERVAL": 0.2, "CONN_MAX_AGE": request.param}
    with aliases(**entries, many=balanced(*entries, **own)):
        yield connections["many"]


def request():
    """Write and read as a request does, and return the peer that served it."""
    connection = connections["many"]
    connection.close_if_unusable_or_obsolete()
    with transaction.atomic("many"):
        Shelf.objects.using("many").create(name="new")
    assert all(shelf.name for shelf in Shelf.objects.using("many").iterator(chunk_size=10))
    peer = connection.peer
    connection.close_if_unusable_or_obsolete()
    return peer


def somebody_new():
    """Serve a request as another thread would that has no connection yet."""
    connections["many"].copy().connect()


def test_both_serve(many):
    """A transaction, and a read in chunks, through either pooler."""
    seen = set()
    while len(seen) < 2:
        many.close()
        seen.add(request())


def test_draining(many, bouncers):
    """A pooler that is told to take no new clients is left without one failed query."""
    reasons = []

    def listen(reason, **told):
        reasons.append(reason)

    peer_down.connect(listen)
    request()
    bouncers["one"].command("DISABLE app")
    try:
        while peers_of("many").is_up("one"):
            another = many.copy()
            another.ensure_connection()
            another.close()
            request()
        assert {request() for _ in range(10)} == {"two"}
        assert reasons == [Outage.REFUSING]
        assert clients(bouncers["one"]) == 0
    finally:
        peer_down.disconnect(listen)
        bouncers["one"].command("ENABLE app")

    def is_taken_back():
        many.close()
        return request() == "one"

    wait_until(is_taken_back, "the pooler is taken back")


def clients(bouncer):
    """Count the clients of the database that a pooler has."""
    return sum(row[2] == "app" for row in bouncer.command("SHOW CLIENTS"))


def test_a_pooler_that_is_gone(many, bouncers):
    """Killed between requests: the next one goes elsewhere where connections are checked."""
    many.settings_dict["CONN_HEALTH_CHECKS"] = True
    many.close()
    peer = request()
    bouncers[peer].kill()
    try:
        assert {request() for _ in range(10)} == {"one", "two"} - {peer}
    finally:
        bouncers[peer].start()
