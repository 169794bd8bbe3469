"""Django's own tests of its session engines pass on ours."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from servers.memcached import Memcached
from servers.postgres import Cluster

ROOT = Path(__file__).parent.parent


def run_djangos_tests(sources, databases, caches):
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.django_sessions.settings",
        "DJANGO_REPLICAS_TEST_SITE": json.dumps({"DATABASES": databases, "CACHES": caches}),
        "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(sources), str(ROOT)]),
    }
    command = [sys.executable, "-m", "django", "test", "tests.django_sessions", "--noinput"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    ran = re.search(r"^Ran (\d+) tests", done.stderr, re.MULTILINE)
    assert done.returncode == 0, done.stderr
    return int(ran[1])


def test_they_pass_on_sqlite(djangos_tests, tmp_path):
    """In a file, with a cache in memory."""
    file = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "sqlite")}
    file["TEST"] = {"NAME": str(tmp_path / "test_sqlite")}
    caches = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    assert run_djangos_tests(djangos_tests, {"default": file}, caches) > 300


def test_they_pass_on_postgresql_and_memcached(djangos_tests):
    """On real servers, where threads write and rows are locked."""
    with Cluster(standbys=0) as cluster, Memcached() as memcached:
        backend = "django.core.cache.backends.memcached.PyMemcacheCache"
        caches = {"default": {"BACKEND": backend, "LOCATION": memcached.location}}
        databases = {"default": cluster.leader.django_database()}
        assert run_djangos_tests(djangos_tests, databases, caches) > 300
