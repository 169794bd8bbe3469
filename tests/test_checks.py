"""The system checks that connect to nothing, and the page that explains all of them."""

import re
import sys
from pathlib import Path

import pymysql
import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connections, router

import django_replicas.checks
from django_replicas import atomic_in_leader_role
from django_replicas.checks import check_databases, check_settings
from django_replicas.checks.messages import CHECKS_PAGE, error, warning
from django_replicas.middleware import ReplicasMiddleware
from django_replicas.routers import GreedyPinRouter

from .projects import check

WITH_PEERS = """
def over(*peers, **own):
    return {"ENGINE": "django_replicas.backends.balanced", "PEERS": list(peers), **own}

def pooled(**own):
    pool = {"timeout": 2}
    options = {"connect_timeout": 2, "pool": pool}
    return postgres("peer.invalid", **{"CONN_HEALTH_CHECKS": True, "OPTIONS": options, **own})

DATABASES["peer"] = postgres("peer.invalid")
DATABASES["many"] = over("peer")
"""
MISTAKES = {
    "E020": WITH_PEERS + 'DATABASES["many"]["PEERS"] = ["nobody"]',
    "E021": WITH_PEERS + 'DATABASES["peer"] = pooled()\nDATABASES["many"]["CONN_MAX_AGE"] = None',
    "W020": WITH_PEERS + 'DATABASES["many"]["HOST"] = "peer.invalid"',
    "W021": WITH_PEERS + 'DATABASES["peer"]["OPTIONS"] = {}',
    "W022": WITH_PEERS + 'DATABASES["peer"] = pooled(CONN_HEALTH_CHECKS=False)',
    "W023": WITH_PEERS + 'DATABASES["peer"] = pooled(OPTIONS={"connect_timeout": 2, "pool": True})',
    "E001": 'REPLICAS["TRACES"] = True',
    "E002": 'REPLICAS["SETS"]["default"].append("replica9")',
    "E003": 'REPLICAS["LEADER_MODELS"] = ["sessions.Sesion"]',
    "E004": 'DATABASES["replica1"]["ENGINE"] = "django.db.backends.sqlite3"',
    "E005": 'REPLICAS["MARK_STORE"] = "no.such.Store"',
    "E006": """
DATABASE_ROUTERS[:] = ["django_replicas.routers.SessionPinnedRouter"]
REPLICAS["RECENCY_CACHE"] = "nowhere"
""",
    "E007": 'LEADER_DATABASE = "default"',
    "W015": 'DATABASE_ROUTERS[:] = ["django_replicas.routers.SessionPinnedRouter"]',
    "W018": """
REPLICAS["MARK_STORE"] = "cache"
FILES = "django.core.cache.backends.filebased.FileBasedCache"
CACHES = {"default": {"BACKEND": FILES, "LOCATION": "/nowhere"}}
""",
    "W019": 'MIDDLEWARE[0] = "django_replicas.compat.pindb.middleware.PinDbMiddleware"',
    "E030": """
SESSION_ENGINE = "django_replicas.sessions.write_behind"
SESSION_CACHE_ALIAS = "nowhere"
""",
    "E031": """
CLUSTER = "django_replicas.cache.elasticache.PyMemcacheElastiCache"
CACHES = {"default": {"BACKEND": CLUSTER, "LOCATION": "one:11211;two:11211"}}
""",
    "W031": 'SESSION_ENGINE = "django_replicas.sessions.write_behind"',
    "W032": """
SESSION_ENGINE = "django_replicas.sessions.write_behind"
FILES = "django.core.cache.backends.filebased.FileBasedCache"
CACHES = {"default": {"BACKEND": FILES, "LOCATION": "/nonexistent"}}
""",
    "W001": 'DATABASES["default"]["ATOMIC_REQUESTS"] = True',
    "W002": 'DATABASES["replica1"]["ATOMIC_REQUESTS"] = True',
    "W003": 'del DATABASES["replica1"]["TEST"]',
    "W004": 'DATABASES["replica1"]["OPTIONS"] = {}',
    "W005": 'DATABASES["replica1"]["CONN_HEALTH_CHECKS"] = False',
    "W006": "del MIDDLEWARE[0]",
    "W007": "MIDDLEWARE.reverse()",
    "W008": "DATABASE_ROUTERS.clear()",
    "W009": """
class Elsewhere:
    def db_for_read(self, model, **hints):
        return None

DATABASE_ROUTERS.insert(0, "shop_settings.Elsewhere")
""",
    "W010": 'SESSION_SAVE_EVERY_REQUEST = True; REPLICAS["LEADER_MODELS"] = []',
    "W011": """
DATABASE_CACHE = "django.core.cache.backends.db.DatabaseCache"
CACHES = {"default": {"BACKEND": DATABASE_CACHE, "LOCATION": "cached"}}
""",
    "W017": """
DATABASE_ROUTERS[:] = ["django_replicas.routers.LeaderFollowerRouter"]
REPLICAS["FORCE_HEADER"] = "X-Role"
del MIDDLEWARE[0]
""",
    "W016": """
ROOT_URLCONF, urlpatterns = "shop_settings", []
REPLICAS["VIEW_OVERRIDES"] = {"serach": "follower"}
""",
    "W030": """
CLUSTER_CACHE = "django_replicas.cache.elasticache.PyMemcacheElastiCache"
CACHES = {"default": {"BACKEND": CLUSTER_CACHE, "LOCATION": "a.serverless.example:11211"}}
""",
}
POSTGRESQL = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": "shop",
    "TEST": {"MIRROR": "default"},
    "OPTIONS": {"connect_timeout": 2},
}
SQLITE = {"ENGINE": "django.db.backends.sqlite3", "NAME": "x", "TEST": {"MIRROR": "default"}}


def ours():
    return [each for each in run_checks() if str(each.id).startswith("django_replicas.")]


def ids():
    return sorted(each.id.removeprefix("django_replicas.") for each in ours())


@pytest.fixture(autouse=True)
def no_variables_of_libpq(monkeypatch):
    monkeypatch.delenv("PGCONNECT_TIMEOUT", raising=False)
    monkeypatch.delenv("PGSERVICE", raising=False)


# From a settings file


def test_a_right_project_has_nothing_wrong(tmp_path):
    """The settings that every mistake below is made in are right without it."""
    checked = check(tmp_path)
    assert (checked.succeeded, checked.ids) == (True, []), checked.text
    assert "no issues" in checked.text


@pytest.mark.parametrize("number", MISTAKES)
def test_each_mistake_is_told(tmp_path, number):
    """``manage.py check`` tells one mistake once, links its remedy, and fails for an error."""
    checked = check(tmp_path, MISTAKES[number])
    assert checked.ids == [number], checked.text
    assert f"{CHECKS_PAGE}#django-replicas-{number.lower()}" in checked.text
    assert checked.succeeded is number.startswith("W")


# The setting


def test_right_settings_have_no_errors():
    """The settings of these tests are right, and so is an empty dict."""
    assert ours() == []


def test_no_settings_have_no_errors(settings):
    """A project that configures nothing has nothing wrong."""
    settings.REPLICAS = {}
    settings.DATABASE_ROUTERS = []
    settings.MIDDLEWARE = []
    assert ours() == []


def test_what_is_switched_off_is_not_warned_of(settings, monkeypatch):
    """With ``ENABLED`` off only what is wrong in itself is told."""
    settings.REPLICAS = {**settings.REPLICAS, "ENABLED": False, "TRACES": True}
    settings.MIDDLEWARE = []
    settings.DATABASE_ROUTERS = []
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    monkeypatch.setitem(connections.settings["replica1"], "ATOMIC_REQUESTS", True)
    assert ids() == ["E001"]


def test_each_wrong_key_is_an_error(settings):
    """All that is wrong is told at once, as the settings tell it."""
    settings.REPLICAS = {"SETS": {"default": ["replica1"]}, "TRACES": True, "ENABLED": 1}
    remedy = "All settings are described in the documentation."
    assert ours() == [
        error(
            "E001",
            'REPLICAS["TRACES"] is not a setting. Remove it, or correct its name.',
            remedy,
        ),
        error("E001", 'REPLICAS["ENABLED"] must be True or False, not 1.', remedy),
    ]


def test_a_follower_in_two_sets_is_an_error(settings):
    """Nobody could say whose rows such a follower shows."""
    settings.REPLICAS = {"SETS": {"default": ["replica1"], "other": ["other-0", "replica1"]}}
    told = next(each for each in ours() if each.id == "django_replicas.E001")
    assert "'replica1', which is already in the set of 'default'" in told.msg


def test_each_alias_must_be_a_database(settings):
    """Leaders and followers that are not in DATABASES are named, with their set."""
    settings.REPLICAS = {"SETS": {"default": ["replica1", "replica9"], "nobody": ["replica2"]}}
    assert ours() == [
        error(
            "E002",
            "REPLICAS[\"SETS\"] names 'replica9', which is not in DATABASES.",
            "Add it to DATABASES, or remove it from the set of 'default'.",
        ),
        error(
            "E002",
            "REPLICAS[\"SETS\"] names 'nobody', which is not in DATABASES.",
            "Add it to DATABASES, or remove it from the set of 'nobody'.",
        ),
    ]


def test_right_sets_are_looked_at_beside_wrong_keys(settings):
    """One run tells both kinds of errors."""
    settings.REPLICAS = {"SETS": {"default": ["replica9"]}, "TRACE": 1}
    assert ids() == ["E001", "E002"]


def test_each_leader_model_must_be_installed(settings):
    """Labels of no installed model are named; case is of no consequence."""
    settings.REPLICAS = {"LEADER_MODELS": ["shop.Book", "shop.lABEL", "shop.Bok", "shopp.Book"]}
    assert ours() == [
        error(
            "E003",
            f'REPLICAS["LEADER_MODELS"] names {label!r}, which is no installed model.',
            "Correct it, or remove it.",
        )
        for label in ("shop.Bok", "shopp.Book")
    ]


def test_the_check_command_fails(settings):
    """``manage.py check`` says it and fails, instead of a surprise at run time."""
    settings.REPLICAS = {"TRACES": True}
    with pytest.raises(SystemCheckError, match=r"django_replicas\.E001.*TRACES"):
        call_command("check")


# Leaders and followers


@pytest.mark.parametrize("alias", ["default", "other"])
def test_transactions_around_every_request_are_warned_of(monkeypatch, alias):
    """A leader that is in a transaction in every view serves every read."""
    monkeypatch.setitem(connections.settings[alias], "ATOMIC_REQUESTS", True)
    assert ours() == [
        warning(
            "W001",
            f"ATOMIC_REQUESTS is on for {alias!r}, so that every view reads the leader.",
            "Set it to django_replicas.atomic_in_leader_role, or turn it off and open "
            "transactions with atomic() where there are writes.",
        )
    ]


def test_what_decides_about_transactions_itself_is_left_alone(monkeypatch):
    """An object may be true for some requests only; the check asks it nothing."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", object())
    assert ours() == []


class InSomeRequests:
    def __bool__(self):
        return False


@pytest.mark.parametrize("value", [True, 1, InSomeRequests()])
def test_transactions_on_a_follower_are_warned_of(monkeypatch, value):
    """Django opens them before the view, whether or not it reads; also if only sometimes."""
    monkeypatch.setitem(connections.settings["replica1"], "ATOMIC_REQUESTS", value)
    assert ids() == ["W002"]
    assert "'replica1'" in ours()[0].msg


def test_transactions_elsewhere_are_nobodys_business(monkeypatch):
    """An alias of no set may be in whatever transactions it likes."""
    monkeypatch.setitem(connections.settings["lonely"], "ATOMIC_REQUESTS", True)
    assert ours() == []


@pytest.mark.parametrize("mirror", [None, "other", "replica2"])
def test_a_follower_mirrors_its_leader_in_tests(monkeypatch, mirror):
    """Any other mirror than its leader is as wrong as none."""
    monkeypatch.setitem(connections.settings["replica1"]["TEST"], "MIRROR", mirror)
    assert ids() == ["W003"]


def test_a_follower_of_another_kind_is_an_error(databases_are):
    """The message names both, and what they are."""
    databases_are(replica1=POSTGRESQL)
    assert ids() == ["E004"]
    problem = "'replica1' is postgresql, while its leader 'default' is sqlite"
    assert problem in ours()[0].msg


SPATIAL = """
from django.db.backends.sqlite3 import base, features


class DatabaseFeatures(features.DatabaseFeatures):
    gis_enabled = True


class DatabaseWrapper(base.DatabaseWrapper):
    features_class = DatabaseFeatures
"""


@pytest.fixture
def spatial(tmp_path, monkeypatch):
    (tmp_path / "spatial").mkdir()
    (tmp_path / "spatial" / "base.py").write_text(SPATIAL)
    monkeypatch.syspath_prepend(tmp_path)
    return {**SQLITE, "ENGINE": "spatial"}


def test_a_follower_that_cannot_read_shapes_is_an_error(databases_are, spatial):
    """A leader with a spatial engine needs followers with one."""
    databases_are(default=spatial, replica2=spatial)
    assert ids() == ["E004"]
    assert "'replica1' has no spatial engine" in ours()[0].msg


def test_a_follower_may_have_an_engine_that_does_more(databases_are, spatial):
    """Engines of one kind may differ, as long as the follower can read all."""
    databases_are(replica1=spatial)
    assert ours() == []


@pytest.mark.parametrize(
    ("limit", "told"), [("16MB", ["E010"]), (16, []), (None, [])], ids=["bytes", "seconds", "none"]
)
def test_a_limit_in_bytes_is_for_postgresql(databases_are, settings, monkeypatch, limit, told):
    """Elsewhere no follower could keep to it; on SQLite there is nothing to keep to."""
    monkeypatch.setitem(sys.modules, "MySQLdb", pymysql)
    settings.REPLICAS = {**settings.REPLICAS, "MAX_LAG": limit}
    assert ids() == []
    mysql = {**POSTGRESQL, "ENGINE": "django.db.backends.mysql"}
    for database, expected in ((mysql, told), (POSTGRESQL, [])):
        databases_are(default=database, replica1=database, replica2=database)
        # Not by way of all checks: Django's own connect to MySQL.
        found = [each.id.removeprefix("django_replicas.") for each in check_databases()]
        assert found == expected


def test_an_engine_that_cannot_be_loaded_is_nothing_to_compare(databases_are):
    """Django says it when the alias is used; until then we say nothing of its kind."""
    databases_are(replica1={**POSTGRESQL, "ENGINE": "no.such.engine"})
    assert ours() == []


@pytest.mark.parametrize(
    ("own", "found"),
    [
        ({}, []),
        ({"OPTIONS": {"connect_timeout": "2"}}, []),
        ({"OPTIONS": {"service": "shop"}}, []),
        ({"OPTIONS": {"conninfo": "connect_timeout=2"}}, []),
        ({"OPTIONS": {}}, ["W004"]),
        ({"OPTIONS": {"connect_timeout": 0}}, ["W004"]),
        ({"OPTIONS": {"connect_timeout": "", "service": "shop"}}, ["W004"]),
        ({"OPTIONS": {"connect_timeout": "soon"}}, ["W004"]),
        ({"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}, []),
        ({"CONN_MAX_AGE": 60}, ["W005"]),
        ({"CONN_MAX_AGE": None}, ["W005"]),
        ({"OPTIONS": {"connect_timeout": 2, "pool": True}}, ["W005"]),
        ({"OPTIONS": {"connect_timeout": 2, "pool": True}, "CONN_HEALTH_CHECKS": True}, []),
        ({"OPTIONS": {"pool": {"min_size": 2}}, "CONN_MAX_AGE": 0}, ["W004", "W005"]),
    ],
)
def test_connections_to_a_follower(databases_are, settings, own, found):
    """Connecting has a limit, and what is kept is looked at before it is used."""
    settings.REPLICAS = {"SETS": {"default": ["replica1"]}}
    databases_are(default=POSTGRESQL, replica1={**POSTGRESQL, **own})
    assert ids() == found


def test_a_leader_may_be_waited_for(databases_are, settings):
    """There is no other that could serve in its place."""
    settings.REPLICAS = {"SETS": {"default": ["replica1"]}}
    databases_are(default={**POSTGRESQL, "OPTIONS": {}, "CONN_MAX_AGE": 60}, replica1=POSTGRESQL)
    assert ours() == []


@pytest.mark.parametrize("variable", ["PGCONNECT_TIMEOUT", "PGSERVICE"])
def test_libpq_may_be_told_by_its_environment(databases_are, settings, monkeypatch, variable):
    """A limit for every connection of the process is a limit."""
    settings.REPLICAS = {"SETS": {"default": ["replica1"]}}
    databases_are(default=POSTGRESQL, replica1={**POSTGRESQL, "OPTIONS": {}})
    monkeypatch.setenv(variable, "2")
    assert ours() == []


class WithoutALimit:
    """A driver whose signature says as little as mysqlclient's."""

    @staticmethod
    def connect(*args, **kwargs):
        """Never called."""


NO_LIMIT = "has no time limit: while its machine does not answer, requests wait for minutes."
TEN_SECONDS = (
    "may take the 10 seconds that its driver allows: while its machine does not answer, requests "
    "wait that long."
)


@pytest.mark.parametrize(
    ("driver", "options", "said"),
    [
        (pymysql, {"connect_timeout": 2}, None),
        (pymysql, {"read_default_file": "shop.cnf"}, None),
        (pymysql, {}, TEN_SECONDS),
        (pymysql, {"connect_timeout": 0}, NO_LIMIT),
        (WithoutALimit, {}, NO_LIMIT),
        (WithoutALimit, {"connect_timeout": 2}, None),
    ],
)
def test_connections_to_mysql(databases_are, settings, monkeypatch, driver, options, said):
    """The same holds for MySQL, whose drivers do not read what libpq does; PyMySQL has a limit."""
    monkeypatch.setitem(sys.modules, "MySQLdb", pymysql)
    monkeypatch.setattr("django.db.backends.mysql.base.DatabaseWrapper.Database", driver)
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "2")
    settings.REPLICAS = {"SETS": {"default": ["replica1"]}}
    mysql = {**POSTGRESQL, "ENGINE": "django.db.backends.mysql"}
    databases_are(default=mysql, replica1={**mysql, "OPTIONS": options, "CONN_MAX_AGE": 60})
    # Not by way of all checks: Django's own connect to MySQL.
    told = {each.id.removeprefix("django_replicas."): each.msg for each in check_databases()}
    assert sorted(told) == (["W005"] if said is None else ["W004", "W005"])
    assert said is None or told["W004"] == f"Connecting to the follower 'replica1' {said}"


def test_files_are_opened_at_once(databases_are):
    """SQLite needs no limit, and its connections cannot break."""
    databases_are(replica1={**SQLITE, "CONN_MAX_AGE": None})
    assert ours() == []


# Routers


class MigratesOnly:
    def allow_migrate(self, db, app_label, **hints):
        return None


class WritesElsewhere:
    def db_for_write(self, model, **hints):
        return "other"


class ReadsElsewhere:
    def db_for_read(self, model, **hints):
        return "other"


class OurOwn(GreedyPinRouter):
    pass


@pytest.mark.parametrize(
    ("routers", "found"),
    [
        ([OurOwn], []),
        ([MigratesOnly, OurOwn], []),
        ([OurOwn, WritesElsewhere], []),
        ([WritesElsewhere, OurOwn], ["W009"]),
        ([ReadsElsewhere, OurOwn], ["W009"]),
        ([WritesElsewhere], ["W008"]),
        ([], ["W008"]),
    ],
)
def test_a_router_of_ours_comes_first(settings, routers, found):
    """Only routers that name databases are in its way."""
    settings.DATABASE_ROUTERS = [each() for each in routers]
    assert ids() == found


def test_both_routers_are_named(settings):
    """The reader needs not guess which of their routers is meant."""
    settings.DATABASE_ROUTERS = [WritesElsewhere(), OurOwn()]
    names = "tests.test_checks.WritesElsewhere stands before tests.test_checks.OurOwn"
    assert names in ours()[0].msg


# Requests


class OurMiddleware(ReplicasMiddleware):
    pass


def written_by_hand(get_response):
    return get_response


UNITS = "django_replicas.middleware.ReplicasMiddleware"
SUBCLASS = "tests.test_checks.OurMiddleware"
FUNCTION = "tests.test_checks.written_by_hand"
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
LEADER_FOLLOWER = "django_replicas.routers.LeaderFollowerRouter"
STRICT = "django_replicas.routers.StrictPinRouter"
GREEDY = "django_replicas.routers.GreedyPinRouter"


@pytest.mark.parametrize(
    ("middleware", "found"),
    [
        ([UNITS], []),
        ([SUBCLASS, SESSIONS], []),
        (["no.such.Middleware", FUNCTION, UNITS, SESSIONS], []),
        ([SESSIONS, SUBCLASS], ["W007"]),
        ([SESSIONS, UNITS, SESSIONS], ["W007"]),
        ([SESSIONS], ["W006"]),
        ([FUNCTION], ["W006"]),
        ([], ["W006"]),
    ],
)
def test_units_stand_around_sessions(settings, middleware, found):
    """Subclasses count; functions and what cannot be imported do not."""
    settings.MIDDLEWARE = middleware
    assert ids() == found


def test_middleware_is_a_choice_where_views_opt_in(settings):
    """With this router decorators alone are a way to use it."""
    settings.DATABASE_ROUTERS = [LEADER_FOLLOWER]
    settings.MIDDLEWARE = []
    assert ours() == []


def test_what_only_the_middleware_looks_at(settings, monkeypatch):
    """Without it, which settings do nothing is told at once, and which router is no matter."""
    settings.REPLICAS = {
        **settings.REPLICAS,
        "VIEW_OVERRIDES": {"tests.views.title": "follower"},
        "FORCE_HEADER": "X-Role",
    }
    atomic = atomic_in_leader_role
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", atomic)
    assert ids() == []
    settings.MIDDLEWARE = [SESSIONS]
    assert ids() == ["W006", "W017"]
    settings.DATABASE_ROUTERS = [LEADER_FOLLOWER]
    (message,) = ours()
    assert message.msg == (
        "MIDDLEWARE has no ReplicasMiddleware, so that these settings do nothing: "
        'REPLICAS["VIEW_OVERRIDES"], REPLICAS["FORCE_HEADER"], '
        'atomic_in_leader_role in DATABASES["default"]["ATOMIC_REQUESTS"].'
    )


REFUSED = "which is refused until something pins it"
REFUSED_BY_ROLE = "which is refused in requests that only read"
PINS = "and all later reads go there"
NOTED = "and the rest of the request reads there, as do users without a session for a while"
SESSION_PINNED = "django_replicas.routers.SessionPinnedRouter"
SHARED_CACHE = {
    "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
    "LOCATION": "/nowhere",
}


@pytest.mark.parametrize(
    ("router", "check_role", "happens"),
    [
        (STRICT, True, REFUSED),
        (LEADER_FOLLOWER, True, REFUSED_BY_ROLE),
        (LEADER_FOLLOWER, False, PINS),
        (GREEDY, True, PINS),
        (SESSION_PINNED, True, NOTED),
    ],
)
def test_sessions_saved_by_every_request(settings, router, check_role, happens):
    """A list of leader models that forgets the session makes each request a writing one."""
    settings.DATABASE_ROUTERS = [router]
    settings.CACHES = {"default": SHARED_CACHE}
    settings.SESSION_SAVE_EVERY_REQUEST = True
    rest = {**settings.REPLICAS, "CHECK_ROLE_ON_WRITE": check_role}
    settings.REPLICAS = {**rest, "LEADER_MODELS": ["shop.Book"]}
    assert ids() == ["W010"]
    assert "sessions.Session is not among LEADER_MODELS, so that every request writes to " in (
        ours()[0].msg
    )
    assert happens in ours()[0].msg
    settings.REPLICAS = rest
    assert ours() == []


class AllToLonely:
    def db_for_write(self, model, **hints):
        return "lonely"


@pytest.mark.parametrize(
    "changes",
    [
        {"SESSION_SAVE_EVERY_REQUEST": False},
        {"SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies"},
        {"MIDDLEWARE": [UNITS]},
    ],
)
def test_sessions_that_are_not_saved_by_every_request(settings, changes):
    """Without middleware, in a cookie, or only when they change: nothing to warn of."""
    settings.SESSION_SAVE_EVERY_REQUEST = True
    settings.REPLICAS = {**settings.REPLICAS, "LEADER_MODELS": []}
    assert ids() == ["W010"]
    for name, value in changes.items():
        setattr(settings, name, value)
    assert ours() == []


CACHES = {
    "default": SHARED_CACHE,
    "slow": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "cached"},
}


@pytest.mark.parametrize(
    ("router", "happens"), [(STRICT, REFUSED), (GREEDY, PINS), (SESSION_PINNED, NOTED)]
)
def test_caches_in_the_database(settings, router, happens):
    """The cache is named, and what filling it does."""
    settings.DATABASE_ROUTERS = [router]
    settings.CACHES = CACHES
    assert ids() == ["W011"]
    assert "The cache 'slow' is kept in the database" in ours()[0].msg
    assert happens in ours()[0].msg


def test_a_cache_in_the_database_for_the_routers_notes(settings):
    """What the router notes in it is no write; what others keep in the default cache is."""
    settings.DATABASE_ROUTERS = [SESSION_PINNED]
    settings.CACHES = CACHES
    settings.REPLICAS = {**settings.REPLICAS, "RECENCY_CACHE": "slow"}
    assert ours() == []
    settings.CACHES = {"default": CACHES["slow"]}
    settings.REPLICAS = {**settings.REPLICAS, "RECENCY_CACHE": "default"}
    assert ids() == ["W011"]
    settings.DATABASE_ROUTERS = [GREEDY]
    settings.CACHES = CACHES
    settings.REPLICAS = {**settings.REPLICAS, "RECENCY_CACHE": "slow"}
    assert ids() == ["W011"]


def test_what_is_written_outside_the_sets_is_nobodys_business(settings):
    """Delegates may keep sessions and caches in a database without followers."""
    settings.SESSION_SAVE_EVERY_REQUEST = True
    settings.CACHES = CACHES
    settings.REPLICAS = {
        **settings.REPLICAS,
        "LEADER_MODELS": [],
        "DELEGATE_ROUTERS": [AllToLonely()],
    }
    assert ours() == []


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"TRACES": True}, ["E001"]),
        ({"LEADER_MODELS": ["shop.Bok"]}, ["E003", "W011"]),
    ],
)
def test_wrong_settings_do_not_break_the_other_checks(settings, wrong, found):
    """What depends on the settings waits until they are right."""
    settings.SESSION_SAVE_EVERY_REQUEST = True
    settings.CACHES = CACHES
    settings.REPLICAS = {**settings.REPLICAS, **wrong}
    assert ids() == found


# The page


PAGE = Path(__file__).resolve().parent.parent / "docs" / "checks.rst"
SECTION = re.compile(
    r"^\.\. _django_replicas\.(\w+):\n\ndjango_replicas\.(\w+)\n~+\n\n(\S.+)", re.MULTILINE
)


def ids_in_code():
    folder = Path(django_replicas.checks.__file__).parent
    return {
        number
        for path in folder.glob("*.py")
        for number in re.findall(r'"([EW]\d{3})"', path.read_text())
    }


def test_the_page_explains_every_id():
    """Code and page have the same ids, each once, under its label, its title and some text."""
    explained = [label for label, title, _ in SECTION.findall(PAGE.read_text()) if label == title]
    assert sorted(explained) == sorted(ids_in_code())


def test_every_id_has_a_mistake_that_makes_it():
    """All ids but those of servers, which are met elsewhere, are made above from a file."""
    assert ids_in_code() - set(MISTAKES) == {"E010", "W012", "W013", "W014"}


@pytest.mark.parametrize("make", [error, warning])
def test_each_hint_links_to_the_page(make):
    """The anchors are those that Sphinx makes of the page's labels."""
    labels = re.findall(r"^\.\. _(.+):$", PAGE.read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9]+", "-", label.lower()) for label in labels}
    assert CHECKS_PAGE.endswith(f"/{PAGE.stem}.html")
    for number in ids_in_code():
        link = make(number, "It is wrong.", "Mend it.").hint.removeprefix("Mend it. See ")
        page, anchor = link.split("#")
        assert (page, anchor in anchors) == (CHECKS_PAGE, True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MARK_STORE", "no.such.Store"),
        ("MARK_STORE", "cash"),
        ("MARK_KEY", "no.such.function"),
        ("MARK_KEY", "tests.test_checks.CHECKS_PAGE"),
        ("MARK_STORE", "tests.test_checks.CHECKS_PAGE"),
        ("DELEGATE_ROUTERS", ["no.such.Router"]),
        ("DELEGATE_ROUTERS", ["tests.test_checks.CHECKS_PAGE"]),
    ],
)
def test_what_cannot_be_imported_is_an_error(key, value, settings):
    """A dotted path that leads nowhere is told with its key, before a request meets it."""
    settings.REPLICAS = {key: value}
    (message,) = [each for each in check_settings() if each.id == "django_replicas.E005"]
    assert f'REPLICAS["{key}"]' in message.msg


@pytest.mark.parametrize("engine", ["no.such.engine", "tests.naive"])
def test_session_engine_that_cannot_be_had(engine, settings):
    """Each write would fail for it; the check says so, unless its model is not asked for."""
    settings.SESSION_ENGINE = engine
    settings.SESSION_SAVE_EVERY_REQUEST = True
    (message,) = ours()
    assert message.id == "django_replicas.E005"
    assert message.msg.startswith(f"SESSION_ENGINE names {engine!r}, whose model is to read")
    settings.REPLICAS = {**settings.REPLICAS, "LEADER_MODELS": []}
    assert ids() == []


def test_session_engine_whose_app_is_missing(tmp_path):
    """An engine of the project's own that has Django's model, which is not installed."""
    engine = "from django.contrib.sessions.backends.db import SessionStore"
    (tmp_path / "shop_sessions.py").write_text(engine)
    changes = 'SESSION_ENGINE = "shop_sessions"; del INSTALLED_APPS[0], MIDDLEWARE[1]'
    checked = check(tmp_path, changes)
    assert checked.ids == ["E005"], checked.text
    assert "INSTALLED_APPS" in checked.text


def test_unknown_cache_for_recency(settings):
    """A cache that does not exist keeps no notes; its name is told."""
    settings.DATABASE_ROUTERS = ["django_replicas.routers.SessionPinnedRouter"]
    settings.REPLICAS = {**settings.REPLICAS, "RECENCY_CACHE": "nowhere"}
    assert "E006" in ids()


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        ("locmem.LocMemCache", "W015"),
        ("dummy.DummyCache", "W015"),
        ("filebased.FileBasedCache", "W018"),
        ("db.DatabaseCache", "W018"),
        ("redis.RedisCache", None),
    ],
)
def test_a_cache_for_marks(settings, tmp_path, backend, expected):
    """It has to be there, to be shared by all processes, and to count in one step."""
    backend = f"django.core.cache.backends.{backend}"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": str(tmp_path)}}
    assert not {"E006", "W015", "W018"} & set(ids())
    settings.REPLICAS = {**settings.REPLICAS, "MARK_STORE": "cache"}
    assert {"E006", "W015", "W018"} & set(ids()) == {expected} - {None}
    settings.REPLICAS = {**settings.REPLICAS, "MARK_CACHE": "nowhere"}
    assert "E006" in ids()


def test_paths_of_older_packages(settings):
    """Each that goes is named, with what takes its place; ours stay, and so does what is theirs."""
    compat = "django_replicas.compat"
    settings.MIDDLEWARE = ["multidb.middleware.PinningRouterMiddleware", *settings.MIDDLEWARE]
    assert "W019" not in ids()
    settings.DATABASE_ROUTERS = [f"{compat}.multidb.PinningReplicaRouter"]
    settings.SESSION_ENGINE = f"{compat}.django_distributed.session_engine"
    assert [each for each in check_settings() if each.id == "django_replicas.W019"] == [
        warning(
            "W019",
            f"DATABASE_ROUTERS names '{compat}.multidb.PinningReplicaRouter', which goes with "
            "django-replicas 2.0.",
            "Write 'django_replicas.routers.GreedyPinRouter' in its place.",
        ),
        warning(
            "W019",
            f"SESSION_ENGINE names '{compat}.django_distributed.session_engine', which goes with "
            "django-replicas 2.0.",
            "Write 'django_replicas.sessions.write_behind' in its place.",
        ),
    ]


def test_shared_cache_is_fit_for_recency(settings):
    """A cache that other processes see is nothing to warn of."""
    settings.DATABASE_ROUTERS = ["django_replicas.routers.SessionPinnedRouter"]
    backend = "django.core.cache.backends.filebased.FileBasedCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": "/nowhere"}}
    assert not {"E006", "W015"} & set(ids())


def test_django_crum_makes_requests_units(settings):
    """With the router that looks there, its middleware is as good as ours."""
    settings.DATABASE_ROUTERS = ["django_replicas.routers.SessionPinnedRouter"]
    settings.MIDDLEWARE = ["crum.CurrentRequestUserMiddleware"]
    assert "W006" not in ids()


def test_lost_delegate_does_not_break_the_check_command(settings):
    """Django's own checks ask the router about migrations; ours about where a cache is kept."""
    settings.REPLICAS = {**settings.REPLICAS, "DELEGATE_ROUTERS": ["no.such.Router"]}
    settings.CACHES = CACHES
    assert "E005" in ids()
    with pytest.raises(SystemCheckError, match=r"django_replicas\.E005"):
        call_command("check")
    assert router.allow_migrate("default", "shop") is True
