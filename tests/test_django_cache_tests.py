"""Django's own tests of its memcached backends, on ours: both protocols, both libraries."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from servers.configuration_endpoint import ConfigurationEndpoint
from servers.memcached import Memcached

PROGRAM = Path(__file__).with_name("django_cache_tests.py")
SUITES = {
    "binary": ("ElastiCache", "PyLibMCCacheTests", {}),
    "text": ("ElastiCache", "PyLibMCCacheTests", {"binary": False}),
    "pymemcache": ("PyMemcacheElastiCache", "PyMemcacheCacheTests", {}),
}


@pytest.fixture(scope="module")
def suites(djangos_tests):
    """All of them at once: they sleep most of their time, each on nodes of its own."""
    with ExitStack() as undo:
        running = {}
        for name, (backend, tested, options) in SUITES.items():
            clusters = [undo.enter_context(ConfigurationEndpoint()) for _ in range(2)]
            for cluster in clusters:
                cluster.name([undo.enter_context(Memcached()).location for _ in range(2)])
            locations = [cluster.location for cluster in clusters]
            told = [str(djangos_tests), backend, tested, json.dumps(options), *locations]
            running[name] = undo.enter_context(
                subprocess.Popen(
                    [sys.executable, "-W", "error::ResourceWarning", str(PROGRAM), *told],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    env={k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"},
                )
            )
            undo.callback(running[name].kill)
        yield running


@pytest.mark.parametrize("name", SUITES)
def test_djangos_own_tests(suites, name):
    """All of them pass, but for those that Django skips for this client."""
    said, _ = suites[name].communicate(timeout=120)
    assert suites[name].returncode == 0, said
    assert "\nOK (skipped=3)\n" in said
    assert "\nOK\n" in said  # The one that sleeps.
