"""How marks travel from one of a user's requests to the next."""

import functools
from collections.abc import Callable, Mapping

from django.http import HttpRequest
from django.utils.module_loading import import_string

from django_replicas.clients import has_new_session
from django_replicas.conf import get_config, get_sound_config
from django_replicas.exceptions import ReplicasConfigError
from django_replicas.session_keys import key_that_came

from .cache import CacheStore
from .codec import as_text, marks_in
from .cookie import CookieStore
from .header import HeaderStore
from .protocol import MarkStore
from .signing import MarkSigner, signed

__all__ = [
    "CacheStore",
    "CookieStore",
    "HeaderStore",
    "MarkSigner",
    "MarkStore",
    "as_text",
    "get_mark_store",
    "marks_in",
    "must_move",
    "signed",
    "store_named",
]


STORES: Mapping[str, Callable[[], MarkStore]] = {
    "cache": CacheStore,
    "cookie": CookieStore,
    "header": HeaderStore,
}


@functools.cache
def store_named(name: str) -> MarkStore:
    """Return the one store of that word or dotted path."""
    if name in STORES:
        return STORES[name]()
    try:
        store: MarkStore = import_string(name)()
    except (ImportError, TypeError) as error:
        raise ReplicasConfigError(
            'REPLICAS["MARK_STORE"] must be "cookie", "cache", "header" or the dotted path of a '
            f"class, not {name!r}: {error}."
        ) from error
    return store


def get_mark_store() -> MarkStore:
    """Return the store that ``MARK_STORE`` names, by a word of ours or a class's dotted path."""
    return store_named(get_config().mark_store)


def must_move(request: HttpRequest) -> bool:
    """Tell whether the marks that a request came with are kept for a session that it has left."""
    if get_sound_config().mark_store != "cache":
        return False
    return key_that_came(request) is not None and has_new_session(request)
