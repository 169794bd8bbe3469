"""The house: which module may know which, and what importing the package does."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import django_replicas

PACKAGE = Path(django_replicas.__file__).parent

# A module knows those of the storeys below its own, and no other.
STOREYS = [
    {
        "cache/__init__",
        "cache/forks",
        "dialects/translation",
        "exceptions",
        "reasons",
        "sessions/__init__",
        "tables",
    },
    {
        "dialects/django_distributed",
        "dialects/django_elasticache",
        "dialects/django_replicated",
        "dialects/multidb",
        "dialects/pindb",
        "dialects/proxysql",
    },
    {"dialects/__init__"},
    {
        "cache/replies",
        "dialects/pasting",
        "hangup",
        "positions",
        "sessions/queue",
        "sessions/receipts",
        "sessions/versions",
        "topology",
    },
    {
        "conf",
        "deadlines",
        "liveness",
        "marks",
        "replication",
        "sessions/cells",
        "sessions/rows",
        "writability",
    },
    {"integrations/__init__", "knowledge", "lag", "readers", "session_keys"},
    {"backends/__init__", "backends/balanced/__init__", "refusals"},
    {"backends/balanced/creation", "backends/balanced/facts", "backends/balanced/pools", "outages"},
    {"cache/endpoint", "sessions/ledger", "sessions/process", "signals"},
    {"peers"},
    {"own_connections"},
    {"backends/balanced/engines"},
    {"backends/balanced/base"},
    {"cache/discovery"},
    {"cache/clients", "cache/options"},
    {"cache/libraries"},
    {"cache/elasticache"},
    {"sessions/outcomes", "stores/codec", "stores/protocol", "units", "writes"},
    {"scopes", "stores/signing"},
    {
        "measuring",
        "origins",
        "sessions/writing",
        "shortcuts",
        "stores/cookie",
        "stores/growing",
        "stores/header",
    },
    {"atomic_requests", "instances", "leaders", "overrides", "pinning", "readonly"},
    {"aside"},
    {"clients", "shared_caches"},
    {"sticky"},
    {"conflicts", "followers", "marking", "recency", "stores/cache"},
    {"settling", "stores/__init__"},
    {"http", "jobs"},
    {"calls", "integrations/crum", "notebooks", "sessions/write_behind"},
    {"routing"},
    {"routers"},
    {"checks/members", "checks/messages", "decorators"},
    {"checks/caches", "explain", "panels"},
    {"checks/databases", "checks/routing", "forced"},
    {"middleware"},
    {"checks/peers", "checks/requests", "checks/servers", "checks/settings", "checks/views"},
    {"test"},
    {"checks/sessions", "integrations/celery", "integrations/tasks", "status"},
    {"peer_status"},
    {"management/__init__", "management/commands/__init__", "management/commands/replicas"},
    {"management/commands/cache_cluster", "management/commands/write_sessions"},
    {"checks/__init__"},
    {"apps", "pytest_plugin"},
    {"__init__"},
    {"compat/__init__"},
    {"compat/pindb/exceptions", "compat/pindb/middleware"},
    {"compat/pindb/__init__"},
    {
        "compat/django_replicated/__init__",
        "compat/django_replicated/dbchecker",
        "compat/django_replicated/settings",
    },
    {"compat/django_replicated/router"},
    {"compat/django_replicated/decorators", "compat/django_replicated/utils"},
    {"compat/django_replicated/middleware"},
    {"compat/multidb/middleware", "compat/multidb/pinning"},
    {"compat/multidb/__init__"},
    {
        "compat/django_distributed/router/distributed_router",
        "compat/django_distributed/session_engine",
    },
    {"compat/django_distributed/router/cached_session_router"},
    {"compat/django_distributed/router/__init__"},
    {"compat/django_distributed/__init__"},
    {
        "compat/django_proxysql/__init__",
        "compat/django_proxysql/backends/__init__",
        "compat/django_proxysql/backends/proxysql/__init__",
        "compat/django_proxysql/backends/proxysql/base",
    },
    {
        "compat/django_elasticache/__init__",
        "compat/django_elasticache/cluster_utils",
        "compat/django_elasticache/memcached",
    },
]
MODULES = {path.relative_to(PACKAGE).as_posix()[:-3]: path for path in PACKAGE.rglob("*.py")}


def imported(path):
    """Yield the modules of ours that a module imports, at its top or anywhere in it."""
    here = path.relative_to(PACKAGE.parent).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            folder = here[: len(here) + 1 - node.level] if node.level else ()
            origin = ".".join(filter(None, [*folder, node.module]))
            dotted = [f"{origin}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in dotted:
            package, *inside = name.split(".")
            if package == "django_replicas":
                yield module_of(inside)


def module_of(names):
    """Return the module that a dotted name of ours is, or is in."""
    for end in range(len(names), 0, -1):
        module = "/".join(names[:end])
        for candidate in (module, f"{module}/__init__"):
            if candidate in MODULES:
                return candidate
    return "__init__"


def test_every_module_has_its_storey():
    """A new module is given its place here, once."""
    assert sorted(MODULES) == sorted(module for storey in STOREYS for module in storey)


@pytest.mark.parametrize(
    ("module", "below"),
    [
        pytest.param(module, set().union(*STOREYS[:height]), id=module)
        for height, storey in enumerate(STOREYS)
        for module in sorted(storey)
    ],
)
def test_arrows_point_down(module, below):
    """A module imports of ours only what stands below it."""
    assert set(imported(MODULES[module])) <= below


def test_nothing_of_ours_imports_compat():
    """The older names go one day, and nothing else has to change then."""
    ours = {module for module in MODULES if not module.startswith("compat/")}
    assert not any(name.startswith("compat/") for each in ours for name in imported(MODULES[each]))


@pytest.mark.parametrize("module", sorted(each for each in MODULES if each.startswith("compat/")))
def test_packages_of_older_names_go_one_by_one(module):
    """A folder of compat knows no other one."""
    known = {each.split("/")[1] for each in imported(MODULES[module]) if "compat/" in each}
    assert known <= {"__init__", module.split("/")[1]}


def test_writes_is_pure():
    """Reading SQL needs nothing but the text: none of our modules, nothing of Django."""
    tree = ast.walk(ast.parse(MODULES["writes"].read_text()))
    origins = {node.module for node in tree if isinstance(node, ast.ImportFrom)}
    assert origins <= set(sys.stdlib_module_names) | {"collections.abc"}


TOUCHES_NOTHING = """
import django_replicas
from django.apps import apps
from django.conf import settings

for name in django_replicas.__all__:
    getattr(django_replicas, name)
assert not settings.configured
assert not apps.ready
assert not apps.app_configs
assert not any(apps.all_models.values())
"""


def test_importing_touches_no_settings_models_or_apps():
    """A settings module may import the package before there are settings."""
    environment = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", TOUCHES_NOTHING],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_public_name_exists():
    """What ``__all__`` promises can be imported, and nothing public is left out of it."""
    public = {
        name
        for name, value in vars(django_replicas).items()
        if not name.startswith("_") and not isinstance(value, type(ast))
    }
    assert public == set(django_replicas.__all__)
    assert django_replicas.__all__ == sorted(django_replicas.__all__)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("master", "leader"),
        ("unpinned_replica", "follower"),
        ("get_replica", "get_follower"),
        ("use_master", "use_leader"),
        ("use_slave", "use_follower"),
    ],
)
def test_the_names_that_people_know_are_aliases(alias, name):
    """An older name is the same object under another name."""
    assert getattr(django_replicas, alias) is getattr(django_replicas, name)


def test_the_package_says_that_it_is_typed():
    """Type checkers believe a package only with its marker."""
    assert (PACKAGE / "py.typed").exists()
