"""What takes the place of a project's older settings, as text that can be pasted."""

import textwrap
from collections.abc import Iterator, Mapping
from inspect import signature
from typing import Any

from django.utils.module_loading import import_string

from . import DIALECTS, Dialect, multidb, proxysql

WIDTH = 88
COMPAT = "django_replicas.compat."
# It cannot be imported, so that nobody leaves it there.
TO_BE_NAMED = "path.to.Router"
ANSWERS = ("db_for_read", "db_for_write", "allow_relation", "allow_migrate")


def as_python(value: Any, indent: str = "", before: int = 0) -> str:
    """Write a value as it stands in a settings module, broken into lines where it is long."""
    in_one_line = _in_one_line(value)
    if len(indent) + before + len(in_one_line) < WIDTH and not _is_nested(value):
        return in_one_line
    inner = indent + "    "
    if isinstance(value, Mapping):
        opening, closing, items = "{", "}", list(_pairs(value, inner))
    elif isinstance(value, list | tuple):
        opening, closing = _brackets(value)
        items = [as_python(each, inner) for each in value]
    else:
        return in_one_line
    lines = "".join(f"{inner}{item},\n" for item in items)
    return f"{opening}\n{lines}{indent}{closing}"


def _pairs(value: Mapping[Any, Any], inner: str) -> Iterator[str]:
    for key, each in value.items():
        name = _in_one_line(key)
        yield f"{name}: {as_python(each, inner, len(name) + 3)}"


def _is_nested(value: Any) -> bool:
    """Tell whether a value is easier to read in several lines, however short it is."""
    is_longer = isinstance(value, Mapping) and len(value) > 1
    return is_longer and any(isinstance(each, Mapping) for each in value.values())


def as_comment(text: str) -> list[str]:
    """Write a sentence as lines of comment."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent="# ",
        subsequent_indent="#     ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _in_one_line(value: Any) -> str:
    if isinstance(value, Mapping):
        return (
            "{" + ", ".join(f"{_in_one_line(k)}: {_in_one_line(v)}" for k, v in value.items()) + "}"
        )
    if isinstance(value, list | tuple):
        opening, closing = _brackets(value)
        return f"{opening}{', '.join(map(_in_one_line, value))}{closing}"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _brackets(value: list[Any] | tuple[Any, ...]) -> tuple[str, str]:
    if isinstance(value, list):
        return "[", "]"
    return "(", ",)" if len(value) == 1 else ")"


def _quoted(text: str) -> str:
    # A member of an enumeration writes itself in another way.
    written = str.__repr__(text)
    if written.startswith("'") and '"' not in written:
        return f'"{written[1:-1]}"'
    return written


def with_paths(replicas: Mapping[str, Any]) -> Mapping[str, Any]:
    """Name in ``DELEGATE_ROUTERS`` the routers that are objects, which cannot be written down."""
    delegates = replicas.get("DELEGATE_ROUTERS", ())
    if all(isinstance(each, str) for each in delegates):
        return replicas
    paths = [each if isinstance(each, str) else _path_to(each) for each in delegates]
    return {**replicas, "DELEGATE_ROUTERS": [path or TO_BE_NAMED for path in paths]}


def delegates_to_write(replicas: Mapping[str, Any]) -> Iterator[str]:
    """Yield what has to be said of the routers that ``with_paths`` names."""
    for each in replicas.get("DELEGATE_ROUTERS", ()):
        if isinstance(each, str):
            continue
        if path := _path_to(each):
            yield (
                f'DELEGATE_ROUTERS: "{path}" is made without arguments. Write your own object in '
                "its place if that was made with some."
            )
        else:
            yield (
                f'DELEGATE_ROUTERS: write your own object in place of "{TO_BE_NAMED}", or the '
                "dotted path of a class or function that makes it without arguments. It is of the "
                f"class {_full_name(type(each))}."
            )


def _path_to(router: Any) -> str | None:
    """Return the dotted path of a router's class, None unless that makes one like it."""
    kind = type(router)
    if not any(hasattr(kind, each) for each in ANSWERS):
        return None
    try:
        is_there = import_string(_full_name(kind)) is kind
        signature(kind).bind()
    except (ImportError, TypeError):
        return None
    return _full_name(kind) if is_there else None


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def paths_to_change(settings: Any) -> Iterator[tuple[str, str, str]]:
    """Yield each dotted path of an older package, where it stands, and ours in its place."""
    ours = {path: own for dialect in DIALECTS for path, own in dialect.paths.items()}
    for where, path in _dotted_paths(settings):
        if isinstance(path, str) and (own := ours.get(path.removeprefix(COMPAT))) is not None:
            yield where, path, own


def values_to_write(settings: Any) -> Iterator[str]:
    """Yield what has to be written in ``DATABASES`` where a default is another one here."""
    for alias, entry in settings.DATABASES.items():
        if _is_of(proxysql.DIALECT, entry.get("ENGINE")) and "CHECK_INTERVAL" not in entry:
            yield (
                f'DATABASES["{alias}"]: write "CHECK_INTERVAL": 30 to leave a peer alone for as '
                "long as before. Without it that is 10 seconds with the new ENGINE."
            )


def has_router_of_multidb(settings: Any) -> bool:
    """Tell whether a router is named that begins each request afresh, without any middleware."""
    return any(_is_of(multidb.DIALECT, each) for each in settings.DATABASE_ROUTERS)


def _is_of(dialect: Dialect, path: Any) -> bool:
    return isinstance(path, str) and path.removeprefix(COMPAT) in dialect.paths


def _dotted_paths(settings: Any) -> Iterator[tuple[str, Any]]:
    for name in ("DATABASE_ROUTERS", "MIDDLEWARE"):
        for path in getattr(settings, name):
            yield name, path
    yield "SESSION_ENGINE", settings.SESSION_ENGINE
    for name, key in {"DATABASES": "ENGINE", "CACHES": "BACKEND"}.items():
        for alias, entry in getattr(settings, name).items():
            yield f'{name}["{alias}"]["{key}"]', entry.get(key)
