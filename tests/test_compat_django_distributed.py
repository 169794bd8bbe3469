"""A project that django-distributed's README configures, with other dotted paths.

Its settings are those of the page about moving over. What the README says of the router is tested
row by row in `test_session_pinned`; here is what the older names add, and the session engine. No
follower ever replicates, so that who does not ask the leader does not see a write.
"""

import sqlite3
from contextlib import closing
from importlib import import_module
from io import StringIO

import crum
import pytest
from django.conf import settings as django_settings
from django.contrib.auth import SESSION_KEY, get_user_model
from django.contrib.sessions.models import Session
from django.core.cache import cache, caches
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_replicas import unit_of_work
from django_replicas.management.commands.replicas import Command
from django_replicas.routers import SessionPinnedRouter
from django_replicas.sessions import write_behind
from django_replicas.sessions.process import drain

from .pages import python_of
from .projects import begun
from .shop.models import Book, Shelf
from .test_session_pinned import FOLLOWERS, LOCAL, add_session, distributed, reads, where

COMPAT = "django_replicas.compat.django_distributed"
BLOCKS = python_of("moving/django_distributed")


def example(number):
    """Return what a Python block of the page defines."""
    defined = {}
    exec(BLOCKS[number], defined)
    del defined["__builtins__"]
    return defined


@pytest.fixture(autouse=True)
def project(settings):
    """The README's project, its settings being the first block of the page."""
    settings.ROOT_URLCONF = "tests.test_session_pinned"
    settings.INSTALLED_APPS = [each for each in settings.INSTALLED_APPS if "replicas" not in each]
    settings.CACHES = {"default": LOCAL}
    cache.clear()
    with distributed(**example(0)):
        yield
        assert drain(10) == 0
    caches.close_all()


@pytest.fixture
def visitor(project):
    return add_session(Client())


# The names


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("", {"SessionCachedRouter"}),
        (".router", {"SessionCachedRouter"}),
        (".router.distributed_router", {"DistributedRouter"}),
        (
            ".router.cached_session_router",
            {"CachedRouter", "DistributedRouter", "KEY_PREFIX", "SessionCachedRouter"},
        ),
        (".session_engine", {"SessionStore"}),
    ],
)
def test_modules_and_names(module, names):
    """Every public name of release 0.3 is where it was."""
    assert names <= vars(import_module(COMPAT + module)).keys()


def test_what_they_lead_to():
    """Nothing is made a second time: the names are ours, or ours without a default."""
    routers = import_module(f"{COMPAT}.router.cached_session_router")
    engine = import_module(f"{COMPAT}.session_engine")
    assert issubclass(routers.SessionCachedRouter, SessionPinnedRouter)
    assert issubclass(routers.SessionCachedRouter, routers.CachedRouter)
    assert issubclass(routers.CachedRouter, routers.DistributedRouter)
    assert engine.SessionStore is write_behind.SessionStore
    assert routers.SessionCachedRouter.cache_key_prefix == routers.KEY_PREFIX


# The router


def test_checks_have_little_to_say(settings):
    """The project is in order as it is, but for the two paths that go one day."""
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
            "LOCATION": "127.0.0.1:1",
        }
    }
    told = [each.id for each in run_checks() if each.id.startswith("django_replicas")]
    assert told == ["django_replicas.W019"] * 2


def test_a_process_of_its_own(tmp_path):
    """The settings file, with the page's block in it, is all that Django needs to begin."""
    settings = PROJECT.format(folder=str(tmp_path)) + BLOCKS[0]
    assert begun(tmp_path, settings, BEGIN) == "default {'name': 'visitor'}\n"


PROJECT = """
SECRET_KEY = "not a secret"
INSTALLED_APPS = [
    "django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"
]
DATABASES = {{
    alias: {{"ENGINE": "django.db.backends.sqlite3", "NAME": {folder!r} + "/" + alias}}
    for alias in ("default", "replica1", "replica2")
}}
"""
BEGIN = """
import django
from django.core.management import call_command

django.setup()
call_command("migrate", verbosity=0)
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import connections
from django.utils.module_loading import import_string

session = import_string(settings.SESSION_ENGINE + ".SessionStore")()
session["name"] = "visitor"
session.save()
import_string("django_replicas.sessions.process.drain")()
row = Session.objects.get()
print(row._state.db, row.get_decoded())
connections.close_all()
"""


def test_the_router_in_the_readmes_project(visitor):
    """"DATABASE_ROUTERS = ('django_distributed.SessionCachedRouter',)
    MIDDLEWARE = ('crum.CurrentRequestUserMiddleware',) + MIDDLEWARE".
    """  # fmt: skip
    assert reads(visitor, leaders=[])
    visitor.post("/write")
    assert Book.objects.using("default").get(pk=1).note == "written"
    assert reads(visitor, leaders=["book"])
    assert reads(add_session(Client()), leaders=[])


def test_the_page_without_compat(visitor, settings):
    """What the page says to write in the end does the same."""
    after = example(1)
    settings.MIDDLEWARE = after["MIDDLEWARE"][:-1]
    settings.DATABASE_ROUTERS = after["DATABASE_ROUTERS"]
    settings.SESSION_ENGINE = after["SESSION_ENGINE"]
    settings.REPLICAS = after["REPLICAS"]
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, *after["INSTALLED_APPS"][:-1]]
    assert reads(visitor, leaders=[])
    visitor.post("/write")
    assert reads(visitor, leaders=["book"])


def test_the_command_says_what_the_page_says():
    """`manage.py replicas settings` prints the page's last settings, for these first ones."""
    out = StringIO()
    call_command(Command(), "settings", stdout=out)
    printed = {}
    exec(out.getvalue(), printed)
    assert printed["REPLICAS"] == example(1)["REPLICAS"]
    for path in [*example(1)["DATABASE_ROUTERS"], example(1)["SESSION_ENGINE"]]:
        assert path in out.getvalue()


def test_replica_databases(settings, visitor):
    """What the README calls `FOLLOWER_DATABASES`, the code of release 0.3 read by this name."""
    del settings.FOLLOWER_DATABASES
    settings.REPLICA_DATABASES = ["replica2"]
    assert where(visitor)["book"] == "replica2"


def test_extend_cached_router(settings):
    """"Extend the class CachedRouter and implement the method get_cache_key. Define your custom
    cache key there".
    """  # fmt: skip
    settings.DATABASE_ROUTERS = [example(2)["TenantRouter"]()]
    one, colleague, other = (
        add_session(Client(headers={"X-Tenant": name})) for name in ("one", "one", "other")
    )
    one.post("/write")
    assert reads(colleague, leaders=["book"])
    assert reads(other, leaders=[])


def test_extend_distributed_router(settings, visitor):
    """"Extend the class DistributedRouter and implement the method is_recently_updated. Our
    distributed router logic will read from the write database if it is recently updated else
    replica database".
    """  # fmt: skip
    prices = example(2)["PricesRouter"]
    assert prices().is_recently_updated(type("Price", (), {}))

    class ShelvesRouter(prices):
        def is_recently_updated(self, model):
            return model is Shelf

    settings.DATABASE_ROUTERS = [ShelvesRouter()]
    assert reads(visitor, leaders=["shelf"])


@pytest.mark.parametrize(
    ("module", "name", "method"),
    [
        ("distributed_router", "DistributedRouter", "is_recently_updated"),
        ("cached_session_router", "CachedRouter", "get_cache_key"),
    ],
)
def test_what_is_to_be_implemented(module, name, method, settings, visitor):
    """The classes to be extended say so, and what to take instead, where they are used bare."""
    router = getattr(import_module(f"{COMPAT}.router.{module}"), name)()
    settings.DATABASE_ROUTERS = [router]
    with pytest.raises(NotImplementedError, match=rf"{name} has to .* {method}\(model\)"):
        where(visitor)


def test_update_cache(settings, rf, visitor):
    """What no SQL shows can be called written, and is so for the session's next requests."""
    router = import_module(COMPAT).SessionCachedRouter()
    settings.DATABASE_ROUTERS = [router]
    request = rf.get("/")
    request.session = visitor.session
    crum.set_current_request(request)
    try:
        router.update_cache(Book)
    finally:
        crum.set_current_request(None)
    assert reads(visitor, leaders=["book"])


def test_update_cache_of_what_is_in_no_set(settings, visitor):
    """There is nothing to remember where nothing follows."""
    router = import_module(COMPAT).SessionCachedRouter()
    settings.LEADER_DATABASE, settings.FOLLOWER_DATABASES = "other", ["other-0"]
    with unit_of_work():
        router.update_cache(Book)
        assert Book.objects.get(pk=1).title == "default"


def test_leader_db_and_follower_db(settings):
    """They name an alias each, for `using()`."""
    router = import_module(COMPAT).SessionCachedRouter()
    assert router.leader_db == "default"
    assert router.follower_db in FOLLOWERS
    settings.REPLICAS = {}
    assert (router.leader_db, router.follower_db) == ("default", "default")


# The session engine


def new_session(**values):
    session = import_module(django_settings.SESSION_ENGINE).SessionStore()
    session.update(values)
    session.save()
    return session


def row_of(session, alias="default"):
    return Session.objects.using(alias).filter(pk=session.session_key).first()


@pytest.fixture
def locked_leader():
    """A leader that takes no writes, until it is told to."""
    name = connections["default"].settings_dict["NAME"]
    with closing(sqlite3.connect(name, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield lambda: other.execute("ROLLBACK")


def test_first_to_the_cache_then_to_the_database(locked_leader):
    """"it will first add the session to the cache first, in our case, memcached. Then it will
    update the database".
    """  # fmt: skip
    session = new_session(name="visitor")
    assert type(session)(session.session_key)["name"] == "visitor"
    assert row_of(session) is None
    locked_leader()
    assert drain(10) == 0
    assert row_of(session).get_decoded() == {"name": "visitor"}


def test_the_database_is_left_to_another_thread():
    """ "what is different here from the Django cached_db is the write operation, it is offloaded
    to another thread".
    """
    with CaptureQueriesContext(connections["default"]) as queries:
        new_session()
    assert len(queries) == 0


def test_reads_the_cache_first_then_the_database():
    """ "Same for reading session, cache store goes first then database store"."""
    session = new_session(name="visitor")
    again = type(session)(session.session_key)
    assert drain(10) == 0
    with CaptureQueriesContext(connections["default"]) as queries:
        assert again["name"] == "visitor"
    assert len(queries) == 0
    cache.clear()
    assert type(session)(session.session_key)["name"] == "visitor"


@pytest.mark.parametrize("forget", [False, True])
def test_nobody_is_kicked_out_after_logging_in(forget):
    """"a session written in the leader database will not appear in the replicas right away.
    Hence, the user might get kicked out after logging in, as the session is not yet replicated".
    """  # fmt: skip
    user = get_user_model().objects.db_manager("default").create_user("somebody")
    client = Client()
    client.post("/log_in")
    assert drain(10) == 0
    if forget:
        cache.clear()
    assert client.session[SESSION_KEY] == str(user.pk)
    assert all(row_of(client.session, alias) is None for alias in FOLLOWERS)
