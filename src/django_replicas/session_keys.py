"""Which session a request belongs to, by its key."""

from django.conf import settings
from django.http import HttpRequest


def key_that_came(request: HttpRequest) -> str | None:
    """Return the session key that the client sent; nobody has looked whether there is one."""
    return request.COOKIES.get(settings.SESSION_COOKIE_NAME)


def key_now(request: HttpRequest) -> str | None:
    """Return the key of the request's session, as it is at this moment.

    That is what the client sent while ``SessionMiddleware`` has not run. A new session has a key
    when it is saved, and log-in changes it. A dict in its place, as tests of views put it there,
    has none.
    """
    session = getattr(request, "session", None)
    return key_that_came(request) if session is None else getattr(session, "session_key", None)
