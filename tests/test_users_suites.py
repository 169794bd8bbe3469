"""A sample project's ordinary suite, unchanged, under each router and each way to run it.

Then once more with shared followers, whose answers are counted.
"""

import os
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

import django_replicas

SAMPLE = Path(__file__).parent / "sample"
ROUTERS = [
    "LeaderFollowerRouter",
    "StrictPinRouter",
    "GreedyPinRouter",
    "SessionPinnedRouter",
]
PLUGINS = ["pytest_django.plugin", "django_replicas.pytest_plugin"]
WAYS = {
    "manage.py": ["manage.py", "test"],
    "parallel": ["manage.py", "test", "--parallel", "2"],
    "pytest": ["-m", "pytest", "-p", "no:cacheprovider", *(f"-p{name}" for name in PLUGINS)],
}
ORDINARY = {
    "manage.py": ["library.tests"],
    "parallel": ["library.tests"],
    "pytest": ["library/tests.py"],
}
SHARED = {
    "manage.py": ["library.shared_tests"],
    "parallel": ["library.shared_tests"],
    "pytest": ["library/shared_tests.py", "library/fixture_tests.py"],
}


def run(arguments, **environment):
    """Run Python in the sample project, and return all that it says."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("DJANGO_", "PYTEST_", "COV"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=SAMPLE,
        env={
            **own,
            "PYTHONPATH": str(Path(django_replicas.__file__).parent.parent),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("way", WAYS)
def test_an_ordinary_suite_passes_unchanged_and_shared(router, way, tmp_path):
    """Nobody touches a ``TestCase`` to put a router in place, nor to have followers read.

    Both suites run in one process, so that neither leaves anything to the other.
    """
    counts = tmp_path / "counts"
    said = run(
        [*WAYS[way], *ORDINARY[way], *SHARED[way]],
        SAMPLE_ROUTER=router,
        SAMPLE_FOLDER=str(tmp_path),
        SAMPLE_COUNTS=str(counts),
    )
    assert ("59 passed" if way == "pytest" else "Ran 55 tests") in said, said
    read = Counter(counts.read_text().split())
    assert read["replica1"] + read["replica2"] >= 10, read
    assert set(read) <= {"default", "replica1", "replica2"}


def test_an_ordinary_suite_passes_with_sessions_behind_the_cache(tmp_path):
    """Logging in, the admin and messages, without a lock, a leak or a wait for a thread."""
    said = run(
        [*WAYS["manage.py"], *ORDINARY["manage.py"]],
        SAMPLE_FOLDER=str(tmp_path),
        SAMPLE_SESSION_ENGINE="django_replicas.sessions.write_behind",
    )
    assert "OK" in said, said


def test_the_suite_fails_where_reads_do_not_follow_the_test(tmp_path):
    """The suite is no pushover: a router that always reads a follower does not get through."""
    with pytest.raises(AssertionError, match="FAILED"):
        run(
            [*WAYS["manage.py"], *ORDINARY["manage.py"]],
            SAMPLE_ROUTER="sample_site.naive.FirstFollower",
            SAMPLE_FOLDER=str(tmp_path),
        )


def test_the_plugin_is_announced():
    """pytest finds the fixtures by itself where the package is installed."""
    project = tomllib.loads((SAMPLE.parent.parent / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {
        "django_replicas": "django_replicas.pytest_plugin"
    }


TOUCHES_NO_SETTINGS = """
import django_replicas.pytest_plugin
from django.apps import apps
from django.conf import settings

assert not settings.configured
assert not apps.app_configs
"""


def test_importing_the_plugin_touches_no_settings():
    """A project's pytest loads it before there are settings, or where Django is not used."""
    run(["-c", TOUCHES_NO_SETTINGS])
