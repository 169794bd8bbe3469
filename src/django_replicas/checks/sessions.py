"""Is the cache that sessions are put into first fit for it."""

from importlib import import_module
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, register

from django_replicas.sessions.write_behind import SessionStore

from .messages import error, warning
from .settings import UNSHARED

# Their `add` looks first and then puts: two processes may both be told that they were first.
NOT_ATOMIC = (
    "django.core.cache.backends.filebased.",
    "django.core.cache.backends.db.",
)


@register
def check_sessions(**kwargs: Any) -> list[CheckMessage]:
    """Report a cache that other processes do not see, or that cannot decide who was first."""
    if not _is_ours():
        return []
    name = settings.SESSION_CACHE_ALIAS
    if name not in settings.CACHES:
        return [
            error(
                "E030",
                f"SESSION_CACHE_ALIAS names {name!r}, which is not in CACHES.",
                "Add it to CACHES, or name one that is there.",
            )
        ]
    backend = settings.CACHES[name].get("BACKEND", "")
    if backend.startswith(UNSHARED):
        return [
            warning(
                "W031",
                f"Sessions are put into the cache {name!r} first, which other processes do not "
                "see: they do not know who has logged in, or out.",
                "Name a cache that all processes share in SESSION_CACHE_ALIAS.",
            )
        ]
    if backend.startswith(NOT_ATOMIC):
        return [
            warning(
                "W032",
                f"Sessions are put into the cache {name!r} first, which is slow, or far away, and "
                "cannot decide which of two processes made a session.",
                "Name one in memcached or Redis in SESSION_CACHE_ALIAS.",
            )
        ]
    return []


def _is_ours() -> bool:
    try:
        store = import_module(settings.SESSION_ENGINE).SessionStore
    except (ImportError, RuntimeError, AttributeError):  # Django's own affair.
        return False
    return isinstance(store, type) and issubclass(store, SessionStore)
