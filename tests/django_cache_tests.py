"""Run Django's own tests of one of its memcached backends on ours: a program, not a test.

Arguments: Django's folder of tests, the endpoint, our backend's class, the class of Django's tests,
OPTIONS as JSON.
"""

import json
import sys
from unittest import TestSuite

import django
from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends import memcached
from django.test.runner import DiscoverRunner
from django.utils.module_loading import import_string

folder, location, backend, tested, options = sys.argv[1:]
sys.path.insert(0, folder)

# Their classes are skipped unless Django's own backend is configured: ours takes its name.
THEIRS = tested.removesuffix("Tests")
CACHE = {
    "BACKEND": f"django.core.cache.backends.memcached.{THEIRS}",
    "LOCATION": location,
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

# What they say of locations: several servers, files of sockets, hosts without a port. An endpoint
# is none of these.
ABOUT_LOCATIONS = {"test_location_multiple_servers", "test_pylibmc_client_servers"}


def main() -> int:
    from cache import tests  # noqa: PLC0415 - reads the settings when it is imported

    ours = import_string(f"django_replicas.cache.elasticache.{backend}")
    setattr(memcached, THEIRS, ours)
    assert type(caches["default"]) is ours
    theirs = getattr(tests, tested)
    # A client that manages its connections itself, in Django's words for pylibmc.
    theirs.should_disconnect_on_close = False
    runner = DiscoverRunner(verbosity=1, interactive=False)
    names = [
        name for name in runner.test_loader.getTestCaseNames(theirs) if name not in ABOUT_LOCATIONS
    ]
    databases = runner.setup_databases()
    result = runner.run_suite(TestSuite(map(theirs, names)))
    runner.teardown_databases(databases)
    return runner.suite_result(None, result)


if __name__ == "__main__":
    sys.exit(main())
