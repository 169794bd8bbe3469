"""Which role ``VIEW_OVERRIDES`` gives to a view."""

import pkgutil
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from types import FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

from django.http import HttpRequest
from django.urls import ResolverMatch

from .conf import get_config
from .scopes import current_unit
from .units import Role

Pairs = tuple[tuple[str, str], ...]


def apply_override(request: HttpRequest) -> None:
    """Give the unit of work the role that is configured for the view of a resolved request."""
    pairs = get_config().view_overrides
    if not pairs:
        return
    match, unit = request.resolver_match, current_unit()
    if match is None or unit is None:
        return
    role = overrides_of(pairs).role_of(match, request.path_info)
    if role is not None:
        unit.role = role


class Overrides:
    """The roles of views by URL name, by import path, or by path; shared by threads.

    The name counts first, then the import path. Patterns of paths are tried in their order.
    Nothing is ever written to a view. What import paths say of one is remembered while it lives.
    """

    def __init__(self, pairs: Pairs) -> None:
        roles = {name: Role(role) for name, role in pairs}
        self._roles = {name: role for name, role in roles.items() if not is_pattern(name)}
        self._patterns = {name: role for name, role in roles.items() if is_pattern(name)}
        self._imported: list[tuple[Any, Role]] | None = None
        self._by_path: WeakKeyDictionary[Any, Role | None] = WeakKeyDictionary()

    def role_of(self, match: ResolverMatch, path: str = "") -> Role | None:
        for name in _url_names(match):
            if name in self._roles:
                return self._roles[name]
        return self._remembered(match.func) or self._role_by_pattern(path)

    def _role_by_pattern(self, path: str) -> Role | None:
        found = (role for pattern, role in self._patterns.items() if fnmatchcase(path, pattern))
        return next(found, None)

    def _remembered(self, view: Any) -> Role | None:
        try:
            return self._by_path[view]
        except KeyError:
            role = self._by_path[view] = self._role_by_path(view)
            return role
        except TypeError:  # without a hash, or without room for a weak reference
            return self._role_by_path(view)

    def _role_by_path(self, view: Any) -> Role | None:
        layers = list(_layers(view))
        for path in (path for layer in layers for path in _paths(layer)):
            if path in self._roles:
                return self._roles[path]
        if self._imported is None:
            self._imported = list(self._import_all())
        for thing, role in self._imported:
            if any(_is_same(layer, thing) for layer in layers):
                return role
        return None

    def _import_all(self) -> Iterator[tuple[Any, Role]]:
        for name, role in self._roles.items():
            if "." in name and all(part.isidentifier() for part in name.split(".")):
                try:
                    yield pkgutil.resolve_name(name), role
                except (ImportError, AttributeError):
                    continue  # a URL name with a dot in it


def is_pattern(name: str) -> bool:
    """Tell whether a key of ``VIEW_OVERRIDES`` is a pattern of paths, and no view's name."""
    return name.startswith(("/", "*"))


overrides_of = lru_cache(maxsize=1)(Overrides)


def names_of(match: ResolverMatch) -> Iterator[str]:
    """Yield what ``VIEW_OVERRIDES`` may call a view, aliases for the same object aside."""
    yield from _url_names(match)
    for layer in _layers(match.func):
        yield from _paths(layer)


def _url_names(match: ResolverMatch) -> Iterator[str]:
    if match.url_name:
        yield ":".join([*match.namespaces, match.url_name])
        yield ":".join([*match.app_names, match.url_name])
        yield match.url_name


def _layers(view: Any) -> Iterator[Any]:
    """Yield a view and what it was made of: its class, and what decorators and partials hold."""
    while view is not None:
        yield view
        if isinstance(view, FunctionType):
            yield getattr(view, "view_class", None)
        elif not isinstance(view, (type, MethodType)):
            yield type(view)
        view = view.func if isinstance(view, partial) else getattr(view, "__wrapped__", None)


def _paths(layer: Any) -> Iterator[str]:
    """Yield the import paths that a layer goes by: its own, and those that its names spell."""
    if isinstance(layer, MethodType):
        owner = layer.__self__ if isinstance(layer.__self__, type) else type(layer.__self__)
        yield f"{owner.__module__}.{owner.__qualname__}.{layer.__name__}"
    module = getattr(layer, "__module__", None)
    yield f"{module}.{getattr(layer, '__qualname__', None)}"
    # Some decorators copy a function's name and module and nothing else. What as_view() returns is
    # called "view" whatever its class is; that class is a layer of its own.
    if not hasattr(layer, "view_class"):
        yield f"{module}.{getattr(layer, '__name__', None)}"


def _is_same(layer: Any, thing: Any) -> bool:
    # Each look at a bound method makes another object, equal to the last.
    return layer is thing or (isinstance(layer, MethodType) and layer == thing)
