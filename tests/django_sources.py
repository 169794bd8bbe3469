"""Django's own tests, which its wheel does not have."""

import os
import subprocess
import sys
import tarfile

import django
import pytest

PIP = [sys.executable, "-m", "pip"]
FETCH = ["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary=django"]


def fetch_tests(folder):
    """Fetch the source distribution of the Django that is installed; return its folder of tests."""
    version = django.get_version()
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
    tests = f"django-{version}/tests/"
    with tarfile.open(folder / f"django-{version}.tar.gz") as archive:
        wanted = [each for each in archive if each.name.startswith(tests)]
        archive.extractall(folder, wanted, filter="data")
    return folder / tests
