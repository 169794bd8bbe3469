"""How marks travel from one of a user's requests to the next: codec and expiry only."""

import hmac
import math
import re
import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Protocol
from urllib.parse import quote, unquote

from django.core.signals import setting_changed
from django.core.signing import BadSignature, Signer, b64_encode
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.utils.crypto import salted_hmac
from django.utils.encoding import force_bytes
from django.utils.module_loading import import_string

from .conf import get_config
from .exceptions import ReplicasConfigError
from .marks import Mark, Marks
from .positions import position_from
from .topology import ReplicaSet

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

    Whatever is unreadable, forged, expired or about an unknown alias is dropped in silence.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def load(self, request: HttpRequest) -> Marks:
        value = request.COOKIES.get(get_config().cookie.name)
        if value is None or len(value) > LONGEST_COOKIE:
            return {}
        try:
            text = _signer().unsign(value)
        except BadSignature:
            return {}
        return marks_in(text, self._clock())

    def save(self, request: HttpRequest, response: HttpResponseBase, marks: Marks) -> None:
        cookie = get_config().cookie
        now = self._clock()
        text = as_text(marks, now)
        if not text:
            return
        response.set_cookie(
            cookie.name,
            _signer().sign(text),
            path=cookie.path,
            domain=cookie.domain,
            secure=request.is_secure() if cookie.secure is None else cookie.secure,
            httponly=cookie.httponly,
            samesite=cookie.samesite,
        )
        # Django would say it a second time, in a date, for browsers that are gone (RFC 6265, 5.3).
        response.cookies[cookie.name]["max-age"] = math.ceil(last_of(marks)) - int(now)
        if "Vary" in response.headers:
            patch_vary_headers(response, ["Cookie"])
        else:
            response.headers["Vary"] = "Cookie"


def last_of(marks: Marks) -> float:
    """Return the moment after which none of the marks counts, in seconds since the epoch."""
    sets = get_config().topology.by_leader
    return max(_end_of(mark, sets[alias]) for alias, mark in marks.items() if alias in sets)


def _end_of(mark: Mark, replica_set: ReplicaSet) -> float:
    if mark.position is None:
        return mark.deadline
    return max(mark.deadline, _end_of_position(mark, replica_set))


def _end_of_position(mark: Mark, replica_set: ReplicaSet) -> float:
    made = mark.fallback - replica_set.pin_seconds
    return made + replica_set.mark_seconds


def as_text(marks: Marks, now: float) -> str:
    """Write the marks that are not past: ``alias:deadline|alias:deadline:fallback:position``.

    It has no characters that a cookie or a header could not carry as they are; moments are rounded
    up to whole seconds since the epoch.
    """
    return "|".join(
        f"{_quoted(alias)}:{_mark_as_text(mark)}"
        for alias, mark in marks.items()
        if not mark.is_past(now)
    )


def _mark_as_text(mark: Mark) -> str:
    deadline = math.ceil(mark.deadline)
    if mark.position is None:
        return str(deadline)
    return f"{deadline}:{math.ceil(mark.fallback)}:{mark.position}"


def marks_in(text: Any, now: float) -> Marks:
    """Read what ``as_text`` wrote; what is anything else, past or about no leader is left out.

    No deadline is believed to be later than the set's ``PIN_SECONDS`` from now.
    """
    if not isinstance(text, str):
        return {}
    sets = get_config().topology.by_leader
    entries = (entry.split(":", 1) for entry in text.split("|") if ":" in entry)
    read = ((unquote(name), written) for name, written in entries)
    marks = {alias: _mark_in(written, sets[alias], now) for alias, written in read if alias in sets}
    return {alias: mark for alias, mark in marks.items() if not mark.is_past(now)}


def _mark_in(text: str, replica_set: ReplicaSet, now: float) -> Mark:
    match = _WRITTEN_MARK.fullmatch(text)
    if match is None:
        return Mark()
    latest = now + replica_set.pin_seconds
    deadline = min(float(match["deadline"]), latest)
    position = position_from(match["position"] or "")
    if position is None:
        return Mark(deadline)
    mark = Mark(deadline, position, min(float(match["fallback"]), latest))
    return mark if _end_of_position(mark, replica_set) > now else Mark(deadline)


# More digits than time has had seconds, and few enough to be read at once.
_WRITTEN_MARK = re.compile(
    "(?P<deadline>[0-9]{1,12})(:(?P<fallback>[0-9]{1,12}):(?P<position>[^:]+))?"
)
_quoted = cache(partial(quote, safe=""))


class MarkSigner(Signer):
    """Signs just as Django's ``Signer`` does, but derives its key once and not each time."""

    def signature(self, value: str | bytes, key: str | bytes | None = None) -> str:
        signature = _keyed(self.salt, self.key if key is None else key).copy()
        signature.update(force_bytes(value))
        return b64_encode(signature.digest()).decode()


@cache
def _keyed(salt: str, key: str | bytes) -> hmac.HMAC:
    return salted_hmac(f"{salt}signer", b"", key, algorithm="sha256")


@cache
def _signer() -> Signer:
    return MarkSigner(salt="django_replicas.marks")


@cache
def store_named(name: str) -> MarkStore:
    if name == "cookie":
        return CookieStore()
    try:
        store: MarkStore = import_string(name)()
    except (ImportError, TypeError) as error:
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
