"""A project of django-multidb-router, as its README says and changed only in dotted paths."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.checks import run_checks
from django.db import connections
from django.http import JsonResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path
from django.utils.deprecation import MiddlewareMixin

from django_replicas import unit_of_work
from django_replicas.compat import multidb
from django_replicas.compat.multidb import middleware, pinning
from django_replicas.compat.multidb.pinning import mark_as_write, use_primary_db
from django_replicas.positions import WalPosition

from .moved import in_turn, settings_in, without_replicas
from .settings import sqlite
from .shop.models import Book

# Its settings, to the letter but for two paths, and the name that Django has for the middleware.
README = """
DATABASES = {
    'default': {...},
    'shadow-1': {...},
    'shadow-2': {...},
}
REPLICA_DATABASES = ['shadow-1', 'shadow-2']

DATABASE_ROUTERS = ('django_replicas.compat.multidb.ReplicaRouter',)
"""
PINNING = """
DATABASE_ROUTERS = ('django_replicas.compat.multidb.PinningReplicaRouter',)

MIDDLEWARE = (
    'django_replicas.compat.multidb.middleware.PinningRouterMiddleware',
)

MULTIDB_PINNING_SECONDS = 5

MULTIDB_PINNING_COOKIE = 'multidb_pin_writes'

MULTIDB_PINNING_COOKIE_SECURE = False
MULTIDB_PINNING_COOKIE_HTTPONLY = False
MULTIDB_PINNING_COOKIE_SAMESITE = 'Lax'
"""
SHADOWS = {"replica1", "replica2"}


def title():
    return Book.objects.get(pk=1).title


def write():
    Book.objects.filter(pk=1).update(note="written")


def where(request):
    """Write with a POST; tell where both kinds of request read."""
    before = title()
    if request.method == "POST":
        write()
    return JsonResponse([before, title()], safe=False)


def by_hand(request):
    """Choose as those do who write their own SQL, and tell whether the thread was pinned."""
    is_pinned = multidb.this_thread_is_pinned()
    alias = "default" if is_pinned else multidb.get_replica()
    if request.method == "POST":
        write()
    return JsonResponse([is_pinned, Book.objects.using(alias).get(pk=1).title], safe=False)


def says_so(request):
    """Set the attribute by hand, and write nothing."""
    response = JsonResponse([title(), title()], safe=False)
    response._db_write = True
    return response


@multidb.db_write
async def where_async(request):
    return JsonResponse([await sync_to_async(title)()], safe=False)


async def says_so_async(request):
    return mark_as_write(JsonResponse([await sync_to_async(title)()], safe=False))


urlpatterns = [
    path("where", where),
    path("db_write", multidb.db_write(where)),
    path("by_hand", by_hand),
    path("says_so", says_so),
    path("async/db_write", where_async),
    path("async/says_so", says_so_async),
    path("async/where", sync_to_async(where)),
]


@pytest.fixture
def project(databases_are):
    """Return the project of the README, or of part of it, with other settings where asked to."""
    databases_are(**{"shadow-1": sqlite("replica1"), "shadow-2": sqlite("replica2")})

    def configured(text=README, **others):
        given = settings_in(text.replace("{...}", "None")) | others
        given.pop("DATABASES", None)
        return without_replicas(**{"MIDDLEWARE": [], "ROOT_URLCONF": __name__, **given})

    return configured


# ReplicaRouter


def test_all_read_queries_go_to_a_replica(project):
    """ "all read queries will go to a replica database"."""
    with project():
        assert title() in SHADOWS
        assert set(Client().get("/where").json()) <= SHADOWS
        assert multidb.ReplicaRouter().db_for_read(Book) in {"shadow-1", "shadow-2"}


def test_all_writes_go_to_default(project):
    """ "all inserts, updates, and deletes will go to the default database"."""
    with project():
        assert Book.objects.create(title="new")._state.db == "default"
        write()
        assert Book.objects.using("default").get(pk=1).note == "written"
        Book.objects.filter(pk=1).delete()
        assert not Book.objects.using("default").filter(pk=1).exists()


def test_round_robin(project):
    """ "The replica databases will be chosen in round-robin fashion", request by request."""
    with project():
        answers = [Client().get("/where").json() for _ in range(6)]
    assert all(first == second for first, second in answers)
    assert in_turn([first for first, _ in answers])


def test_get_replica(project):
    """ "If you want to get a connection to a replica in your app, use multidb.get_replica"."""
    with project():
        connection = connections[multidb.get_replica()]
        assert connection.alias in {"shadow-1", "shadow-2"}
        assert multidb.get_slave is multidb.get_replica


def test_without_the_middleware_a_thread_is_pinned_for_one_request_only(project):
    """What a request wrote, its own reads see; the next one in that thread begins afresh."""
    with project():
        client = Client()
        before, after = client.post("/where").json()
        assert (before in SHADOWS, after) == (True, "default")
        assert set(client.get("/where").json()) <= SHADOWS
        (warning,) = [each for each in run_checks() if each.id == "django_replicas.W006"]
        assert "the user's next one" in warning.msg


def test_other_routers_are_left_alone(project, settings):
    """Once it was made, this router's requests begin afresh, and nobody else's."""
    with project():
        multidb.ReplicaRouter()
    settings.REPLICAS = {**settings.REPLICAS, "OUTSIDE_UNITS": "routed"}
    settings.MIDDLEWARE = []
    multidb.pinning.pin_this_thread()
    assert Client().get("/title").json()[0] == "default"


def test_the_deprecated_names(project):
    """SLAVE_DATABASES, and the routers called after it, count too."""
    with project(SLAVE_DATABASES=["shadow-2"], REPLICA_DATABASES=["shadow-1"]):
        assert title() == "replica1"
    names = ["MasterSlaveRouter", "PinningMasterSlaveRouter"]
    for name in names:
        paths = [f"django_replicas.compat.multidb.{name}"]
        with project("SLAVE_DATABASES = ['shadow-2']", DATABASE_ROUTERS=paths):
            pinning.unpin_this_thread()
            assert title() == "replica2"


# PinningReplicaRouter


def test_after_writing(project):
    """ "after writing to default, future reads from the same user agent are directed to" it."""
    with project(README + PINNING):
        agent = Client()
        assert set(agent.get("/where").json()) <= SHADOWS
        agent.post("/where")
        assert agent.get("/where").json() == ["default", "default"]
        assert set(Client().get("/where").json()) <= SHADOWS


@pytest.mark.parametrize("method", sorted(middleware.READ_ONLY_METHODS))
def test_methods_that_are_no_writes(project, method):
    """ "HTTP methods that are not GET, TRACE, HEAD, or OPTIONS are writes"."""
    assert {"GET", "TRACE", "HEAD", "OPTIONS"} == middleware.READ_ONLY_METHODS
    with project(README + PINNING):
        response = Client().generic(method, "/where")
        assert not response.cookies
        assert set(Client().get("/where").json()) <= SHADOWS


def test_unsafe_methods_read_default(project):
    """And what they write is carried on; one that wrote nothing pins nobody."""
    with project(README + PINNING):
        assert Client().post("/where").json() == ["default", "default"]
        agent = Client()
        assert not agent.generic("DELETE", "/where").cookies
        assert set(agent.get("/where").json()) <= SHADOWS


def test_the_thread_is_pinned_in_what_is_to_read_default(project):
    """The middleware pins it for unsafe methods, and for who comes with the cookie."""
    with project(README + PINNING):
        agent = Client()
        assert agent.get("/by_hand").json()[0] is False
        assert agent.post("/by_hand").json() == [True, "default"]
        assert agent.get("/by_hand").json() == [True, "default"]
        assert Client().get("/by_hand").json()[0] is False


def test_a_position_pins_the_thread_too(project):
    """A replica chosen by hand is not asked whether it has replayed it."""
    with project(README + PINNING), unit_of_work() as block:
        state = block.unit.state_of("default")
        state.marked, state.sought = False, WalPosition(1, 100)
        assert multidb.this_thread_is_pinned()


def test_db_write(project):
    """ "indicate that any view writes … by using db_write": "as if the request were a POST"."""
    with project(README + PINNING):
        agent = Client()
        assert agent.get("/db_write").json() == ["default", "default"]
        assert agent.get("/where").json() == ["default", "default"]


def test_db_write_attribute(project):
    """ "not result in using the default database in this request, but only in the next"."""
    with project(README + PINNING):
        agent = Client()
        assert set(agent.get("/says_so").json()) <= SHADOWS
        assert agent.get("/where").json() == ["default", "default"]


@pytest.mark.parametrize(
    ("page", "read"), [("/async/db_write", {"default"}), ("/async/says_so", SHADOWS)]
)
def test_async_views_say_so_too(project, page, read):
    """Both ways, on an event loop."""

    async def visit():
        agent = AsyncClient()
        first = (await agent.get(page)).json()
        second = (await agent.get("/async/where")).json()
        await sync_to_async(connections.close_all)()
        return first, second

    with project(README + PINNING):
        first, second = asyncio.run(visit())
    assert set(first) <= read
    assert second == ["default", "default"]


def test_the_cookie(project):
    """MULTIDB_PINNING_SECONDS, MULTIDB_PINNING_COOKIE and its attributes, as the README says."""
    with project(README + PINNING):
        cookie = Client().post("/where").cookies["multidb_pin_writes"]
        assert cookie["max-age"] in {5, 6}
        assert not cookie["secure"]
        assert not cookie["httponly"]
        assert cookie["samesite"] == "Lax"
        assert middleware.pinning_cookie() == "multidb_pin_writes"
        assert middleware.pinning_seconds() == 5
        assert middleware.pinning_cookie_secure() is False
        assert middleware.pinning_cookie_httponly() is False
        assert middleware.pinning_cookie_samesite() == "Lax"


def test_the_cookie_by_default(project):
    """ "By default, its value is a conservative 15 seconds"; scripts do not see it here."""
    text = README + PINNING[: PINNING.index("MULTIDB")]
    with project(text):
        cookie = Client().post("/where").cookies["multidb_pin_writes"]
        assert cookie["max-age"] in {15, 16}
        assert cookie["httponly"]
    with without_replicas():
        assert middleware.pinning_seconds() == 15


def test_a_forged_cookie_pins_nobody(project):
    """Any value was believed; ours is signed."""
    with project(README + PINNING):
        agent = Client()
        agent.cookies["multidb_pin_writes"] = "y"
        assert set(agent.get("/where").json()) <= SHADOWS


# use_primary_db


def test_use_primary_db(project):
    """ "both a context manager and a decorator for wrapping code to use the primary database"."""

    @use_primary_db
    def touch():
        return title(), multidb.this_thread_is_pinned()

    @use_primary_db
    async def touch_async():
        return multidb.this_thread_is_pinned()

    with project(README + PINNING), unit_of_work():
        with use_primary_db:
            assert title() == "default"
            assert multidb.this_thread_is_pinned()
        assert title() in SHADOWS
        assert touch() == ("default", True)
        assert title() in SHADOWS
        assert asyncio.run(touch_async())
    assert pinning.use_master is use_primary_db


def test_use_primary_db_nests(project):
    """The inner block puts back what the outer one said; the thread was pinned for good."""
    with project(README + PINNING), unit_of_work():
        with use_primary_db:
            with use_primary_db:
                pass
            assert title() == "default"
        with pytest.raises(ZeroDivisionError), use_primary_db:
            _ = 1 / 0
        assert title() in SHADOWS


class OnThePrimary(MiddlewareMixin):
    """Middleware that enters and leaves in two halves."""

    def process_request(self, request):
        use_primary_db.__enter__()

    def process_response(self, request, response):
        use_primary_db.__exit__(None, None, None)
        response["X-Pinned"] = multidb.this_thread_is_pinned()
        return response


def test_use_primary_db_in_two_halves_of_a_middleware(project):
    """On an event loop each half has a context of its own; what was there comes back."""

    async def visit():
        response = await AsyncClient().get("/async/where")
        await sync_to_async(connections.close_all)()
        return response

    with project(README + PINNING):
        halves = [*settings.MIDDLEWARE, f"{__name__}.OnThePrimary"]
        with override_settings(MIDDLEWARE=halves):
            for response in asyncio.run(visit()), Client().get("/where"):
                assert response.json() == ["default", "default"]
                assert response["X-Pinned"] == "False"


def test_what_is_written_in_it_is_carried_on(project):
    """As any write of the request."""
    with project(README + PINNING), unit_of_work():
        with use_primary_db:
            write()
        assert title() == "default"


def test_no_pin_where_there_is_no_unit(project):
    """As on an event loop outside of any request, whose tasks share the thread."""

    async def ask():
        return multidb.this_thread_is_pinned()

    with project():
        assert asyncio.run(ask()) is False


def test_pins_by_hand(project):
    """pin_this_thread() and unpin_this_thread(), of this thread alone."""
    with project(), ThreadPoolExecutor(1) as pool:
        assert not multidb.this_thread_is_pinned()
        pinning.pin_this_thread()
        assert multidb.this_thread_is_pinned()
        assert title() == "default"
        assert not pool.submit(multidb.this_thread_is_pinned).result()
        pinning.unpin_this_thread()
        assert title() in SHADOWS


def test_version():
    """``multidb.VERSION`` is that of the release whose names these are."""
    assert (multidb.VERSION, multidb.__version__) == ((0, 11, 0), "0.11.0")
