"""The settings of older packages, each of which means what ``REPLICAS`` may say."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db.models import TextChoices
from django.test import override_settings

from django_replicas.checks import check_requests, check_settings
from django_replicas.conf import PROJECT_KEYS, SET_KEYS, get_config, get_sound_config, read_config
from django_replicas.dialects import DIALECTS, django_replicated, pindb, spoken_in
from django_replicas.dialects.pasting import as_python
from django_replicas.exceptions import ReplicasConfigError
from django_replicas.readonly import _watches, is_read_only
from django_replicas.topology import ReplicaSet

from .moved import settings_in, without_replicas

SLAVES = {"REPLICATED_DATABASE_SLAVES": ["replica1", "replica2"]}
MASTERS = {
    "MASTER_DATABASES": {"default": {"NAME": "a"}, "other": {"NAME": "b"}},
    "DATABASE_SETS": {"default": [{}, {}], "other": []},
}
LEADER = {"LEADER_DATABASE": "default", "FOLLOWER_DATABASES": ["replica1"]}
REPLICAS_OF_MULTIDB = {"REPLICA_DATABASES": ["replica1", "replica2"]}

OF_DJANGO_REPLICATED = {
    "SETS": {"default": ["replica1", "replica2"]},
    "DOWNTIME": 60,
    "PIN_SECONDS": 5,
    "COOKIE": {"NAME": "just_updated"},
    "CHECK_ROLE_ON_WRITE": "routing",
    "READ_ONLY_DOWNTIME": 20,
    "READ_ONLY_TRIES": 1,
}
OF_PINDB = {
    "SETS": {"default": ["default-0", "default-1"], "other": []},
    "BALANCE": "round_robin",
    "OUTSIDE_UNITS": "routed",
    "WRITES_AT": "routing",
    "COOKIE": {"NAME": "pindb_pinned_set"},
}
GREEDY = "django_replicas.routers.GreedyPinRouter"
OF_MULTIDB = {
    "SETS": {"default": ["replica1", "replica2"]},
    "BALANCE": "round_robin",
    "OUTSIDE_UNITS": "routed",
    "COOKIE": {"NAME": "multidb_pin_writes"},
}


@pytest.mark.parametrize(
    ("older", "replicas"),
    [
        pytest.param(SLAVES, OF_DJANGO_REPLICATED, id="django_replicated"),
        pytest.param(
            {
                **SLAVES,
                **{"REPLICATED_DATABASE_DOWNTIME": 20, "REPLICATED_CACHE_BACKEND": "default"},
                **{"REPLICATED_VIEWS_OVERRIDES": {"api-store-event": "slave", "a.b": "master"}},
                **{"REPLICATED_READ_ONLY_DOWNTIME": 21, "REPLICATED_READ_ONLY_TRIES": 3},
                "REPLICATED_FORCE_MASTER_COOKIE_NAME": "updated",
                "REPLICATED_FORCE_MASTER_COOKIE_MAX_AGE": 6,
                "REPLICATED_FORCE_STATE_HEADER": "HTTP_X_REPLICATED_STATE",
                "REPLICATED_CHECK_STATE_ON_WRITE": False,
                "REPLICATED_FORCE_MASTER_COOKIE_STATUS_CODES": (302, 303),
                "REPLICATED_MANAGE_ATOMIC_REQUESTS": True,
            },
            {
                **OF_DJANGO_REPLICATED,
                "DOWNTIME": 20,
                "VIEW_OVERRIDES": {"api-store-event": "slave", "a.b": "master"},
                **{"READ_ONLY_DOWNTIME": 21, "READ_ONLY_TRIES": 3},
                **{"COOKIE": {"NAME": "updated"}, "PIN_SECONDS": 6},
                **{"FORCE_HEADER": "X-Replicated-State", "CHECK_ROLE_ON_WRITE": False},
            },
            id="all of django_replicated",
        ),
        pytest.param(
            {"REPLICATED_FORCE_STATE_HEADER": None},
            {**OF_DJANGO_REPLICATED, "SETS": {"default": []}},
            id="django_replicated without a slave",
        ),
        pytest.param(
            {"REPLICATED_DATABASE_SLAVES": None, "REPLICATED_VIEWS_OVERRIDES": None},
            {**OF_DJANGO_REPLICATED, "SETS": {"default": []}},
            id="django_replicated with nothing in its settings",
        ),
        pytest.param(MASTERS, OF_PINDB, id="pindb"),
        pytest.param(
            {
                **MASTERS,
                **{"PINDB_ENABLED": False, "PINDB_PINNING_SECONDS": 3},
                **{"PINDB_PINNING_COOKIE": "x", "PINDB_DELEGATE_ROUTERS": ["a.Router"]},
            },
            {
                **OF_PINDB,
                **{"ENABLED": False, "PIN_SECONDS": 3, "COOKIE": {"NAME": "x"}},
                "DELEGATE_ROUTERS": ["a.Router"],
            },
            id="all of pindb",
        ),
        pytest.param({**MASTERS, "PINDB_DELEGATE_ROUTERS": None}, OF_PINDB, id="no delegates"),
        pytest.param({**MASTERS, "DATABASE_ROUTER_DELEGATE": None}, OF_PINDB, id="no delegate"),
        *(
            pytest.param(
                {**MASTERS, "DATABASE_ROUTER_DELEGATE": one, **both},
                {**OF_PINDB, "DELEGATE_ROUTERS": ["a.Router"]},
                id=f"pindb's README, as {one!r}{' and its code' if both else ''}",
            )
            for one in ("a.Router", ["a.Router"])
            for both in ({}, {"PINDB_DELEGATE_ROUTERS": ["a.Router"]})
        ),
        pytest.param(
            LEADER | {"REPLICATION_LAG": 7},
            {"SETS": {"default": ["replica1"]}, "REPLICATION_LAG": 7},
            id="django-distributed",
        ),
        pytest.param(
            {"LEADER_DATABASE": "default", "REPLICA_DATABASES": ["replica1"]},
            {"SETS": {"default": ["replica1"]}},
            id="django-distributed's own code",
        ),
        pytest.param(
            LEADER | {"REPLICA_DATABASES": ("replica1",)},
            {"SETS": {"default": ["replica1"]}},
            id="both names of django-distributed",
        ),
        pytest.param(
            {"LEADER_DATABASE": "default"}, {"SETS": {"default": []}}, id="a leader alone"
        ),
        pytest.param(
            {"LEADER_DATABASE": "default", "REPLICA_DATABASES": ["default"]},
            {"SETS": {"default": []}},
            id="a leader that follows itself, as django-distributed has it in development",
        ),
        pytest.param(REPLICAS_OF_MULTIDB, OF_MULTIDB, id="multidb"),
        pytest.param(
            {"SLAVE_DATABASES": ["replica1", "replica2"]}, OF_MULTIDB, id="multidb before 0.8"
        ),
        pytest.param(
            {
                **REPLICAS_OF_MULTIDB,
                **{"MULTIDB_PINNING_SECONDS": 5, "MULTIDB_PINNING_COOKIE": "x"},
                "MULTIDB_PINNING_COOKIE_SECURE": True,
                "MULTIDB_PINNING_COOKIE_HTTPONLY": False,
                "MULTIDB_PINNING_COOKIE_SAMESITE": "Strict",
            },
            {
                **OF_MULTIDB,
                "PIN_SECONDS": 5,
                "COOKIE": {"NAME": "x", "SECURE": True, "HTTPONLY": False, "SAMESITE": "Strict"},
            },
            id="all of multidb",
        ),
        pytest.param(
            {
                **REPLICAS_OF_MULTIDB,
                **{"MULTIDB_PINNING_SECONDS": "5", "MULTIDB_PINNING_COOKIE_SAMESITE": "lax"},
            },
            {
                **OF_MULTIDB,
                **{"PIN_SECONDS": 5, "COOKIE": {"NAME": "multidb_pin_writes", "SAMESITE": "Lax"}},
            },
            id="multidb as environment variables have it",
        ),
        pytest.param(
            {**REPLICAS_OF_MULTIDB, "MULTIDB_PINNING_COOKIE_SAMESITE": False},
            {**OF_MULTIDB, "COOKIE": {"NAME": "multidb_pin_writes", "SAMESITE": None}},
            id="multidb without SameSite",
        ),
        pytest.param(
            {**MASTERS, "PINDB_PINNING_SECONDS": " 3 "},
            {**OF_PINDB, "PIN_SECONDS": 3},
            id="pindb as environment variables have it",
        ),
        pytest.param(
            {**SLAVES, "REPLICATED_FORCE_MASTER_COOKIE_MAX_AGE": "6"},
            {**OF_DJANGO_REPLICATED, "PIN_SECONDS": 6},
            id="django_replicated as environment variables have it",
        ),
    ],
)
def test_older_settings_mean_what_replicas_says(older, replicas):
    """Each setting of a package has its place in REPLICAS, and those that are not given too."""
    assert read_config(replicas).problems == ()
    with without_replicas(**older):
        assert meaning(get_config()) == meaning(read_config(replicas))


def meaning(config):
    return replace(config, topology=config.topology.sets)


def test_every_place_is_a_key():
    """No dialect writes of a key that REPLICAS does not have."""
    for dialect in DIALECTS:
        given = dict.fromkeys(dialect.own | dialect.shared)
        assert {*dialect.translate(given).replicas} <= {*PROJECT_KEYS, *SET_KEYS}


MUST_BE_SECONDS = "must be a number of seconds, not 'x'."


@pytest.mark.parametrize(
    ("older", "problem"),
    [
        (
            {"REPLICATED_DATABASE_SLAVES": "replica1"},
            "REPLICATED_DATABASE_SLAVES must be a list of aliases, not 'replica1'.",
        ),
        (
            {"REPLICATED_DATABASE_SLAVES": {"replica1": 1}},
            "REPLICATED_DATABASE_SLAVES must be a list of aliases, not {'replica1': 1}.",
        ),
        (
            SLAVES | {"REPLICATED_DATABASE_DOWNTIME": "x"},
            f"REPLICATED_DATABASE_DOWNTIME {MUST_BE_SECONDS}",
        ),
        (
            SLAVES | {"REPLICATED_FORCE_STATE_HEADER": "X_STATE"},
            "REPLICATED_FORCE_STATE_HEADER must be the name of a header such as "
            "\"X-Replicas-Role\", not 'X_STATE'.",
        ),
        (
            SLAVES | {"REPLICATED_VIEW_OVERRIDES": {}},
            "REPLICATED_VIEW_OVERRIDES is not a setting. Did you mean REPLICATED_VIEWS_OVERRIDES?",
        ),
        (
            SLAVES | {"REPLICATED_XYZZY": {}},
            "REPLICATED_XYZZY is not a setting. Remove it, or correct its name.",
        ),
        (
            SLAVES | {"REPLICATED_CHECK_STATE_ON_WRITE": 1},
            'REPLICATED_CHECK_STATE_ON_WRITE must be True, False or "routing", not 1.',
        ),
        (MASTERS | {"PINDB_PINNING_SECONDS": "x"}, f"PINDB_PINNING_SECONDS {MUST_BE_SECONDS}"),
        (
            MASTERS | {"PINDB_PINNING_COOKIE": 5},
            "PINDB_PINNING_COOKIE must be a name that cookies can have: letters, digits, - and _, "
            "not 5.",
        ),
        (
            {"MASTER_DATABASES": {"default": {}}},
            "DATABASE_SETS is missing: django-pindb's settings have both it and the other.",
        ),
        (
            {"DATABASE_SETS": {"default": []}},
            "MASTER_DATABASES is missing: django-pindb's settings have both it and the other.",
        ),
        (
            MASTERS | {"DATABASE_SETS": ["default"]},
            "DATABASE_SETS must be a dict with the alias of each leader, not ['default'].",
        ),
        (
            MASTERS | {"DATABASE_SETS": {"default": []}},
            "DATABASE_SETS has no entry for 'other'. Add its followers, or an empty list.",
        ),
        (
            MASTERS | {"DATABASE_SETS": {"default": "x", "other": []}},
            'DATABASE_SETS["default"] must be a list with a dict of settings for each follower, '
            "not 'x'.",
        ),
        (
            MASTERS | {"DATABASE_SETS": {"default": {"HOST": "x"}, "other": []}},
            'DATABASE_SETS["default"] must be a list with a dict of settings for each follower, '
            "not {'HOST': 'x'}.",
        ),
        (
            {"MASTER_DATABASES": {"default": {}}, "DATABASE_SETS": {}},
            "DATABASE_SETS has no entry for 'default'. Add its followers, or an empty list.",
        ),
        (
            MASTERS | {"PINDB_DELEGATE_ROUTERS": ["a.A"], "DATABASE_ROUTER_DELEGATE": "a.B"},
            "PINDB_DELEGATE_ROUTERS and DATABASE_ROUTER_DELEGATE differ: remove one of them.",
        ),
        (
            LEADER | {"REPLICA_DATABASES": None},
            "FOLLOWER_DATABASES and REPLICA_DATABASES differ: remove one of them.",
        ),
        (
            {"FOLLOWER_DATABASES": [], "REPLICATION_LAG": 1},
            "FOLLOWER_DATABASES needs LEADER_DATABASE, which is missing.",
        ),
        (LEADER | {"REPLICATION_LAG": "x"}, f"REPLICATION_LAG {MUST_BE_SECONDS}"),
        (
            {"REPLICA_DATABASES": "replica1"},
            "REPLICA_DATABASES must be a list of aliases, not 'replica1'.",
        ),
        *(
            (
                others | {name: nothing},
                f"{name} is 0, with which users would miss what they have just written. Write for "
                "how many seconds followers may be behind, or 0.001 where that is what is meant.",
            )
            for others, name, nothing in (
                (REPLICAS_OF_MULTIDB, "MULTIDB_PINNING_SECONDS", 0),
                (MASTERS, "PINDB_PINNING_SECONDS", "0"),
                (SLAVES, "REPLICATED_FORCE_MASTER_COOKIE_MAX_AGE", 0.0),
            )
        ),
        (
            REPLICAS_OF_MULTIDB | {"MULTIDB_PINNING_SECONDS": False},
            "MULTIDB_PINNING_SECONDS must be a number of seconds, not False.",
        ),
        (
            {"REPLICA_DATABASES": ["replica1", "default", "replica2"]},
            "REPLICA_DATABASES names 'default', which leads: remove it.",
        ),
        (
            {"REPLICATED_DATABASE_SLAVES": ("replica1", "replica2", "replica1", "replica1")},
            "REPLICATED_DATABASE_SLAVES names 'replica1' more than once: weights have no "
            "successor, name each once.",
        ),
        (
            LEADER | {"FOLLOWER_DATABASES": ["default", "default"]},
            "FOLLOWER_DATABASES names 'default', which leads: remove it.",
        ),
        (
            REPLICAS_OF_MULTIDB | {"MULTIDB_PINNING_COOKIE_SAMESITE": "loose"},
            "MULTIDB_PINNING_COOKIE_SAMESITE must be one of 'Lax', 'Strict', 'None', None, not "
            "'loose'.",
        ),
        (
            REPLICAS_OF_MULTIDB | {"MULTIDB_PINNING_COOKIE_SECURE": 1},
            "MULTIDB_PINNING_COOKIE_SECURE must be True or False, not 1.",
        ),
        (
            REPLICAS_OF_MULTIDB | {"MULTIDB_PINNING_SECOND": 1},
            "MULTIDB_PINNING_SECOND is not a setting. Did you mean MULTIDB_PINNING_SECONDS?",
        ),
    ],
)
def test_a_mistake_is_told_under_the_older_name(older, problem):
    """Nobody has to know what REPLICAS would call it."""
    with without_replicas(**older):
        assert get_sound_config().problems == (problem,)
        assert [each.msg for each in check_settings() if each.id.endswith("E001")] == [problem]


def test_checks_speak_the_dialect():
    """What other checks find is told under the older names too."""
    with without_replicas(
        **SLAVES | {"REPLICATED_DATABASE_SLAVES": ["nowhere"]},
        **{"REPLICATED_VIEWS_OVERRIDES": {"a": "slave"}, "MIDDLEWARE": []},
    ):
        (message,) = check_settings()
        assert message.id == "django_replicas.E002"
        assert message.msg == (
            "REPLICATED_DATABASE_SLAVES names 'nowhere', which is not in DATABASES."
        )
        idle = next(each for each in check_requests() if each.id == "django_replicas.W017")
        assert idle.msg.endswith("do nothing: REPLICATED_VIEWS_OVERRIDES.")
    with (
        without_replicas(**MASTERS, PINDB_DELEGATE_ROUTERS=["nowhere.Router"]),
        pytest.raises(ReplicasConfigError, match=r"^PINDB_DELEGATE_ROUTERS names a router"),
    ):
        _ = get_config().delegates


OF_DISTRIBUTED = {**LEADER, "DATABASE_ROUTERS": ["django_replicas.routers.SessionPinnedRouter"]}
LOCMEM = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}


@pytest.mark.parametrize(("cache", "expected"), [("default", "W015"), ("other", "E006")])
def test_hints_say_where_a_key_of_replicas_goes(cache, expected):
    """Beside older settings REPLICAS would put them out of force, which nobody wants."""
    caches = {cache: LOCMEM}
    with without_replicas(**OF_DISTRIBUTED, CACHES=caches):
        (message,) = [each for each in check_settings() if each.id.endswith(expected)]
    assert 'REPLICAS["RECENCY_CACHE"]' in message.msg + message.hint
    assert (
        "There is no REPLICAS yet, and beside one the settings of django-distributed "
        "(FOLLOWER_DATABASES, LEADER_DATABASE) do not count: begin with the one that `manage.py "
        "replicas settings` prints in their place. See https://"
    ) in message.hint


def test_hints_on_older_settings_are_for_those_who_have_them():
    """Whoever has REPLICAS is told of its key alone, and a hint without a key of nothing else."""
    replicas = {"SETS": {"default": ["replica1"]}}
    with override_settings(**OF_DISTRIBUTED, REPLICAS=replicas, CACHES={"default": LOCMEM}):
        (message,) = [each for each in check_settings() if each.id.endswith("W015")]
    assert message.hint.startswith(
        'Give CACHES["default"] a backend that all processes share, or name a cache that has one '
        'in REPLICAS["RECENCY_CACHE"]. See https://'
    )
    with without_replicas(**SLAVES, MIDDLEWARE=[], DATABASE_ROUTERS=[GREEDY]):
        (message,) = [each for each in check_requests() if each.id.endswith("W006")]
    assert message.hint.startswith('Put "django_replicas.middleware.ReplicasMiddleware" first. See')


# Two at once


@pytest.mark.parametrize(
    ("names", "packages"),
    [
        ([], []),
        (["REPLICATED_CACHE_BACKEND"], ["django_replicated"]),
        (["PINDB_ENABLED"], ["django-pindb"]),
        (["LEADER_DATABASE"], ["django-distributed"]),
        (["LEADER_DATABASE", "REPLICA_DATABASES"], ["django-distributed"]),
        (["LEADER_DATABASE", "REPLICATION_LAG"], ["django-distributed"]),
        (["REPLICATION_LAG"], []),
        (["REPLICATION_LAG", "PINDB_ENABLED"], ["django-pindb"]),
        (["REPLICA_DATABASES"], ["django-multidb-router"]),
        (["REPLICA_DATABASES", "REPLICATION_LAG"], ["django-multidb-router"]),
        (["REPLICA_DATABASES", "MULTIDB_PINNING_SECONDS"], ["django-multidb-router"]),
        (["REPLICA_DATABASES", "PINDB_ENABLED"], ["django-pindb", "django-multidb-router"]),
        (
            ["REPLICA_DATABASES", "LEADER_DATABASE", "MULTIDB_PINNING_SECONDS"],
            ["django-distributed", "django-multidb-router"],
        ),
        (["MULTIDB_OF_SOMEBODY_ELSE", "PEERS"], []),
    ],
)
def test_settings_tell_whose_they_are(names, packages):
    """REPLICA_DATABASES, which two packages have, is of the one whose other settings are there.

    REPLICATION_LAG, which a project may have for itself, tells nothing.
    """
    project = type("Project", (), dict.fromkeys(names))
    assert [each.package for each in spoken_in(project)] == packages


def test_one_beside_replicas_is_an_error():
    """It names both, and REPLICAS counts meanwhile."""
    with override_settings(**SLAVES, REPLICAS={"SETS": {"other": ["other-0"]}}):
        assert get_config().topology.sets == (ReplicaSet("other", ("other-0",)),)
        (message,) = check_settings()
    assert message.id == "django_replicas.E007"
    assert message.msg == (
        "REPLICAS stands beside settings of django_replicated (REPLICATED_DATABASE_SLAVES): these "
        "do not count."
    )


def test_many_settings_are_named_in_one():
    """A star import brings a dozen."""
    brought = dict.fromkeys(django_replicated.DIALECT.own)
    with override_settings(**brought, REPLICAS={}):
        assert "django_replicated (REPLICATED_*)" in check_settings()[0].msg
    with override_settings(**dict.fromkeys(pindb.DIALECT.own), REPLICAS={}):
        names = "DATABASE_ROUTER_DELEGATE, DATABASE_SETS, MASTER_DATABASES, PINDB_*"
        assert f"({names})" in check_settings()[0].msg


def test_two_dialects_are_an_error():
    """It names both, and nothing is read of either."""
    with without_replicas(**SLAVES, MULTIDB_PINNING_SECONDS=5):
        assert get_sound_config().topology.sets == ()
        (message,) = check_settings()
        with pytest.raises(ReplicasConfigError) as raised:
            get_config()
        with pytest.raises(CommandError) as told:
            call_command("replicas", "settings")
    assert message.id == "django_replicas.E007"
    assert message.msg == str(raised.value) == str(told.value)
    assert message.msg == (
        "There are settings of django_replicated (REPLICATED_DATABASE_SLAVES) and of "
        "django-multidb-router (MULTIDB_PINNING_SECONDS), and no REPLICAS to say which of them "
        "count."
    )


def test_an_older_setting_that_changes_is_read_anew():
    """Tests may override it, and what hangs on it is forgotten."""
    with without_replicas(**SLAVES):
        assert not is_read_only("default")
        assert _watches
        with override_settings(REPLICATED_READ_ONLY_TRIES=5):
            assert get_config().read_only_tries == 5
            assert not _watches
        assert get_config().read_only_tries == 1


# Printed


def printed(capsys):
    call_command("replicas", "settings")
    return capsys.readouterr().out


@pytest.mark.parametrize("older", [SLAVES, MASTERS, LEADER, REPLICAS_OF_MULTIDB])
def test_what_is_printed_means_the_same(older, capsys):
    """Pasted into a settings module in place of the older ones, it is read as they were."""
    with without_replicas(**older):
        config, text = get_config(), printed(capsys)
    pasted = {}
    exec(text, pasted)
    assert meaning(read_config(pasted["REPLICAS"])) == meaning(config)


def test_printed_settings(capsys):
    """The dict as people write it, and in words what changes beside it."""
    with without_replicas(
        **MASTERS,
        PINDB_DELEGATE_ROUTERS=("shop.routers.ByApp",),
        MIDDLEWARE=["pindb.middleware.PinDbMiddleware", "shop.middleware.Counting"],
        SESSION_ENGINE="django_replicas.compat.django_distributed.session_engine",
    ):
        assert printed(capsys).splitlines() == [
            "# In place of the settings of django-pindb (DATABASE_SETS, MASTER_DATABASES,",
            "#     PINDB_DELEGATE_ROUTERS).",
            "REPLICAS = {",
            '    "SETS": {"default": ["default-0", "default-1"], "other": []},',
            '    "BALANCE": "round_robin",',
            '    "OUTSIDE_UNITS": "routed",',
            '    "WRITES_AT": "routing",',
            '    "COOKIE": {"NAME": "pindb_pinned_set"},',
            '    "DELEGATE_ROUTERS": ("shop.routers.ByApp",),',
            "}",
            "# MASTER_DATABASES and DATABASE_SETS: django_replicas.populate_replicas() makes",
            "#     DATABASES of them as before. Rename both in lower case, as in `leaders` and",
            "#     `followers`, so that they are no settings any more.",
            '# MIDDLEWARE: "django_replicas.middleware.ReplicasMiddleware" in place of',
            '#     "pindb.middleware.PinDbMiddleware".',
            '# SESSION_ENGINE: "django_replicas.sessions.write_behind" in place of',
            '#     "django_replicas.compat.django_distributed.session_engine".',
        ]


def test_printed_settings_that_have_no_successor(capsys):
    """What a dict cannot say is said in words; what was never changed, not at all."""
    codes = "REPLICATED_FORCE_MASTER_COOKIE_STATUS_CODES"
    with without_replicas(
        **{"REPLICATED_CACHE_BACKEND": "default", codes: (302, 303, 307)},
        REPLICATED_MANAGE_ATOMIC_REQUESTS=True,
    ):
        words = printed(capsys)
    with without_replicas(**SLAVES, **{codes: [303, 302]}):
        assert codes + " has" not in printed(capsys)
    with without_replicas(**SLAVES, **{codes: [[]]}):
        assert codes + " has" in printed(capsys)
    with without_replicas(**settings_in(STAR_IMPORT)):
        assert printed(capsys).count("#") == 1
    assert "# REPLICATED_CACHE_BACKEND has no successor: " in words
    assert f"# {codes} has no successor: " in words
    assert "# REPLICATED_MANAGE_ATOMIC_REQUESTS: give the leader's entry in DATABASES" in words


class ByApp:
    """A project's router, which is named or made by hand."""

    def db_for_read(self, model, **hints):
        return None

    class Inner:
        def db_for_read(self, model, **hints):
            return None


class Sharded(ByApp):
    """One that needs to be told something."""

    def __init__(self, shards):
        self.shards = shards


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("has_moved", [False, True])
def test_delegates_that_are_objects(capsys, has_moved, kind):
    """They are printed as the paths that make them, with a word on what that leaves out."""
    delegates = kind(["shop.routers.ByApp", ByApp()])
    moved = {"REPLICAS": {"DELEGATE_ROUTERS": delegates}}
    older = {**MASTERS, "PINDB_DELEGATE_ROUTERS": delegates}
    with override_settings(**moved) if has_moved else without_replicas(**older):
        text = printed(capsys)
    pasted = {}
    exec(text, pasted)
    path = f"{__name__}.ByApp"
    assert pasted["REPLICAS"]["DELEGATE_ROUTERS"] == ["shop.routers.ByApp", path]
    assert as_one_line(text).count("DELEGATE_ROUTERS:") == 1
    assert f'DELEGATE_ROUTERS: "{path}" is made without arguments. Write' in as_one_line(text)


@pytest.mark.parametrize(
    ("router", "name"),
    [
        (Sharded([1]), f"{__name__}.Sharded"),
        (ByApp.Inner(), f"{__name__}.ByApp.Inner"),
        (type("ByApp", (ByApp,), {})(), f"{__name__}.ByApp"),
        (SimpleNamespace(db_for_read=None), "types.SimpleNamespace"),
    ],
)
def test_delegates_that_no_path_makes(capsys, settings, router, name):
    """What is printed in their place is a mistake until somebody corrects it."""
    settings.REPLICAS = {"DELEGATE_ROUTERS": [router]}
    text = printed(capsys)
    pasted = {}
    exec(text, pasted)
    assert as_one_line(text).endswith(
        'DELEGATE_ROUTERS: write your own object in place of "path.to.Router", or the dotted path '
        "of a class or function that makes it without arguments. It is of the class " + name + "."
    )
    assert pasted["REPLICAS"] == {"DELEGATE_ROUTERS": ["path.to.Router"]}
    settings.REPLICAS = pasted["REPLICAS"]
    with pytest.raises(ReplicasConfigError, match=r"DELEGATE_ROUTERS.* names a router that cannot"):
        _ = get_config().delegates


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--json"], "--json"),
        (["--database", "default"], "--database"),
        (["--watch=1"], "--watch"),
        (["--watch=1", "--json"], "--json and --watch"),
    ],
)
def test_options_that_would_do_nothing(options, names):
    """They are refused, because whoever gives them expects something."""
    with pytest.raises(CommandError) as raised:
        call_command("replicas", *options, "settings")
    assert str(raised.value) == (
        "`replicas settings` prints all of REPLICAS, once and as Python: "
        f"{names} would do nothing. Leave it out."
    )


COMPAT = "django_replicas.compat."
TO_PUT_FIRST = 'MIDDLEWARE: put "django_replicas.middleware.ReplicasMiddleware" first.'


@pytest.mark.parametrize(
    ("routers", "middleware", "others", "told"),
    [
        ([f"{COMPAT}multidb.ReplicaRouter"], [], {}, True),
        ([f"{COMPAT}multidb.MasterSlaveRouter"], ["shop.middleware.Counting"], {}, True),
        ([f"{COMPAT}multidb.ReplicaRouter"], [], {"REPLICAS": {"OUTSIDE_UNITS": "routed"}}, True),
        ([f"{COMPAT}multidb.ReplicaRouter"], [], {"REPLICAS": {}}, False),
        (
            [f"{COMPAT}multidb.ReplicaRouter"],
            ["multidb.middleware.PinningRouterMiddleware"],
            {},
            False,
        ),
        (
            [f"{COMPAT}multidb.ReplicaRouter"],
            ["django_replicas.middleware.ReplicasMiddleware"],
            {},
            False,
        ),
        (["django_replicas.routers.GreedyPinRouter"], [], {}, False),
        ([object()], [], {}, False),
    ],
)
def test_the_middleware_is_advised(capsys, routers, middleware, others, told):
    """What begins requests afresh by itself is a router of multidb alone."""
    configured = override_settings if others else without_replicas
    given = others or REPLICAS_OF_MULTIDB
    with configured(**given, DATABASE_ROUTERS=routers, MIDDLEWARE=middleware):
        assert (TO_PUT_FIRST in as_one_line(printed(capsys))) is told


def as_one_line(text):
    return " ".join(line.strip("# ") for line in text.splitlines())


@pytest.mark.parametrize("path", [COMPAT, ""])
def test_another_default_is_told(capsys, path):
    """Where CHECK_INTERVAL is not written, the name of the engine decides."""
    engine = f"{path}django_proxysql.backends.proxysql"
    databases = {
        **{"default": {}, "many": {"ENGINE": engine}},
        "written": {"ENGINE": engine, "CHECK_INTERVAL": 5},
        "ours": {"ENGINE": "django_replicas.backends.balanced"},
    }
    with pytest.warns(UserWarning, match="DATABASES"), without_replicas(DATABASES=databases):
        text = as_one_line(printed(capsys))
    assert text.count("CHECK_INTERVAL") == 1
    assert 'DATABASES["many"]: write "CHECK_INTERVAL": 30 to leave a peer alone for as' in text


STAR_IMPORT = "from django_replicas.compat.django_replicated.settings import *"


def test_printed_settings_of_a_project_that_has_moved(capsys, settings):
    """REPLICAS is printed as it is; without any, an empty one."""
    settings.REPLICAS = {"TRACE": True}
    assert printed(capsys) == 'REPLICAS = {"TRACE": True}\n'
    with without_replicas():
        assert printed(capsys) == "REPLICAS = {}\n"


class Alias(TextChoices):
    """Databases, named once."""

    SHADOW = "shadow"


def test_values_as_python():
    """What is printed is what was meant, whatever is in it, and lines end where people end them."""
    value = {
        "SETS": {"a" * 30: ["b" * 30, "c" * 30], "d": {"FOLLOWERS": ("e" * 40, "f" * 50)}},
        **{"QUOTED": "it's", "OTHER": 'say "x"', "NONE": None, "LONG": "x" * 100},
        **{"SECONDS": 0.5, "MEMBER": Alias.SHADOW},
    }
    text = as_python(value)
    assert eval(text) == value
    assert [line for line in text.splitlines() if len(line) > 88] == [f'    "LONG": "{"x" * 100}",']
    assert '"QUOTED": "it\'s",' in text
    assert '"MEMBER": "shadow",' in text
