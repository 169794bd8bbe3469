"""How marks travel from one of a user's requests to the next: codec and expiry only."""

import math
import time
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

from django.core.signals import setting_changed
from django.core.signing import BadSignature, Signer
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.utils.module_loading import import_string

from .conf import get_config
from .exceptions import ReplicasConfigError
from .marks import Mark, Marks

LONGEST_COOKIE = 4096


class MarkStore(Protocol):
    """Keeps a user's marks between requests. ``MARK_STORE`` names one by its dotted path.

    One instance serves all threads. ``load`` never raises for anything a client may send; ``save``
    is called only for requests that wrote.
    """

    def load(self, request: HttpRequest) -> Marks: ...

    def save(self, request: HttpRequest, response: HttpResponseBase, marks: Marks) -> None: ...


class CookieStore:
    """Keeps marks in a signed cookie.

    Whatever is unreadable, forged, expired or about an unknown alias is dropped in silence. A mark
    is never believed to last longer than the set's ``PIN_SECONDS``.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def load(self, request: HttpRequest) -> Marks:
        value = request.COOKIES.get(get_config().cookie.name)
        if value is None or len(value) > LONGEST_COOKIE:
            return {}
        try:
            deadlines = _signer().unsign_object(value)
        except (BadSignature, ValueError, RecursionError, zlib.error):
            return {}
        return believed(deadlines, self._clock())

    def save(self, request: HttpRequest, response: HttpResponseBase, marks: Marks) -> None:
        cookie = get_config().cookie
        now = self._clock()
        deadlines = {
            alias: math.ceil(mark.deadline)
            for alias, mark in marks.items()
            if not mark.is_past(now)
        }
        if not deadlines:
            return
        response.set_cookie(
            cookie.name,
            _signer().sign_object(deadlines),
            max_age=max(deadlines.values()) - int(now),
            path=cookie.path,
            domain=cookie.domain,
            secure=request.is_secure() if cookie.secure is None else cookie.secure,
            httponly=cookie.httponly,
            samesite=cookie.samesite,
        )
        patch_vary_headers(response, ["Cookie"])


def believed(deadlines: Any, now: float) -> Marks:
    """Return the marks in what came from outside, a dict from aliases to deadlines.

    What is anything else, is past or names an unknown alias is dropped in silence.
    """
    if not isinstance(deadlines, dict):
        return {}
    sets = get_config().topology.by_leader
    return {
        alias: Mark(float(min(deadline, now + sets[alias].pin_seconds)))
        for alias, deadline in deadlines.items()
        if alias in sets and type(deadline) in (int, float) and deadline > now
    }


@cache
def _signer() -> Signer:
    return Signer(salt="django_replicas.marks")


@cache
def store_named(name: str) -> MarkStore:
    if name == "cookie":
        return CookieStore()
    try:
        store: MarkStore = import_string(name)()
    except ImportError as error:
        raise ReplicasConfigError(
            f'REPLICAS["MARK_STORE"] must be "cookie" or the dotted path of a class, not {name!r}: '
            f"{error}."
        ) from error
    return store


def get_mark_store() -> MarkStore:
    """Return the store that ``MARK_STORE`` names: "cookie", or a class by its dotted path."""
    return store_named(get_config().mark_store)


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting in {"SECRET_KEY", "SECRET_KEY_FALLBACKS"}:
        _signer.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_replicas.stores")
