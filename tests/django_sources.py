"""Django's own tests, which its wheel does not have."""

import fcntl
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import django
import pytest

PIP = [sys.executable, "-m", "pip"]
FETCH = ["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary=django"]


def fetch_tests(folder):
    """Return the folder of the tests of the Django that is installed.

    Its source distribution is fetched once for each folder, whoever asks beside us.
    """
    version = django.get_version()
    tests = folder / version / "tests"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tests.exists():
            with TemporaryDirectory(dir=folder) as fetched:
                _fetch(version, Path(fetched)).rename(folder / version)
    return tests


def _fetch(version, folder):
    fetched = subprocess.run(
        [*PIP, *FETCH, f"--dest={folder}", f"django=={version}"],
        env={name: value for name, value in os.environ.items() if name != "PYTHONDEVMODE"},
        capture_output=True,
        text=True,
        check=False,
    )
    if fetched.returncode:
        if os.environ.get("CI") == "true":
            pytest.fail(fetched.stderr)
        pytest.skip(f"Django's source distribution cannot be fetched: {fetched.stderr[-200:]}")
    source = f"django-{version}"
    with tarfile.open(folder / f"{source}.tar.gz") as archive:
        wanted = [each for each in archive if each.name.startswith(f"{source}/tests/")]
        archive.extractall(folder, wanted, filter="data")
    return folder / source
