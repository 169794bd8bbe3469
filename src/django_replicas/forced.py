"""The role that a request's own header asks for, where ``FORCE_HEADER`` names one."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest

from .conf import ROLE_NAMES, get_config
from .decorators import use_follower, use_leader

DECORATORS = {"leader": use_leader, "follower": use_follower}

GetResponse = Callable[[HttpRequest], Any]


def as_asked_for(request: HttpRequest, get_response: GetResponse) -> GetResponse:
    """Return *get_response*, in the role that the request asks for if it may and does.

    As with the decorators, the unit's pins, writes and marks count no less, and the unit's own
    role stays what it is: no header decides whether there is a transaction.
    """
    header = get_config().force_header
    if header is None:
        return get_response
    role = ROLE_NAMES.get(request.headers.get(header, "").lower())
    # Decorated, a body or a template that is made after the response keeps to the role too.
    return get_response if role is None else DECORATORS[role](get_response)
