"""Who sent a request: what its marks are kept by where a cache keeps them."""

from collections.abc import Callable
from functools import cache

from django.contrib.auth import SESSION_KEY
from django.http import HttpRequest
from django.utils.module_loading import import_string

from .aside import aside
from .conf import get_config
from .exceptions import ReplicasConfigError
from .scopes import on_event_loop
from .session_keys import key_now, key_that_came

ClientKey = Callable[[HttpRequest], str | None]


def client_key(request: HttpRequest) -> str | None:
    """Return what tells the client of a request from others, as ``MARK_KEY`` says; None if nothing.

    As it is at this moment: log-in changes it. It may wait for the session, whose reads, and those
    of a function of the project, go to leaders.
    """
    kind = get_config().mark_key
    with aside():
        key = client_key_named(kind)(request)
    return None if key is None else f"{kind} {key}"


def client_key_that_came(request: HttpRequest) -> str | None:
    """Return the key that the client's former requests left their marks under."""
    kind = get_config().mark_key
    if kind in OF_SESSIONS and key_that_came(request) is None:
        return None
    return f"session {key_that_came(request)}" if kind == "session" else client_key(request)


def can_tell_client(request: HttpRequest) -> bool:
    """Tell whether ``client_key_that_came`` may be asked now.

    Not on an event loop, where it would wait, nor a user's before ``SessionMiddleware`` has run.
    """
    kind = get_config().mark_key
    if kind in OF_SESSIONS and key_that_came(request) is None:
        return True
    return not on_event_loop() and (kind != "user" or hasattr(request, "session"))


def has_new_session(request: HttpRequest) -> bool:
    """Tell whether the client's session is not the one that it came with.

    Whether it will come with the new one nobody knows yet: it is not sent with a server error.
    """
    return key_now(request) != key_that_came(request)


def _user_id(request: HttpRequest) -> str | None:
    session = getattr(request, "session", None)
    if session is None:
        return None
    was_accessed = getattr(session, "accessed", None)
    try:
        user_id: str | None = session.get(SESSION_KEY)
    finally:
        # Else every response would vary by the cookie because of us. Tests of views have dicts.
        if was_accessed is not None:
            session.accessed = was_accessed
    return user_id


OF_SESSIONS: dict[str, ClientKey] = {"session": key_now, "user": _user_id}


@cache
def client_key_named(kind: str) -> ClientKey:
    """Return the function behind a value of ``MARK_KEY``."""
    if kind in OF_SESSIONS:
        return OF_SESSIONS[kind]
    try:
        function: ClientKey = import_string(kind)
        if not callable(function):
            raise TypeError(f"{function!r} is not callable")
    except (ImportError, TypeError) as error:
        raise ReplicasConfigError(
            'REPLICAS["MARK_KEY"] must be "session", "user" or the dotted path of a function, not '
            f"{kind!r}: {error}."
        ) from error
    return function
