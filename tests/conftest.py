"""Databases that tell who answered.

Every alias has the same tables, and in them one shelf and one book with primary key 1, named after
the alias. ``Book.objects.get(pk=1).title`` is the alias that the read went to.
"""

import asyncio
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.management import call_command
from django.db import connections

from django_replicas.conf import read_anew
from django_replicas.followers import forget_followers
from django_replicas.leaders import _of_this_thread
from django_replicas.pinning import Block
from django_replicas.scopes import OUTSIDE

from .django_sources import fetch_tests

# What these take long over, servers, browsers, workers and pages, does not differ from one
# environment to the next: under tox they are run with the oldest Python, and with the latest of all
# with the latest Django.
LONG = {
    "test_admin_in_browser",
    "test_architecture",
    "test_balanced_django",
    "test_balanced_mariadb",
    "test_balanced_pgbouncer",
    "test_balanced_servers",
    "test_cache_topology",
    "test_celery",
    "test_checks",
    "test_checks_servers",
    "test_compat_django_elasticache",
    "test_conflicts",
    "test_discovery",
    "test_django_cache_tests",
    "test_docs",
    "test_elasticache",
    "test_growing",
    "test_hangup",
    "test_histories",
    "test_howto",
    "test_howto_servers",
    "test_isolation",
    "test_jobs_replicated",
    "test_mariadb",
    "test_mark_cache",
    "test_marking",
    "test_marks_on_servers",
    "test_measuring",
    "test_moving_docs",
    "test_overrides",
    "test_positions",
    "test_readonly",
    "test_servers",
    "test_sessions_contract",
    "test_sessions_django",
    "test_sessions_races",
    "test_status",
    "test_sticky",
    "test_stores_replicated",
    "test_tasks",
    "test_testing_docs",
    "test_users_suites",
}


# Of these each Django brings its own.
OF_EACH_DJANGO = {"test_balanced_django", "test_django_cache_tests", "test_sessions_django"}

OLDEST = "py311"
LATEST = f"py3{max(minor for minor in range(11, 15) if shutil.which(f'python3.{minor}'))}"
ENVIRONMENT = os.environ.get("TOX_ENV_NAME", f"{LATEST}-django61")

NEED_PYLIBMC = {
    "test_cache_cluster_command",
    "test_cache_topology",
    "test_compat_django_elasticache",
    "test_django_cache_tests",
}
NO_PYLIBMC = "pylibmc is missing: install libmemcached-dev, and then pylibmc."


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    has_pylibmc = find_spec("pylibmc") is not None or os.environ.get("CI") == "true"
    for item in items:
        if item.path.stem in NEED_PYLIBMC and not has_pylibmc:
            item.add_marker(pytest.mark.skip(NO_PYLIBMC))
    elsewhere = [item for item in items if _is_run_elsewhere(item.path.stem)]
    config.hook.pytest_deselected(items=elsewhere)
    items[:] = [item for item in items if not _is_run_elsewhere(item.path.stem)]


def _is_run_elsewhere(module):
    if module not in LONG or ENVIRONMENT.startswith(OLDEST):
        return False
    here = ["django61", "django60"] if module in OF_EACH_DJANGO else ["django61"]
    return ENVIRONMENT not in [f"{LATEST}-{each}" for each in here]


@pytest.fixture(scope="session")
def pristine(django_db_blocker, tmp_path_factory):
    """Migrate one database, and keep a copy of it for every alias."""
    folder = tmp_path_factory.mktemp("pristine")
    with django_db_blocker.unblock():
        call_command("migrate", database="default", run_syncdb=True, verbosity=0)
        connections["default"].close()
        migrated = Path(settings.DATABASES["default"]["NAME"])
        shutil.copy(migrated, folder / "migrated")
        for alias, database in settings.DATABASES.items():
            shutil.copy(folder / "migrated", database["NAME"])
            _write_rows(alias)
            shutil.copy(database["NAME"], folder / alias)
    return folder


def _write_rows(alias):
    with connections[alias].cursor() as cursor:
        cursor.execute("INSERT INTO shop_shelf (id, name) VALUES (1, %s)", [alias])
        cursor.execute(
            "INSERT INTO shop_book (id, title, note, shelf_id) VALUES (1, %s, %s, 1)",
            [alias, alias],
        )
    connections[alias].close()


@pytest.fixture(autouse=True)
def databases(pristine, django_db_blocker):
    """Begin every test with the rows as they were, outside units, and nothing known as down."""
    for alias, database in settings.DATABASES.items():
        shutil.copy(pristine / alias, database["NAME"])
    forget_followers()
    read_anew()
    _of_this_thread.by_alias.clear()  # Tests put other connections behind the aliases.
    with django_db_blocker.unblock(), Block(lambda scope: OUTSIDE):
        yield
        connections.close_all()
        assert [each.alias for each in connections.all(True) if not _is_as_configured(each)] == []


def _is_as_configured(connection):
    return connection.settings_dict is connections.settings[connection.alias]


@pytest.fixture(scope="session")
def djangos_tests(tmp_path_factory):
    """The folder of Django's own tests, of the release that is installed."""
    kept = os.environ.get("DJANGO_REPLICAS_SOURCES")
    return fetch_tests(Path(kept) if kept else tmp_path_factory.mktemp("django"))


@pytest.fixture
def traced(settings):
    """Keep each unit's answers; with a trace there are no shortcuts, all rules are asked."""
    settings.REPLICAS = {**settings.REPLICAS, "TRACE": True}


@pytest.fixture
def databases_are():
    """Return a function that puts other entries of ``DATABASES`` in place for the test."""
    aliases = set()
    monkeypatch = pytest.MonkeyPatch()

    def put(**entries):
        configured = connections.configure_settings({"default": {}, **entries})
        for alias in entries:
            monkeypatch.setitem(connections.settings, alias, configured[alias])
        aliases.update(entries)
        forget_connections()

    def forget_connections():
        forget_those_of_this_thread()
        with ThreadPoolExecutor(1) as pool:
            # asgiref keeps one thread for all that is awaited outside of requests.
            forget_there = sync_to_async(forget_those_of_this_thread)
            pool.submit(lambda: asyncio.run(forget_there())).result()

    def forget_those_of_this_thread():
        _of_this_thread.by_alias.clear()
        for connection in connections.all(initialized_only=True):
            if connection.alias in aliases:
                connection.close()
                del connections[connection.alias]

    yield put
    monkeypatch.undo()
    forget_connections()
