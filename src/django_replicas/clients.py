"""Who sent a request: what stays the same from one request of a client to the next."""

from django.http import HttpRequest

from .session_keys import key_that_came


def client_key(request: HttpRequest) -> str | None:
    """Return what tells the client of a request from others; None if nothing does."""
    key = key_that_came(request)
    return None if key is None else f"session {key}"
