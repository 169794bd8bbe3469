"""One alias over poolers: pgbouncer in transaction mode, two of them before one PostgreSQL."""

import os
from contextlib import ExitStack

import pytest
from django.db import connections, transaction

from django_replicas.outages import Outage
from servers.pgbouncer import PgBouncer, PgBouncerNotFound
from servers.postgres import Cluster
from servers.waiting import wait_until

from .peers import aliases, balanced, meet, outages
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


def somebody_new_and_a_request():
    """Connect as another thread would that has no connection yet, and serve a request here."""
    another = connections["many"].copy()
    another.ensure_connection()
    another.close()
    request()


def test_both_serve(many):
    """A transaction, and a read in chunks, through either pooler."""
    seen = set()
    while len(seen) < 2:
        many.close()
        seen.add(request())


def test_draining(many, bouncers):
    """A pooler that is told to take no new clients is left without one failed query."""
    request()
    bouncers["one"].command("DISABLE app")
    try:
        with outages() as reasons:
            meet("one", somebody_new_and_a_request)
        assert {request() for _ in range(10)} == {"two"}
        assert reasons == [Outage.REFUSING]
        assert clients(bouncers["one"]) == 0
    finally:
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
