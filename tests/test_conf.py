"""The ``REPLICAS`` setting: what may be said in it, and what is answered to what may not."""

import subprocess
import sys
from contextlib import contextmanager

import pytest
from django.conf import settings as django_settings
from django.contrib.sessions.models import Session
from django.core.signals import setting_changed
from django.test import override_settings

from django_replicas.conf import Config, Cookie, get_config, get_sound_config, read_config
from django_replicas.exceptions import ReplicasConfigError
from django_replicas.topology import ReplicaSet, Topology
from tests.shop.models import Book, Label


class Handbook(Book):
    """Another name for a table."""

    class Meta:
        app_label = "shop"
        proxy = True


class Delegate:
    """A router that a test names."""


def problems(values):
    return list(read_config(values).problems)


# What is right


def test_nothing_has_to_be_said():
    """An empty dict means no sets and every default."""
    config = read_config({})
    assert config.topology.sets == ()
    assert config.problems == ()
    assert {
        name: getattr(config, name) for name in vars(Config(Topology())) if name != "topology"
    } == {
        "enabled": True,
        "outside_units": "leader",
        "writes_at": "execution",
        "check_role_on_write": True,
        "stale_save": "ignore",
        "delegate_routers": (),
        "leader_model_labels": None,
        "mark_store": "cookie",
        "mark_cache": "default",
        "mark_key": "session",
        "mark_header": "X-Replicas-Mark",
        "recency_cache": "default",
        "cookie": Cookie(
            name="replicas_mark",
            path="/",
            domain=None,
            secure=None,
            httponly=True,
            samesite="Lax",
        ),
        "trace": False,
        "view_overrides": (),
        "force_header": None,
        "read_only_downtime": None,
        "read_only_timeout": 2.0,
        "read_only_tries": 2,
        "write_behind": "thread",
        "write_behind_workers": 4,
        "write_behind_limit": 1000,
        "session_miss": "leader",
        "problems": (),
        "conflict": None,
        "older_names": {},
    }


def test_a_project_without_the_setting_has_no_sets(settings):
    """The package may be installed before it is configured."""
    settings.REPLICAS = {"TRACE": True}
    del settings.REPLICAS
    setting_changed.send(sender=None, setting="REPLICAS", value=None, enter=True)
    assert get_config().topology.sets == ()
    assert not get_config().trace


def test_a_set_is_a_list_of_followers():
    """What most projects write: a leader and the aliases that follow it."""
    config = read_config({"SETS": {"default": ["a", "b"], "other": ("c",), "alone": []}})
    assert config.problems == ()
    assert config.topology.sets == (
        ReplicaSet("default", ("a", "b")),
        ReplicaSet("other", ("c",)),
        ReplicaSet("alone", ()),
    )


def test_sets_share_settings_and_override_them():
    """What is said for all sets holds in each that says nothing else."""
    config = read_config(
        {
            "SETS": {
                "default": {
                    **{"FOLLOWERS": ["a"], "BALANCE": "random"},
                    **{"PIN_SECONDS": 0.5, "DOWNTIME": 4},
                },
                "other": ["b"],
                "bare": {},
            },
            **{"BALANCE": "round_robin", "PIN_SECONDS": 3, "DOWNTIME": 2.5},
        }
    )
    assert config.problems == ()
    assert config.topology.sets == (
        ReplicaSet("default", ("a",), balance="random", pin_seconds=0.5, downtime=4.0),
        ReplicaSet("other", ("b",), balance="round_robin", pin_seconds=3.0, downtime=2.5),
        ReplicaSet("bare", (), balance="round_robin", pin_seconds=3.0, downtime=2.5),
    )


@pytest.mark.parametrize(
    ("key", "name", "value", "expected"),
    [
        ("ENABLED", "enabled", False, False),
        ("OUTSIDE_UNITS", "outside_units", "routed", "routed"),
        ("OUTSIDE_UNITS", "outside_units", "Leader".lower(), "leader"),
        ("WRITES_AT", "writes_at", "routing", "routing"),
        ("WRITES_AT", "writes_at", "execution", "execution"),
        ("CHECK_ROLE_ON_WRITE", "check_role_on_write", False, False),
        ("CHECK_ROLE_ON_WRITE", "check_role_on_write", "routing", "routing"),
        ("STALE_SAVE", "stale_save", "ignore", "ignore"),
        ("STALE_SAVE", "stale_save", "warn", "warn"),
        ("STALE_SAVE", "stale_save", "error", "error"),
        ("VIEW_OVERRIDES", "view_overrides", {}, ()),
        (
            "VIEW_OVERRIDES",
            "view_overrides",
            {"a": "leader", "b:c": "follower", "d.e": "master", "f": "slave"},
            (("a", "leader"), ("b:c", "follower"), ("d.e", "leader"), ("f", "follower")),
        ),
        ("FORCE_HEADER", "force_header", "X-Role2", "X-Role2"),
        ("FORCE_HEADER", "force_header", None, None),
        ("READ_ONLY_DOWNTIME", "read_only_downtime", 20, 20.0),
        ("READ_ONLY_DOWNTIME", "read_only_downtime", None, None),
        ("READ_ONLY_TIMEOUT", "read_only_timeout", 0.5, 0.5),
        ("READ_ONLY_TRIES", "read_only_tries", 1, 1),
        ("WRITE_BEHIND", "write_behind", "sync", "sync"),
        ("WRITE_BEHIND", "write_behind", "thread", "thread"),
        ("WRITE_BEHIND_WORKERS", "write_behind_workers", 1, 1),
        ("WRITE_BEHIND_LIMIT", "write_behind_limit", 10, 10),
        ("SESSION_MISS", "session_miss", "follower", "follower"),
        ("SESSION_MISS", "session_miss", "leader", "leader"),
        ("DELEGATE_ROUTERS", "delegate_routers", ["a.B", Delegate], ("a.B", Delegate)),
        ("DELEGATE_ROUTERS", "delegate_routers", (), ()),
        ("LEADER_MODELS", "leader_model_labels", ["a.B", "c.D"], ("a.B", "c.D")),
        ("LEADER_MODELS", "leader_model_labels", {"a.B"}, ("a.B",)),
        ("LEADER_MODELS", "leader_model_labels", [], ()),
        ("MARK_STORE", "mark_store", "a.Store", "a.Store"),
        ("MARK_STORE", "mark_store", "cache", "cache"),
        ("MARK_CACHE", "mark_cache", "marks", "marks"),
        ("MARK_KEY", "mark_key", "user", "user"),
        ("MARK_KEY", "mark_key", "shop.clients.device", "shop.clients.device"),
        ("MARK_HEADER", "mark_header", "X-Seen", "X-Seen"),
        ("RECENCY_CACHE", "recency_cache", "sessions", "sessions"),
        ("TRACE", "trace", True, True),
    ],
)
def test_each_key_has_its_values(key, name, value, expected):
    """Each key that is right is taken as it is."""
    config = read_config({key: value})
    assert config.problems == ()
    assert getattr(config, name) == expected


@pytest.mark.parametrize(
    ("key", "name", "value"),
    [
        ("NAME", "name", "x"),
        ("PATH", "path", "/x/"),
        ("DOMAIN", "domain", "example.org"),
        ("DOMAIN", "domain", None),
        ("SECURE", "secure", True),
        ("SECURE", "secure", False),
        ("SECURE", "secure", None),
        ("HTTPONLY", "httponly", False),
        ("SAMESITE", "samesite", "Strict"),
        ("SAMESITE", "samesite", "None"),
        ("SAMESITE", "samesite", None),
    ],
)
def test_each_cookie_attribute_has_its_values(key, name, value):
    """Attributes that are right are taken, and the others keep their defaults."""
    config = read_config({"COOKIE": {key: value}})
    assert config.problems == ()
    assert config.cookie == Cookie(**{name: value})


@pytest.mark.parametrize(
    ("said", "pin_seconds", "recency_seconds"),
    [
        ({}, 15, 15),
        ({"PIN_SECONDS": 3}, 3, 3),
        ({"REPLICATION_LAG": 60}, 60, 60),
        ({"REPLICATION_LAG": 2}, 2, 2),
        ({"REPLICATION_LAG": 2, "PIN_SECONDS": 3}, 3, 2),
        ({"REPLICATION_LAG": 60, "PIN_SECONDS": 3}, 60, 60),
    ],
)
def test_no_mark_ends_before_the_lag(said, pin_seconds, recency_seconds):
    """Marks and recency last as long where one is given, and a mark as long as the lag at least."""
    for values in ({"SETS": {"default": ["a"]}, **said}, {"SETS": {"default": said}}):
        config = read_config(values)
        assert config.problems == ()
        (replica_set,) = config.topology.sets
        assert replica_set.pin_seconds == pin_seconds
        assert replica_set.recency_seconds == recency_seconds


# What django-distributed called its settings


@contextmanager
def only(**older):
    """Have these settings in a project that has no ``REPLICAS``."""
    with override_settings(**older):
        del django_settings.REPLICAS
        setting_changed.send(sender=None, setting="REPLICAS", value=None, enter=True)
        yield
    setting_changed.send(sender=None, setting="REPLICAS", value=None, enter=False)


def test_older_settings_count_where_there_are_no_others():
    """LEADER_DATABASE, FOLLOWER_DATABASES and REPLICATION_LAG make one set."""
    older = {"LEADER_DATABASE": "default", "FOLLOWER_DATABASES": ["replica1"]}
    with only(**older):
        assert get_config().topology.sets == (ReplicaSet("default", ("replica1",)),)
    with only(**older, REPLICATION_LAG=7):
        (replica_set,) = get_config().topology.sets
        assert replica_set.recency_seconds == 7
    with override_settings(**older, REPLICAS={}):
        assert get_config().topology.sets == ()


@pytest.mark.parametrize(
    ("older", "problem"),
    [
        ({"LEADER_DATABASE": 1}, "LEADER_DATABASE must be a string that is not empty, not 1."),
        (
            {"LEADER_DATABASE": "default", "FOLLOWER_DATABASES": "replica1"},
            "FOLLOWER_DATABASES must be a list of aliases, not 'replica1'.",
        ),
        (
            {"FOLLOWER_DATABASES": ["replica1"]},
            "FOLLOWER_DATABASES needs LEADER_DATABASE, which is missing.",
        ),
        (
            {"LEADER_DATABASE": "default", "REPLICATION_LAG": "2"},
            "REPLICATION_LAG must be a number of seconds, not '2'.",
        ),
        (
            {"LEADER_DATABASE": "default", "FOLLOWER_DATABASES": ["default", "replica1"]},
            "FOLLOWER_DATABASES names 'default', which leads: remove it.",
        ),
    ],
)
def test_older_settings_name_their_bad_values(older, problem):
    """What is wrong in them is told under their own names."""
    with only(**older):
        assert get_sound_config().problems == (problem,)


# What is wrong


@pytest.mark.parametrize("values", [None, [], "default", 1])
def test_the_setting_must_be_a_dict(values):
    """Anything else is named, and there are no sets."""
    config = read_config(values)
    assert config.problems == (f"REPLICAS must be a dict, not {values!r}.",)
    assert config.topology.sets == ()


def test_an_unknown_key_is_named():
    """Nobody's typing error is taken for a setting."""
    assert problems({"TRACES": True}) == [
        'REPLICAS["TRACES"] is not a setting. Remove it, or correct its name.'
    ]


def test_every_problem_is_told_at_once():
    """One look at the checks shows all that is wrong, and what is right still holds."""
    config = read_config({"enabled": 1, "ENABLED": 1, "TRACE": True, "SETS": {"default": ["a"]}})
    assert config.problems == (
        'REPLICAS["enabled"] is not a setting. Remove it, or correct its name.',
        'REPLICAS["ENABLED"] must be True or False, not 1.',
    )
    assert config.enabled is True
    assert config.trace is True
    assert config.topology.sets == (ReplicaSet("default", ("a",)),)


A_DICT_OF_ROLES = "be a dict from URL names and import paths of views to roles"
ROLES = "'leader', 'follower', 'master', 'slave'"
A_HEADER = 'be the name of a header such as "X-Replicas-Role"'
A_COUNT = "be a whole number, 1 or more"
A_FLAG = "be True or False"
A_CLIENT = 'be "session", "user" or the dotted path of a function'
A_TEXT = "be a string that is not empty"
A_NUMBER = "be a number of seconds"
ABOVE_ZERO = "be a number of seconds above 0"
ALIASES = "be a list of aliases"
ROUTERS = "be a list of routers or of dotted paths to them"
LABELS = 'be a list of model labels such as "app.Model"'
A_DICT = "be a dict from each leader's alias to its followers"
NAN = float("nan")


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("ENABLED", 1, A_FLAG),
        ("ENABLED", "yes", A_FLAG),
        ("CHECK_ROLE_ON_WRITE", None, 'be True, False or "routing"'),
        ("TRACE", 0, A_FLAG),
        ("OUTSIDE_UNITS", "follower", "be one of 'leader', 'routed'"),
        ("OUTSIDE_UNITS", [], "be one of 'leader', 'routed'"),
        ("WRITES_AT", True, "be one of 'execution', 'routing'"),
        ("STALE_SAVE", None, "be one of 'ignore', 'warn', 'error'"),
        ("VIEW_OVERRIDES", ["a"], A_DICT_OF_ROLES),
        ("VIEW_OVERRIDES", {1: "leader"}, A_DICT_OF_ROLES),
        ("VIEW_OVERRIDES", {"a": "leader", "b": "default"}, f"give 'b' one of {ROLES}"),
        ("VIEW_OVERRIDES", {"a": None}, f"give 'a' one of {ROLES}"),
        ("VIEW_OVERRIDES", {"a": ["leader"]}, f"give 'a' one of {ROLES}"),
        ("FORCE_HEADER", "", A_HEADER),
        ("FORCE_HEADER", "HTTP_X_ROLE", A_HEADER),
        ("FORCE_HEADER", True, A_HEADER),
        ("READ_ONLY_DOWNTIME", 0, "be a number of seconds above 0"),
        ("READ_ONLY_TIMEOUT", None, A_NUMBER),
        ("READ_ONLY_TRIES", 0, A_COUNT),
        ("READ_ONLY_TRIES", True, A_COUNT),
        ("READ_ONLY_TRIES", 1.0, A_COUNT),
        ("WRITE_BEHIND", "async", "be one of 'thread', 'sync'"),
        ("WRITE_BEHIND_WORKERS", 0, A_COUNT),
        ("WRITE_BEHIND_LIMIT", -1, A_COUNT),
        ("SESSION_MISS", True, "be one of 'leader', 'follower'"),
        ("BALANCE", "closest", "be one of 'random', 'round_robin', 'sticky'"),
        ("DOWNTIME", "10", A_NUMBER),
        ("DOWNTIME", True, A_NUMBER),
        ("DOWNTIME", None, A_NUMBER),
        ("PIN_SECONDS", 0, ABOVE_ZERO),
        ("PIN_SECONDS", -1, ABOVE_ZERO),
        ("PIN_SECONDS", NAN, ABOVE_ZERO),
        ("PIN_SECONDS", float("inf"), ABOVE_ZERO),
        ("DELEGATE_ROUTERS", "a.B", ROUTERS),
        ("DELEGATE_ROUTERS", None, ROUTERS),
        ("LEADER_MODELS", "a.B", LABELS),
        ("LEADER_MODELS", ["a"], LABELS),
        ("LEADER_MODELS", ["a.b.C"], LABELS),
        ("LEADER_MODELS", [Book], LABELS),
        ("MARK_STORE", "", A_TEXT),
        ("MARK_CACHE", 1, A_TEXT),
        ("MARK_KEY", "sesion", A_CLIENT),
        ("MARK_KEY", None, A_CLIENT),
        ("MARK_HEADER", "X Seen", A_HEADER),
        ("MARK_HEADER", None, A_HEADER),
        ("RECENCY_CACHE", None, A_TEXT),
        ("REPLICATION_LAG", "2", A_NUMBER),
        ("REPLICATION_LAG", 0, ABOVE_ZERO),
        ("MARK_STORE", Delegate, A_TEXT),
        ("SETS", ["default"], A_DICT),
        ("SETS", {1: ["a"]}, A_DICT),
        ("SETS", None, A_DICT),
        ("COOKIE", "x", "be a dict of cookie attributes"),
    ],
)
def test_each_key_names_its_bad_values(key, value, rule):
    """What is wrong keeps its default and is named, with what would be right."""
    config = read_config({key: value})
    assert config.problems == (f'REPLICAS["{key}"] must {rule}, not {value!r}.',)
    assert config.enabled
    assert config == Config(config.topology, problems=config.problems)


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("a", ALIASES),
        (None, ALIASES),
        ({"a"}, ALIASES),
        (["a", 1], "be a list of aliases, each of them a string"),
    ],
)
def test_followers_are_a_list_of_aliases(value, rule):
    """Followers that are none are named with their set, which is then without any."""
    config = read_config({"SETS": {"default": value}})
    assert config.problems == (
        f'REPLICAS["SETS"]["default"]["FOLLOWERS"] must {rule}, not {value!r}.',
    )
    assert config.topology.sets == (ReplicaSet("default", ()),)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("BALANCE", "x", "must be one of 'random', 'round_robin', 'sticky', not 'x'."),
        ("PIN_SECONDS", "1", "must be a number of seconds, not '1'."),
        ("DOWNTIME", -2, "must be a number of seconds above 0, not -2."),
        ("TRACE", True, "is not a setting. Remove it, or correct its name."),
    ],
)
def test_a_sets_own_key_is_named_with_its_set(key, value, problem):
    """What is wrong in one set says in which, and what holds for all sets holds there too."""
    config = read_config(
        {
            "SETS": {"default": {"FOLLOWERS": ["a"], key: value}},
            **{"BALANCE": "round_robin", "PIN_SECONDS": 3, "DOWNTIME": 4},
        }
    )
    assert config.problems == (f'REPLICAS["SETS"]["default"]["{key}"] {problem}',)
    assert config.topology.sets == (
        ReplicaSet("default", ("a",), balance="round_robin", pin_seconds=3.0, downtime=4.0),
    )


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        (
            "NAME",
            "a b",
            "must be a name that cookies can have: letters, digits, - and _, not 'a b'.",
        ),
        ("PATH", None, "must be a string that is not empty, not None."),
        ("DOMAIN", 1, "must be a string that is not empty, not 1."),
        ("SECURE", "yes", "must be True or False, not 'yes'."),
        ("HTTPONLY", None, "must be True or False, not None."),
        ("SAMESITE", "lax", "must be one of 'Lax', 'Strict', 'None', None, not 'lax'."),
        ("MAX_AGE", 5, "is not a setting. Remove it, or correct its name."),
    ],
)
def test_a_bad_cookie_attribute_is_named(key, value, problem):
    """The cookie as a whole keeps its defaults, and the attribute is named."""
    values = {key: value, "PATH": value if key == "PATH" else "/x/"}
    config = read_config({"COOKIE": values})
    (told,) = config.problems
    assert told == f'REPLICAS["COOKIE"]["{key}"] {problem}'
    assert config.cookie == Cookie()


@pytest.mark.parametrize(
    ("sets", "place", "alias", "owner"),
    [
        ({"a": ["x"], "b": ["x"]}, "b", "x", "a"),
        ({"a": ["b"], "b": ["x"]}, "b", "b", "a"),
        ({"a": ["x"], "b": ["a"]}, "b", "a", "a"),
        ({"a": ["a"]}, "a", "a", "a"),
        ({"a": ["x", "x"]}, "a", "x", "a"),
    ],
)
def test_an_alias_belongs_to_one_set(sets, place, alias, owner):
    """Who leads or follows twice is named, with the set that had it first."""
    assert problems({"SETS": sets}) == [
        f'REPLICAS["SETS"]["{place}"] names {alias!r}, which is already in the set of {owner!r}. '
        "Each alias belongs to one set, once."
    ]


# Asking for it


def test_a_wrong_setting_is_an_error_for_who_uses_it(settings):
    """Whoever needs the settings hears all that is wrong; checks and migrate get what is right."""
    settings.REPLICAS = {"SETS": {"default": ["replica1"]}, "TRACE": 1, "x": 2}
    with pytest.raises(ReplicasConfigError) as caught:
        get_config()
    assert str(caught.value) == (
        'REPLICAS["TRACE"] must be True or False, not 1. '
        'REPLICAS["x"] is not a setting. Remove it, or correct its name.'
    )
    assert get_sound_config().topology.is_follower("replica1")


def test_the_setting_is_read_once(settings):
    """The same object answers until the setting changes."""
    assert get_config() is get_config() is get_sound_config()


def test_a_changed_setting_is_read_anew():
    """Overriding the setting in a test takes effect, and so does the end of it."""
    before = get_config()
    with override_settings(REPLICAS={"TRACE": True}):
        assert get_config().topology.sets == ()
        assert get_sound_config() is get_config()
    assert get_config().topology.sets == before.topology.sets
    assert get_config() is not before


def test_other_settings_change_nothing():
    """A setting that is none of ours does not make it read anew."""
    before = get_config()
    with override_settings(USE_TZ=False):
        assert get_config() is before


# Leader models and delegates


def test_the_session_model_reads_its_leader():
    """By default the model behind the session engine is the only leader model."""
    config = read_config({})
    assert config.leader_models == {Session}
    assert config.leader_tables == {"django_session"}


@pytest.mark.parametrize("engine", ["cache", "signed_cookies"])
def test_a_session_engine_without_a_model_has_none(settings, engine):
    """Sessions that live elsewhere need no leader, as soon as the setting says so."""
    assert get_config().leader_models == {Session}
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    assert get_config().leader_models == frozenset()


WITHOUT_SESSIONS = """
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["django_replicas"])
django.setup()
from django_replicas.conf import get_config
assert get_config().leader_models == frozenset()
"""


def test_without_sessions_there_is_no_session_model():
    """A project that has no sessions installed does not even import their model."""
    code = [sys.executable, "-W", "error", "-c", WITHOUT_SESSIONS]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_changed_apps_are_heard_of(settings):
    """When the installed apps change, so may the models that read their leader."""
    assert get_config().leader_models == {Session}
    settings.INSTALLED_APPS = ["django_replicas"]
    assert get_config().leader_models == frozenset()


def test_leader_models_are_named_by_their_labels():
    """Who names models says all of them, sessions included, and means their proxies too."""
    config = read_config({"LEADER_MODELS": ["shop.Book", "shop.label"]})
    assert config.leader_models == {Book, Handbook, Label}
    assert config.leader_tables == {"shop_book", "shop_label"}
    assert read_config({"LEADER_MODELS": []}).leader_models == frozenset()


def test_a_proxy_may_be_named():
    """Naming a proxy names the table behind it."""
    assert Book in read_config({"LEADER_MODELS": ["shop.Handbook"]}).leader_models


@pytest.mark.parametrize("label", ["shop.Bok", "shopp.Book"])
def test_an_unknown_leader_model_is_named(label):
    """A label of no installed model is an error that names it."""
    config = read_config({"LEADER_MODELS": [label]})
    with pytest.raises(ReplicasConfigError) as caught:
        config.leader_models  # noqa: B018 - asked for its error
    assert str(caught.value) == (
        f'REPLICAS["LEADER_MODELS"] names {label!r}, which is no installed model. '
        "Correct it, or remove it."
    )


def test_delegates_are_routers_in_order():
    """Delegates are given as dotted paths or as routers, and made once."""
    delegate = Delegate()
    config = read_config({"DELEGATE_ROUTERS": [delegate, "tests.test_conf.Delegate"]})
    first, second = config.delegates
    assert first is delegate
    assert isinstance(second, Delegate)
    assert config.delegates is config.delegates


def test_session_app_of_another_kind(settings):
    """An engine of its own names its model, without Django's session app."""
    settings.INSTALLED_APPS = [
        app for app in settings.INSTALLED_APPS if app != "django.contrib.sessions"
    ] + ["tests.visits"]
    settings.SESSION_ENGINE = "tests.visits.engine"
    assert {model.__name__ for model in get_config().leader_models} == {"Visit"}
