"""What all packages of older names have in common."""

import json
import pkgutil
import subprocess
import sys

import pytest

from django_replicas import compat
from django_replicas.compat.django_distributed.router.cached_session_router import (
    CachedRouter,
    SessionCachedRouter,
)
from django_replicas.compat.django_distributed.router.distributed_router import DistributedRouter
from django_replicas.compat.django_replicated.middleware import (
    ReadOnlyMiddleware,
    ReplicationMiddleware,
)
from django_replicas.compat.django_replicated.router import ReplicationRouter
from django_replicas.compat.multidb.middleware import PinningRouterMiddleware
from django_replicas.compat.pindb.middleware import PinDbMiddleware

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


HALVES = ["process_request", "process_response"]
MIDDLEWARES = [
    ReadOnlyMiddleware,
    ReplicationMiddleware,
    PinningRouterMiddleware,
    PinDbMiddleware,
]


@pytest.mark.parametrize(
    ("base", "name", "remedy"),
    [
        *((base, name, "a middleware of your own") for base in MIDDLEWARES for name in HALVES),
        (ReadOnlyMiddleware, "is_service_read_only", "a middleware of your own"),
        (ReplicationMiddleware, "check_state_override", "REPLICATED_VIEWS_OVERRIDES"),
        (ReplicationMiddleware, "get_state_override", "REPLICATED_VIEWS_OVERRIDES"),
        (ReplicationMiddleware, "is_override_matched", "REPLICATED_VIEWS_OVERRIDES"),
        (ReplicationMiddleware, "set_force_master_cookie", "django_replicas.pin()"),
        (ReplicationMiddleware, "handle_redirect_after_write", "django_replicas.pin()"),
        (ReplicationMiddleware, "set_non_atomic_dbs", "atomic_in_leader_role"),
        (ReplicationRouter, "is_alive", "passed over by itself"),
        (ReplicationRouter, "SLAVES", "read from the settings"),
        (ReplicationRouter, "all_allowed_aliases", "read from the settings"),
        (DistributedRouter, "follower_db", "BALANCE"),
        (CachedRouter, "follower_db", "BALANCE"),
        (CachedRouter, "update_cache", "Give it another name"),
        (SessionCachedRouter, "update_cache", "Give it another name"),
    ],
)
def test_what_is_not_called_any_more_is_not_overridden(base, name, remedy):
    """Else it would be passed over in silence, and nobody would miss it before production."""

    def hook(self, *args):
        pass

    with pytest.raises(TypeError) as raised:
        type("Own", (base,), {name: hook})
    assert str(raised.value).startswith(f"Own.{name} is not asked by django-replicas, as it was")
    assert remedy in str(raised.value)
    mixin = type("Mixin", (), {name: hook})
    with pytest.raises(TypeError, match=f"Both.{name} is not asked"):
        type("Both", (mixin, base), {})


@pytest.mark.parametrize("base", [*MIDDLEWARES, ReplicationRouter, DistributedRouter, CachedRouter])
def test_what_is_called_still_may_be_overridden(base):
    """A subclass of one's own is nothing wrong."""
    own = type("Own", (base,), {"__call__": None, "get_cache_key": None, "process_view": None})
    assert issubclass(type("OwnOfThat", (own,), {}), base)
