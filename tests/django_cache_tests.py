"""Run Django's own tests of one of its memcached backends on ours: a program, not a test.

Arguments: Django's folder of tests, our backend's class, the class of Django's tests, OPTIONS as
JSON, and the endpoints of two clusters.
"""

import json
import os
import sys
from unittest import TestSuite

import django
from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends import memcached
from django.test.runner import DiscoverRunner
from django.utils.module_loading import import_string

folder, backend, tested, options, *locations = sys.argv[1:]
sys.path.insert(0, folder)

# Their classes are skipped unless Django's own backend is configured: ours takes its name.
THEIRS = tested.removesuffix("Tests")
CACHE = {
    "BACKEND": f"django.core.cache.backends.memcached.{THEIRS}",
    "LOCATION": locations[0],
    "OPTIONS": json.loads(options),
}
settings.configure(
    ALLOWED_HOSTS=["testserver"],
    CACHES={"default": CACHE},
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=["cache"],
    ROOT_URLCONF="cache",
    SECRET_KEY="only for these tests",
    USE_TZ=False,
)
django.setup()

# It sleeps as long as all others together: it is run beside them, on nodes of its own.
SLEEPING = {"test_touch"}


def main() -> int:
    beside = os.fork()
    if not beside:
        CACHE["LOCATION"] = locations[1]
        sys.exit(run(lambda name: name in SLEEPING))
    others = run(lambda name: name not in SLEEPING)
    return others or os.waitpid(beside, 0)[1]


def theirs():
    """Return Django's class of tests, with our backend in the place of Django's."""
    from cache import tests  # noqa: PLC0415 - reads the settings when it is imported

    ours = import_string(f"django_replicas.cache.elasticache.{backend}")
    setattr(memcached, THEIRS, ours)
    assert type(caches["default"]) is ours
    found = getattr(tests, tested)
    # A client that manages its connections itself, in Django's words for pylibmc.
    found.should_disconnect_on_close = False
    return found


def run(chosen) -> int:
    """Run those of the tests whose names are chosen; return how many of them failed."""
    runner = DiscoverRunner(verbosity=1, interactive=False)
    names = filter(chosen, runner.test_loader.getTestCaseNames(theirs()))
    databases = runner.setup_databases()
    result = runner.run_suite(TestSuite(map(theirs(), names)))
    runner.teardown_databases(databases)
    return runner.suite_result(None, result)


if __name__ == "__main__":
    sys.exit(main())
