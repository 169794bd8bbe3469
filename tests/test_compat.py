"""What all packages of older names have in common."""

import json
import pkgutil
import subprocess
import sys

import pytest

from django_replicas import compat

PACKAGES = sorted(module.name for module in pkgutil.iter_modules(compat.__path__))
IMPORT_EACH = """
import json, sys, warnings
from importlib import import_module
from django.apps import apps
from django.conf import settings

told = {}
for name in sys.argv[1:]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            exec(f"import django_replicas.compat.{name}", {})
    told[name] = [
        (str(each.message), each.category.__mro__[1].__name__, each.filename) for each in caught
    ]
    assert not settings.configured and not apps.ready, name
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told():
    """Import each package in a fresh process; return what it warned of."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EACH, *PACKAGES],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("package", PACKAGES)
def test_each_warns_once(told, package):
    """With which release it goes, and who imports it; the settings need not be there yet."""
    ((message, category, filename),) = told[package]
    assert message.startswith(f"django_replicas.compat.{package} goes with django-replicas 2.0.")
    assert category == "DeprecationWarning"
    assert filename == "<string>"
