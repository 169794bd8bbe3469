"""The request that django-crum knows, for projects without ``ReplicasMiddleware``.

It knows the one of this thread: async views are better off with that middleware.
"""

from collections.abc import Callable
from importlib import import_module

from django.http import HttpRequest

from django_replicas.http import role_of
from django_replicas.stores import get_mark_store
from django_replicas.units import Unit

get_current_request: Callable[[], HttpRequest | None] = import_module("crum").get_current_request


def current_unit() -> Unit | None:
    """Return the unit of work of this thread's request; nobody ends it, and it hands on no mark."""
    request = get_current_request()
    if request is None:
        return None
    held = vars(request)
    unit: Unit = held.get("_replicas_unit") or held.setdefault("_replicas_unit", _unit_of(request))
    return unit


def _unit_of(request: HttpRequest) -> Unit:
    return Unit(lambda: get_mark_store().load(request), role=role_of(request), request=request)
