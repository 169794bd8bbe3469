"""A project of django_replicated, as its README says and changed only in dotted paths."""

import asyncio

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.db import connections
from django.http import JsonResponse
from django.shortcuts import redirect
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.urls import path
from django.utils.deprecation import MiddlewareMixin

from django_replicas import unit_of_work
from django_replicas.checks import check_databases
from django_replicas.compat.django_replicated import dbchecker
from django_replicas.compat.django_replicated import settings as settings_to_import
from django_replicas.compat.django_replicated.decorators import use_master, use_slave, use_state
from django_replicas.compat.django_replicated.middleware import (
    ReadOnlyMiddleware,
    ReplicationMiddleware,
)
from django_replicas.compat.django_replicated.router import ReplicationRouter
from django_replicas.compat.django_replicated.utils import Routers, get_object_name, routers
from django_replicas.conf import get_config
from django_replicas.dialects.django_replicated import DEFAULTS, DIALECT
from django_replicas.exceptions import FollowerRoleWriteError

from .moved import settings_in, without_replicas
from .settings import sqlite
from .shop.models import Book, Shelf

# Its steps, to the letter but for the paths, a missing "=", and Django's name for the middleware.
README = """
from django_replicas.compat.django_replicated.settings import *

DATABASES = {
    'default': {
        # ENGINE, HOST, etc.
    },
    'slave1': {
        # ENGINE, HOST, etc.
    },
    'slave2': {
        # ENGINE, HOST, etc.
    },
}

REPLICATED_DATABASE_SLAVES = ['slave1', 'slave2']

DATABASE_ROUTERS = ['django_replicas.compat.django_replicated.router.ReplicationRouter']

REPLICATED_DATABASE_DOWNTIME = 20

MIDDLEWARE = [
    'django_replicas.compat.django_replicated.middleware.ReplicationMiddleware',
    'django.contrib.sessions.middleware.SessionMiddleware',
]

REPLICATED_VIEWS_OVERRIDES = {
    'api-store-event': 'slave',
    'app.views.do_smthg': 'master',
}
"""
SLAVES = {"replica1", "replica2"}


def title():
    return Book.objects.get(pk=1).title


seen = []


def where(request):
    """Tell where this request reads."""
    seen.append(title())
    return JsonResponse([seen[-1], routers.state()], safe=False)


async def where_async(request):
    return JsonResponse([await sync_to_async(title)(), routers.state()], safe=False)


def write(request):
    Book.objects.filter(pk=1).update(note="written")
    return redirect("/where")


def write_by_name(request):
    Book.objects.using("default").filter(pk=1).update(note="written")
    return where(request)


def first_access(request):
    request.session["seen"] = True
    return where(request)


def do_smthg(request):
    return where(request)


urlpatterns = [
    path("where", where),
    path("async/where", where_async),
    path("write", write),
    path("by_name", write_by_name),
    path("first_access", first_access),
    path("event", where, name="api-store-event"),
    path("smthg", do_smthg),
    path("use_master", use_master(where)),
    path("use_slave", use_slave(where)),
    path("use_slave/write", use_slave(write)),
    path("state", use_state(forced_state="master")(where)),
    path("state_slave", use_state("slave")(where)),
    path("state_by_method", use_state()(where)),
    path("async/state_by_method", use_state()(where_async)),
]


@pytest.fixture
def project(databases_are):
    """Return the README's project, with other settings where a test has them."""

    def configured(slave1=None, **others):
        databases_are(slave1=slave1 or sqlite("replica1"), slave2=sqlite("replica2"))
        given = settings_in(README.replace("app.views", __name__)) | others
        given.pop("DATABASES")
        return without_replicas(**{"ROOT_URLCONF": __name__, **given})

    return configured


# Installation


def test_star_import(project):
    """ "Add import of the default django_replicated settings into your settings.py"."""
    names = {name for name in vars(settings_to_import) if name.isupper()}
    assert names == DIALECT.own
    assert {name: getattr(settings_to_import, name) for name in DEFAULTS} == DEFAULTS
    with project(DATABASE_ROUTERS=[]):
        assert django_settings.REPLICATED_READ_ONLY_TRIES == 1
        assert get_config().problems == ()


def test_slaves(project):
    """ "Teach django_replicated which databases are slaves"; "'default' is always … master"."""
    with project():
        (replica_set,) = get_config().topology.sets
        assert replica_set.leader == "default"
        assert replica_set.followers == ("slave1", "slave2")
        assert {Client().get("/where").json()[0] for _ in range(30)} == SLAVES
    with project(REPLICATED_DATABASE_SLAVES=[]):
        assert Client().get("/where").json()[0] == "default"


def test_downtime(project):
    """ "timeout to exclude a database from the available list after an unsuccessful ping"."""
    gone = {**sqlite("replica1"), "NAME": "/no/such/folder/slave1.sqlite3"}
    with project(slave1=gone):
        assert get_config().topology.sets[0].downtime == 20
        assert {Client().get("/where").json()[0] for _ in range(10)} == {"replica2"}
    with project(slave1=gone, REPLICATED_DATABASE_SLAVES=["slave1"]):
        assert Client().get("/where").json()[0] == "default"


def test_downtime_by_default(project):
    """ "The default downtime value is 60 seconds"."""
    with project(REPLICATED_DATABASE_DOWNTIME=settings_to_import.REPLICATED_DATABASE_DOWNTIME):
        assert get_config().topology.sets[0].downtime == 60


# Middleware


@pytest.mark.parametrize(
    ("method", "answers"),
    [("GET", SLAVES), ("HEAD", SLAVES), ("POST", {"default"}), ("PUT", {"default"})],
)
def test_methods(project, method, answers):
    """ "slaves during handling of GET and HEAD requests and … a master otherwise"."""
    with project():
        assert Client().generic(method, "/where").status_code == 200
        assert seen[-1] in answers


def test_on_an_event_loop(project):
    """The same for async views, each of which has its own state."""

    async def visit():
        async def ask(method):
            return (await AsyncClient().generic(method, "/async/where")).json()

        answers = await asyncio.gather(*map(ask, ["GET", "POST"] * 5))
        await sync_to_async(connections.close_all)()
        return answers

    with project():
        answers = asyncio.run(visit())
    assert {tuple(answer) for answer in answers[1::2]} == {("default", "master")}
    assert all(title in SLAVES and state == "slave" for title, state in answers[::2])


def test_writes_at_arbitrary_moments(project):
    """ "implicit creation of sessions on first access … including during GET requests"."""
    with project():
        client = Client()
        title, _ = client.get("/first_access").json()
        assert title in SLAVES
        assert client.session["seen"]


def test_a_certain_database(project):
    """ "you can always instruct Django ORM to use a certain database", for a write too."""
    with project():
        client = Client()
        assert client.get("/by_name").json() == ["default", "slave"]
        assert client.get("/where").json()[0] == "default"
        assert Book.objects.using("default").get(pk=1).note == "written"


# Decorators


@pytest.mark.parametrize("middleware", [True, False])
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("page", "answer"),
    [
        ("/use_master", "master"),
        ("/use_slave", "slave"),
        ("/state", "master"),
        ("/state_slave", "slave"),
    ],
)
def test_decorators(project, page, answer, method, middleware):
    """ "you can use decorators to wrap individual views into master or slave … modes"."""
    others = {} if middleware else {"MIDDLEWARE": []}
    with project(**others):
        title, state = Client().generic(method, page).json()
    assert state == answer
    assert title in ({"default"} if answer == "master" else SLAVES)


def test_decorators_restore():
    """A master's helper called in a slave's view leaves the view where it was; theirs did not."""
    helper = use_master(routers.state)
    view = use_slave(lambda: (routers.state(), helper(), routers.state()))
    assert view() == ("slave", "master", "slave")


@pytest.mark.parametrize("middleware", [True, False])
@pytest.mark.parametrize(("method", "answer"), [("GET", "slave"), ("POST", "master")])
def test_use_state_without_a_state(project, method, answer, middleware):
    """``use_state()`` is what the middleware does, for one view of a project that has none."""
    others = {} if middleware else {"MIDDLEWARE": []}
    with project(**others):
        title, state = Client().generic(method, "/state_by_method").json()
    assert (state, title in SLAVES) == (answer, answer == "slave")


@pytest.mark.parametrize(("method", "answer"), [("GET", "slave"), ("POST", "master")])
def test_use_state_without_a_state_of_an_async_view(project, method, answer):
    """The same on an event loop."""

    async def visit():
        response = await AsyncClient().generic(method, "/async/state_by_method")
        await sync_to_async(connections.close_all)()
        return response

    with project(MIDDLEWARE=[]):
        assert asyncio.run(visit()).json()[1] == answer


def test_use_state_leaves_what_is_overridden(project):
    """ "override how the middleware chooses": ``use_state()`` goes by that, as it did."""
    with project(REPLICATED_VIEWS_OVERRIDES={"/state_by_*": "master"}):
        assert Client().get("/state_by_method").json() == ["default", "master"]


# GET after POST


def test_get_after_post(project):
    """ "a GET request resulting from a redirect after a POST is explicitly routed to a master"."""
    with project():
        client = Client()
        assert client.post("/write", follow=True).json()[0] == "default"
        cookie = client.cookies["just_updated"]
        assert cookie["max-age"] in {5, 6}
        assert set(Client().get("/where").json()) & SLAVES


def test_state_in_get_after_post(project):
    """The cookie says where is read, and leaves the state as the method has it."""
    with project():
        client = Client()
        client.post("/write")
        assert client.get("/where").json() == ["default", "slave"]
        with pytest.raises(FollowerRoleWriteError):
            client.get("/write")


def test_get_after_post_with_decorators(project):
    """ "both ReplicationMiddleware and decorators support" it."""
    with project(MIDDLEWARE=[], REPLICATED_CHECK_STATE_ON_WRITE=False):
        client = Client()
        assert client.get("/use_slave").json()[0] in SLAVES
        client.post("/use_slave/write")
        assert client.get("/use_slave").json()[0] == "default"


def test_a_forged_cookie(project):
    """Nobody can send themselves to the master; theirs was the word "true"."""
    with project():
        client = Client()
        client.cookies["just_updated"] = "true"
        assert client.get("/where").json()[0] in SLAVES


# Global overrides


def test_views_overrides(project):
    """ "the mapping of view names (urlpatterns names) or view import paths to database names"."""
    with project():
        assert Client().post("/event").json()[0] in SLAVES
        assert Client().get("/smthg").json()[0] == "default"
    with project(REPLICATED_VIEWS_OVERRIDES={"/whe*": "master"}):
        assert Client().get("/where").json()[0] == "default"
        assert Client().get("/event").json()[0] in SLAVES


def test_order_of_views_overrides(project):
    """Theirs took the first that matched; here a name counts before a path, a path before "*"."""
    path = f"{__name__}.do_smthg"
    given = {"/ev*": "master", "/sm*": "slave", "api-store-event": "slave", path: "master"}
    with project(REPLICATED_VIEWS_OVERRIDES=given):
        assert Client().post("/event").json()[1] == "slave"
        assert Client().get("/smthg").json()[1] == "master"
    with project(REPLICATED_VIEWS_OVERRIDES={"/sm*": "master", "/smthg": "slave"}):
        assert Client().get("/smthg").json()[1] == "master"


def test_force_state_header(project):
    """Off unless named, because any client can send it; theirs was on."""
    with project():
        asked = {"headers": {"x-replicated-state": "slave"}}
        assert Client().post("/where", **asked).json()[0] == "default"
    with project(REPLICATED_FORCE_STATE_HEADER="HTTP_X_REPLICATED_STATE"):
        assert Client().post("/where", **asked).json()[0] in SLAVES


# Its changelog


def test_state_checking_before_writes(project):
    """ "Added state checking before writes. Enabled by default"."""
    with project():
        with pytest.raises(RuntimeError) as raised:
            Client().get("/write")
        assert isinstance(raised.value, FollowerRoleWriteError)
        assert Client().post("/write").status_code == 302
    with project(REPLICATED_CHECK_STATE_ON_WRITE=False):
        assert Client().get("/write").status_code == 302


def test_relations_in_a_set(project):
    """ "Now allows relations between objects in same master-slave db set", and only there."""
    with project():
        router, book = ReplicationRouter(), Book.objects.using("slave1").get(pk=1)
        assert router.allow_relation(book, Shelf.objects.using("default").get(pk=1))
        assert not router.allow_relation(book, Shelf.objects.using("lonely").get(pk=1))


def test_dbchecker(project, tmp_path):
    """ "Database checkers moved to dbchecker.py module", one "renamed to db_is_writable"."""
    gone = {**sqlite("replica1"), "NAME": str(tmp_path / "folder" / "slave1.sqlite3")}
    with project(slave1=gone):
        assert dbchecker.db_is_alive("default")
        assert dbchecker.db_is_writable("default", cache_seconds=60, number_of_tries=2)
        assert not dbchecker.db_is_alive("slave1")
        assert not dbchecker.db_is_alive("slave1", cache_seconds=60)
        (tmp_path / "folder").mkdir()
        assert not dbchecker.db_is_alive("slave1", cache_seconds=60)
        assert dbchecker.db_is_alive("slave1", cache_seconds=60, force=True)
        assert dbchecker.db_is_alive("slave1", cache_seconds=60)
        with pytest.raises(ZeroDivisionError):
            dbchecker.check_db(lambda connection: 1 / 0, "default")
        answers = iter([False, False, True])
        assert not dbchecker.check_db(lambda connection: next(answers), "default", None, 2)
        assert dbchecker.check_db(lambda connection: next(answers), "default")


def test_dbchecker_knows_checkers_by_name(project):
    """A checker that is made for each call is not asked again, and nothing is kept of it."""

    def check(answer):
        def ours(connection):
            return answer

        return dbchecker.check_db(ours, "default", 60)

    with project():
        assert not check(answer=False)
        assert not check(answer=True)
        assert dbchecker.db_is_alive("default", 60)


# What the README does not tell of


def test_states_by_hand(project):
    """use_state() and revert() pair; init() and reset() begin afresh."""
    with project():
        assert routers.state() == "master"
        routers.init("slave")
        assert title() in SLAVES
        assert routers.use_state("master").state() == "master"
        assert title() == "default"
        routers.revert()
        assert title() in SLAVES
        ReplicationRouter().init("master")
        assert title() == "default"
        routers.revert()
        assert routers.state() == "master"
        routers.use_state("slave").use_state("slave")
        routers.reset()
        assert routers.state() == "master"
        with unit_of_work(role="follower"):
            routers.use_state("master")
            assert title() == "default"
            routers.revert()
            assert title() in SLAVES


def test_the_router_where_nobody_has_it_at_hand(project):
    """``utils.routers`` is asked for what the router knows: ``routers.db_for_read()``."""
    assert isinstance(routers, Routers)
    with project():
        assert (routers.db_for_read(), routers.db_for_write()) == ("default", "default")
        routers.init("slave")
        assert routers.db_for_read() == routers.db_for_read(None) == routers.db_for_read(Book)
        assert routers.db_for_read() in {"slave1", "slave2"}
        for write in (routers.db_for_write, lambda: routers.db_for_write(Book)):
            with pytest.raises(FollowerRoleWriteError):
                write()
        routers.reset()


def test_what_the_router_knows(project, tmp_path):
    """``SLAVES``, ``all_allowed_aliases``, ``is_alive`` and what it takes from the settings."""
    gone = {**sqlite("replica1"), "NAME": str(tmp_path / "folder" / "slave1.sqlite3")}
    with project(slave1=gone):
        assert routers.SLAVES == ["slave1", "slave2"]
        assert routers.all_allowed_aliases == ["default", "slave1", "slave2"]
        assert (routers.DEFAULT_DB_ALIAS, routers.DOWNTIME) == ("default", 20)
        assert routers.CHECK_STATE_ON_WRITE is True
        assert [*map(routers.is_alive, routers.SLAVES)] == [False, True]
        (tmp_path / "folder").mkdir()
        assert not routers.is_alive("slave1")
    with project(REPLICATED_DATABASE_SLAVES=[], REPLICATED_CHECK_STATE_ON_WRITE=False):
        assert (routers.SLAVES, routers.CHECK_STATE_ON_WRITE) == (["default"], False)


def test_a_router_that_looks_at_models(project):
    """A project's own, among the delegates, is shown something where no model is named."""

    class ByApp:
        def db_for_read(self, model, **hints):
            return {"shop": "other"}.get(model._meta.app_label)

    replicas = {"SETS": {"default": ["slave1"]}, "DELEGATE_ROUTERS": [ByApp()], "TRACE": True}
    with project(), override_settings(REPLICAS=replicas), unit_of_work(role="follower") as block:
        assert (routers.db_for_read(), routers.db_for_read(Book)) == ("slave1", "other")
    assert [each.model for each in block.unit.trace] == ["django_replicated.any", "shop.book"]


def test_what_no_router_has(project):
    """An attribute that is not there is an AttributeError that says who was asked."""
    with project():
        assert not hasattr(routers, "context")
        assert not hasattr(routers, "_check_role")
    with (
        project(DATABASE_ROUTERS=["django_replicas.routers.LeaderFollowerRouter"]),
        pytest.raises(AttributeError, match=r"^routers\.SLAVES is asked of Replication.*\bName"),
    ):
        _ = routers.SLAVES


def test_object_names():
    """``utils.get_object_name``: its own, or its class's."""
    assert [*map(get_object_name, (where, Book, Book()))] == ["where", "Book", "Book"]


class InTheMaster(MiddlewareMixin):
    """Middleware as it was written for the older package, in two halves."""

    def process_request(self, request):
        routers.use_state("slave").use_state("master")

    def process_response(self, request, response):
        routers.revert()
        response["X-State"] = routers.state()
        routers.reset()
        return response


def test_states_in_two_halves_of_a_middleware(project):
    """On an event loop each half has a context of its own; what was there comes back."""

    async def visit():
        response = await AsyncClient().get("/async/where")
        await sync_to_async(connections.close_all)()
        return response

    with project():
        halves = [*django_settings.MIDDLEWARE, f"{__name__}.InTheMaster"]
        with override_settings(MIDDLEWARE=halves):
            for response in asyncio.run(visit()), Client().get("/where"):
                assert response.json() == ["default", "master"]
                assert response["X-State"] == "slave"


def test_states_in_two_calls(project):
    """The same outside any request, where there may have been nothing before."""

    async def visit():
        await sync_to_async(routers.use_state)("slave")
        inside = await sync_to_async(routers.state)(), routers.state()
        await sync_to_async(routers.revert)()
        return inside, routers.state()

    with project():
        assert asyncio.run(visit()) == (("slave", "slave"), "master")


def test_what_is_no_state(project):
    """It is told at once, and nothing is read from a slave by mistake."""
    with project():
        for use in (routers.init, routers.use_state, use_state):
            with pytest.raises(ValueError, match=r"^'Master' is no state\. "):
                use("Master")
        with pytest.raises(RuntimeError, match="there was none"):
            routers.revert()
        assert routers.state() == "master"


def test_forced_state(project):
    """The middleware may have one state for all requests."""
    with project():
        middleware = ReplicationMiddleware(where, forced_state="slave")
        assert middleware(RequestFactory().post("/where")).content.endswith(b'"slave"]')
        middleware = ReplicationMiddleware(where, "master")
        assert middleware(RequestFactory().get("/where")).content == b'["default", "master"]'


def test_read_only_middleware(project):
    """REPLICATED_READ_ONLY_TRIES and its like are those of the one that there is."""
    with project():
        assert get_config().read_only_tries == 1
        assert get_config().read_only_downtime == 20
        request = RequestFactory().get("/where")
        ReadOnlyMiddleware(where)(request)
        assert not request.service_is_readonly


def test_nothing_warns(project):
    """No check has anything against such a project, but for mirrors that it never had."""
    with project():
        assert {each.id for each in check_databases()} == {"django_replicas.W003"}
