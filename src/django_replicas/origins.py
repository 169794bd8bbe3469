"""The unit of the request that work belongs to, however deep inside of it."""

from collections.abc import Callable
from functools import cache

from django.conf import settings
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from .units import Unit


def origin_of(unit: Unit) -> Unit:
    """Return the unit of the request that *unit* works for; itself where there is none."""
    each: Unit | None = unit
    while each is not None:
        if each.request is not None:
            return each
        each = each.outer
    return unit_of_other_middleware() or unit


def unit_of_other_middleware() -> Unit | None:
    """Return a unit of the request that another package's middleware knows, if one does."""
    return _current_unit_elsewhere()()


@cache
def _current_unit_elsewhere() -> Callable[[], Unit | None]:
    if any(path.startswith("crum.") for path in settings.MIDDLEWARE):
        current_unit: Callable[[], Unit | None] = import_string(
            "django_replicas.integrations.crum.current_unit"
        )
        return current_unit
    return lambda: None


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting == "MIDDLEWARE":
        _current_unit_elsewhere.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_replicas.origins")
