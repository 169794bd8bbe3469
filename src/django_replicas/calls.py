"""Marks that travel with a request to another service, which reads the same databases."""

from .conf import get_config
from .jobs import marks_to_send
from .stores import signed


def headers_to_send() -> dict[str, str]:
    """Return the header with what the called service must see; empty where there is nothing.

    For a service with ``MARK_STORE: "header"``, the same ``MARK_HEADER`` and a ``SECRET_KEY`` or
    ``SECRET_KEY_FALLBACKS`` in common. Asks each leader that this unit wrote for its position, and
    so waits for it; on an event loop the marks are deadlines.
    """
    marks = marks_to_send()
    return {get_config().mark_header: signed(marks)} if marks else {}
