"""A project of django-pindb, configured as its README says and changed only in dotted paths."""

import celery.signals
import pytest
from django.db import router
from django.http import JsonResponse
from django.test import Client
from django.urls import path

from django_replicas.compat import pindb
from django_replicas.compat.pindb import exceptions, middleware

from .moved import in_turn, settings_in, without_replicas
from .settings import sqlite
from .shop.models import Book, Label

# Its "Example configuration", to the letter but for two paths.
README = """
from django_replicas.compat import pindb

MASTER_DATABASES = {
    'default': {
        'NAME': 'db1',
        'ENGINE': DB_ENGINE,
        'USER': '...',
        'PASSWORD': '...',
        'HOST': '10.0.1.0',
        'PORT': 3306,
        'OPTIONS': DB_OPTIONS
    },
    'api': {
        'NAME': 'db2',
        'ENGINE': DB_ENGINE,
        'USER': '...',
        'PASSWORD': '...',
        'HOST': '10.0.2.0',
        'PORT': 3306,
        'OPTIONS': DB_OPTIONS
    },
}

DATABASE_SETS = {
    "default": [{'HOST': '10.0.1.1'},{'HOST': '10.0.1.2'}],
    "api": [{'HOST': '10.0.2.1'}]
}

DATABASES = {...}

DATABASES.update(pindb.populate_replicas(MASTER_DATABASES, DATABASE_SETS))

PINDB_DELEGATE_ROUTERS = ["myapp.router.Router"]
DATABASE_ROUTERS = ['django_replicas.compat.pindb.GreedyPinDbRouter']

# default values which you can override:
PINDB_ENABLED = True
PINDB_PINNING_COOKIE = 'pindb_pinned_set'
PINDB_PINNING_SECONDS = 15
"""
OURS = {
    "DATABASES = {...}": "DATABASES = {'unmanaged': UNMANAGED}",
    "myapp.router.Router": f"{__name__}.Router",
}
# Which of the tests' files the server at each address is.
SERVERS = {
    **{"10.0.1.0": "default", "10.0.1.1": "replica1", "10.0.1.2": "replica2"},
    **{"10.0.2.0": "other", "10.0.2.1": "other-0"},
}
REPLICAS = {"replica1", "replica2"}
STRICT = "django_replicas.compat.pindb.StrictPinDbRouter"


class Router:
    """The project's own: labels are the API's, and books that it is told of are unmanaged."""

    def db_for_read(self, model, **hints):
        return {Label: "api"}.get(model, "default")

    db_for_write = db_for_read


def config(**others):
    text = README
    for theirs, ours in OURS.items():
        text = text.replace(theirs, ours)
    names = {"DB_ENGINE": "django.db.backends.sqlite3", "DB_OPTIONS": {}}
    return settings_in(text, **names, UNMANAGED=sqlite("lonely")) | others


@pytest.fixture
def project(databases_are):
    """Return the project, with other settings where a test has them."""

    def configured(without=(), **others):
        given = config(**others)
        databases = given.pop("DATABASES")
        for name in without:
            del given[name]
        for entry in databases.values():
            if "HOST" in entry:
                entry["NAME"] = sqlite(SERVERS[entry["HOST"]])["NAME"]
        databases_are(**databases)
        ours = ["django_replicas.compat.pindb.middleware.PinDbMiddleware"]
        return without_replicas(**{"MIDDLEWARE": ours, **given})

    return configured


def title(books=Book.objects):
    return books.get(pk=1).title


def write():
    Book.objects.filter(pk=1).update(note="written")


# TL;DR API, and its jargon


WAYS = {
    "create": lambda foo: Book.objects.create(title="new"),
    "save": lambda foo: foo.save(),
    "update": lambda foo: Book.objects.filter(pk=1).update(note="written"),
    "delete": lambda foo: foo.delete(),
}


@pytest.mark.parametrize("way", WAYS)
def test_strict_write_without_pinning(project, way):
    """ "UnpinnedWriteException raised under strict mode": "create, save, update, or delete"."""
    with project(DATABASE_ROUTERS=[STRICT]):
        foo = Book.objects.all()[0]
        assert foo.title in REPLICAS
        with pytest.raises(pindb.UnpinnedWriteException):
            WAYS[way](foo)
        pindb.pin("default")
        WAYS[way](foo)


@pytest.mark.parametrize("way", WAYS)
def test_greedy_write_without_pinning(project, way):
    """ "GreedyPinDbRouter will pin to a master as soon as a write occurs"."""
    with project():
        foo = Book.objects.all()[0]
        assert foo.title in REPLICAS
        WAYS[way](foo)
        assert pindb.is_pinned("default")
        assert Label.objects.db == "api-0"
        assert Book.objects.db == "default"


def test_pin(project):
    """ "read only from the master, allow writes"; "once pinned, you should not unpin"."""
    with project(DATABASE_ROUTERS=[STRICT]):
        assert title() in REPLICAS
        pindb.pin("default")
        write()
        assert title() == "default"
        assert pindb.get_pinned() == pindb.get_newly_pinned() == {"default"}
        assert pindb.is_newly_pinned("default")
        pindb.unpin_all()
        pindb.pin("default", count_as_new=False)
        assert not pindb.is_newly_pinned("default")


def test_unpin_all(project):
    """ "Initialize/end the container"."""
    with project():
        pindb.pin("default")
        assert title() == "default"
        pindb.unpin_all()
        assert not pindb.get_pinned()
        assert title() in REPLICAS


def test_unpinned_replica(project):
    """ "read from replicas despite pinning state", or `queryset.using(pindb.get_replica())`."""

    @pindb.with_replicas("default")
    def of_replica():
        return title()

    with project():
        pindb.pin("default")
        with pindb.unpinned_replica("default"):
            assert title() in REPLICAS
        assert title() == "default"
        assert title(Book.objects.using(pindb.get_replica("default"))) in REPLICAS
        assert of_replica() in REPLICAS
        assert pindb.with_replicas(["default", "api"])(title)() in REPLICAS
        assert title() == "default"


def test_master(project):
    """ "write to master despite pinning state", which "should be able to side-step the pinning"."""
    with project(DATABASE_ROUTERS=[STRICT]):
        with pindb.master("default"):
            write()
            assert title() == "default"
        pindb.with_masters(["default"])(write)()
        pindb.with_masters("default")(write)()
        assert not pindb.get_pinned()
        assert title() in REPLICAS


def test_using_sidesteps_pinning(project):
    """ "If you want to write to a DB without pinning the container, you can use .using"."""
    with project(DATABASE_ROUTERS=[STRICT]):
        Book.objects.using("default").create(title="new")
        assert not pindb.get_pinned()
        assert title() in REPLICAS


def test_round_robin(project):
    """ "round-robin read from replicas", the same one during a pinning context."""
    with project():
        assert len({title() for _ in range(5)}) == 1
        answers = []
        for _ in range(6):
            pindb.unpin_all()
            answers.append(title())
        assert in_turn(answers)


# Installation


def test_disabled(project):
    """ "PINDB_ENABLED can be used to disable pindb under test"."""
    with project(DATABASE_ROUTERS=[STRICT], PINDB_ENABLED=False):
        assert not pindb.is_enabled()
        assert title() == "default"
        write()
        assert pindb.get_replica("default") == "default"
    with project():
        assert pindb.is_enabled()


def test_delegate_routers(project):
    """ "a database router which should return a master alias; pindb will then choose"."""
    with project():
        assert Label.objects.db == "api-0"
        pindb.pin("default")
        assert (title(), Label.objects.db) == ("default", "api-0")
        pindb.pin("api")
        assert Label.objects.db == "api"
        pindb.unpin_all()
    with project(PINDB_DELEGATE_ROUTERS=None):
        assert router.db_for_read(Label) in {"default-0", "default-1"}


@pytest.mark.parametrize("delegate", [f"{__name__}.Router", [Router()]])
def test_database_router_delegate(project, delegate):
    """ "there is one additional setting: DATABASE_ROUTER_DELEGATE", by name or as an object."""
    with project(without=["PINDB_DELEGATE_ROUTERS"], DATABASE_ROUTER_DELEGATE=delegate):
        assert router.db_for_read(Label) == "api-0"
        assert router.db_for_write(Label) == "api"
        assert router.db_for_read(Book) in {"default-0", "default-1"}


def test_databases(project):
    """ "resulting in something like…": the master's settings merged with each replica's own."""
    databases = config()["DATABASES"]
    assert [*databases] == ["unmanaged", "default", "api", "default-0", "default-1", "api-0"]
    assert databases["default-1"]["HOST"] == "10.0.1.2"
    assert databases["default-1"]["PORT"] == 3306
    assert databases["default-1"]["TEST"]["MIRROR"] == "default"


def test_unmanaged_aliases(project):
    """ "writes to unmanaged aliases are allowed at any time"."""
    with project(DATABASE_ROUTERS=[STRICT], PINDB_DELEGATE_ROUTERS=[ToUnmanaged()]):
        write()
        assert title() == "lonely"
        assert Book.objects.get(pk=1).note == "written"


class ToUnmanaged:
    def db_for_read(self, model, **hints):
        return "unmanaged"

    db_for_write = db_for_read


def test_middleware(project):
    """ "Pinning is time-based and round-trips between web requests via cookies"."""
    with project():
        client = Client()
        assert set(client.get("/sync/title").json()) <= REPLICAS
        response = client.post("/sync/books/new")
        cookie = response.cookies["pindb_pinned_set"]
        assert cookie["max-age"] in {15, 16}
        assert set(client.get("/sync/title").json()) == {"default"}
        assert set(Client().get("/sync/title").json()) <= REPLICAS


def test_pinning_cookie_and_seconds(project):
    """PINDB_PINNING_COOKIE and PINDB_PINNING_SECONDS are "values which you can override"."""
    with project():
        assert middleware.PINNING_COOKIE == "pindb_pinned_set"
        assert middleware.PINNING_SECONDS == 15
        assert not hasattr(middleware, "PINNING")
    with project(PINDB_PINNING_COOKIE="pins", PINDB_PINNING_SECONDS=60):
        assert middleware.PINNING_COOKIE == "pins"
        assert middleware.PINNING_SECONDS == 60
        client = Client()
        assert client.post("/sync/books/new").cookies["pins"]["max-age"] in {60, 61}
        assert set(client.get("/sync/title").json()) == {"default"}


def look_and_write(request):
    """Tell where a request reads, whether it is pinned, and whether it may write then."""
    if request.method == "POST":
        pindb.pin("default")
    found = title(), pindb.is_pinned("default")
    try:
        write()
    except pindb.UnpinnedWriteException:
        return JsonResponse([*found, "refused"], safe=False)
    return JsonResponse([*found, "written"], safe=False)


urlpatterns = [path("look_and_write", look_and_write)]


def test_a_pin_that_came_by_cookie(project):
    """It is no pin: reads go to the leader, and the strict router still asks for one."""
    with project(DATABASE_ROUTERS=[STRICT], ROOT_URLCONF=__name__):
        client = Client()
        assert client.post("/look_and_write").json() == ["default", True, "written"]
        assert client.get("/look_and_write").json() == ["default", False, "refused"]
        assert Client().get("/look_and_write").json()[0] in REPLICAS


@pytest.mark.parametrize("value", ['[["default", 99999999999]]', '{"a": 1}', "7"])
def test_a_forged_cookie_pins_nothing(project, value):
    """It is signed, and what is not ours is dropped; theirs was believed, or an error."""
    with project():
        client = Client()
        client.cookies["pindb_pinned_set"] = value
        assert set(client.get("/sync/title").json()) <= REPLICAS


def test_celery(project):
    """ "To use under celery, hook celery.signals.task_postrun to call pindb.unpin_all"."""

    def end_pinning(**kwargs):
        pindb.unpin_all()

    celery.signals.task_postrun.connect(end_pinning)
    try:
        with project():
            write()
            assert title() == "default"
            celery.signals.task_postrun.send(sender=None)
            assert title() in REPLICAS
    finally:
        celery.signals.task_postrun.disconnect(end_pinning)


# Exceptions and avoiding them


@pytest.mark.parametrize("missing", ["MASTER_DATABASES", "DATABASE_SETS"])
def test_settings_without_one_of_both(project, missing):
    """ "Your settings not including MASTER_DATABASES and DATABASE_SETS"."""
    with project(without=[missing]), pytest.raises(pindb.PinDbConfigError, match=missing):
        title()


@pytest.mark.parametrize("make", [pindb.StrictPinDbRouter, pindb.GreedyPinDbRouter])
def test_settings_without_both(project, make):
    """ "PinDbConfigError may be caused by your settings not including" them."""
    both = ["MASTER_DATABASES", "DATABASE_SETS"]
    others = [name for name in config() if name.startswith("PINDB_")]
    with (
        project(without=[*both, *others]),
        pytest.raises(pindb.PinDbConfigError, match=" and ".join(both)),
    ):
        make()
    with project(without=both[:1]):
        make()


def test_no_default():
    """ "MASTER_DATABASES not including a default … without passing unmanaged_default=True"."""
    masters, sets = {"api": {}}, {"api": []}
    with pytest.raises(pindb.PinDbConfigError, match="default"):
        pindb.populate_replicas(masters, sets)
    assert pindb.populate_replicas(masters, sets, unmanaged_default=True) == {"api": {}}


def test_config_errors_are_value_errors(project):
    """Whoever caught PinDbConfigError as the ``ValueError`` that it was goes on to catch it."""
    wrong = {"masters": {"api": {}}, "replicas_overrides": {"api": []}}
    for error in (pindb.PinDbConfigError, ValueError):
        with pytest.raises(error, match=r"^No leader is called"):
            pindb.populate_replicas(**wrong)
    with without_replicas(), pytest.raises(ValueError, match="There are no replica sets"):
        pindb.StrictPinDbRouter()


def test_no_master_is_aliased_to_default():
    """ "the master of your first DB set will also be aliased to "default"": it never was."""
    masters = {"api": {"NAME": "api"}}
    databases = pindb.populate_replicas(masters, {"api": [{}]}, unmanaged_default=True)
    assert [*databases] == ["api", "api-0"]


def test_no_entry_in_database_sets():
    """ "an alias in MASTER_DATABASES which does not have a related DATABASE_SETS entry"."""
    with pytest.raises(pindb.PinDbConfigError, match="'default'"):
        pindb.populate_replicas({"default": {}}, {})


def test_names():
    """Each exception is where it was, below the same root."""
    for name in exceptions.__all__:
        assert getattr(exceptions, name) is getattr(pindb, name)
    assert issubclass(pindb.UnpinnedWriteException, pindb.PinDbException)
    assert issubclass(pindb.PinDbConfigError, pindb.PinDbException)
    assert pindb.__version__ == (0, 1, 12)
