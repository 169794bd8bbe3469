"""Django's own tests of its database backends, over SQLite through the engine with peers."""

import os
import subprocess
import sys
from pathlib import Path

SETTINGS = """
def file(name):
    return {{"ENGINE": "django.db.backends.sqlite3", "NAME": {folder!r} + "/" + name}}

def over(*peers):
    return {{"ENGINE": "django_replicas.backends.balanced", "PEERS": list(peers)}}

DATABASES = {{
    "default": over("one", "two"),
    "other": over("three", "four"),
    **{{name: file(name) for name in ("one", "two", "three", "four")}},
}}
SECRET_KEY = "not a secret"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
"""


def test_djangos_own_tests(djangos_tests, tmp_path):
    """All of them pass, without an exception, but for those that Django skips on SQLite."""
    (tmp_path / "balanced_sqlite.py").write_text(SETTINGS.format(folder=str(tmp_path)))
    inherited = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    # Absolute, because the tests run elsewhere.
    path = [str(tmp_path), *(str(Path(each).resolve()) for each in inherited)]
    environment = {name: os.environ[name] for name in os.environ if name[:7] != "DJANGO_"}
    done = subprocess.run(
        [sys.executable, "runtests.py", "backends", "--settings=balanced_sqlite", "--parallel=1"],
        cwd=djangos_tests,
        env={**environment, "PYTHONPATH": os.pathsep.join(path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    assert "\nOK (skipped=" in done.stdout
    assert "Found 3" in done.stdout  # Hundreds, not none.
