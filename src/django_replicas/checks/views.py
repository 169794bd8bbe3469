"""Does each name in ``VIEW_OVERRIDES`` name a view."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Tags, register
from django.urls import ResolverMatch, URLPattern, URLResolver, get_resolver

from django_replicas.overrides import Overrides, is_pattern, names_of

from .members import config_in_force
from .messages import warning


@register(Tags.urls)
def check_views(**kwargs: Any) -> list[CheckMessage]:
    """Report each name in ``VIEW_OVERRIDES`` that no view of the URLconf has."""
    config = config_in_force()
    if config is None or not config.view_overrides or not getattr(settings, "ROOT_URLCONF", None):
        return []
    try:
        views = list(_views_in(get_resolver()))
    except Exception:  # Whatever is wrong with a URLconf, Django's own checks say it.
        return []
    names = [name for name, _ in config.view_overrides if not is_pattern(name)]
    return [each for name in names for each in _unknown(name, views)]


def _views_in(
    resolver: URLResolver, namespaces: Sequence[str] = (), app_names: Sequence[str] = ()
) -> Iterator[ResolverMatch]:
    """Yield what each URL below *resolver* would be resolved to."""
    namespaces = [*namespaces, *filter(None, [resolver.namespace])]
    app_names = [*app_names, *filter(None, [resolver.app_name])]
    for each in resolver.url_patterns:
        if isinstance(each, URLPattern):
            yield ResolverMatch(each.callback, (), {}, each.name, [*app_names], [*namespaces])
        else:
            yield from _views_in(each, namespaces, app_names)


def _unknown(name: str, views: list[ResolverMatch]) -> Iterator[CheckMessage]:
    overrides = Overrides(((name, "leader"),))
    try:
        if any(map(overrides.role_of, views)):
            return
        mistake = (
            f"which no view of {settings.ROOT_URLCONF} is called, neither by URL name nor by "
            "import path: it does nothing."
        )
    except Exception as error:  # What a module raises when it is imported.
        mistake = f"whose module cannot be imported: {error!r}."
    known = [each for view in views for each in names_of(view)]
    similar = get_close_matches(name, known, n=1)
    yield warning(
        "W016",
        f'REPLICAS["VIEW_OVERRIDES"] names {name!r}, {mistake}',
        f"Did you mean {similar[0]!r}?" if similar else "Correct it, or remove it.",
    )
