"""What the settings of older packages mean, said as ``REPLICAS`` says it.

Each module here knows the settings of one package, and of ours only the keys of ``REPLICAS``: its
``DIALECT`` is one of ``DIALECTS`` below. ``conf`` asks ``spoken_in`` which of them a project
speaks and reads what ``translated`` makes of its settings as if it were ``REPLICAS``; there the
values are judged, and what is wrong is told under the name that the project gave it. ``pasting``
prints the same for people.

A dialect without settings of its own (``proxysql``, ``django_elasticache``) has ``paths`` only: a
dotted path of the older package, and ours for it.
"""

from collections.abc import Collection
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from . import django_distributed, django_elasticache, django_replicated, multidb, pindb, proxysql
from .translation import Dialect, Place, Translation

__all__ = [
    "DIALECTS",
    "KEYS",
    "Dialect",
    "Place",
    "Translation",
    "spoken_in",
    "translated",
    "words_of",
]

DIALECTS = tuple(
    module.DIALECT
    for module in (
        django_replicated,
        pindb,
        django_distributed,
        multidb,
        proxysql,
        django_elasticache,
    )
)
MANY = 3
# Every setting that some dialect reads.
KEYS = frozenset[str]().union(*(each.own | each.shared for each in DIALECTS))


def spoken_in(settings: Any) -> tuple[Dialect, ...]:
    """Return the dialects that the settings are written in.

    A setting that two packages have tells nothing where one of them is spoken anyway. Alone,
    ``REPLICA_DATABASES`` is django-multidb-router's: django-distributed needs ``LEADER_DATABASE``.
    ``REPLICATION_LAG`` alone may be anybody's.
    """
    names = _names_in(settings)
    spoken = [each for each in DIALECTS if each.own & names]
    known = frozenset[str]().union(*(each.own | each.shared for each in spoken))
    if multidb.DIALECT.shared & names - known:
        spoken.append(multidb.DIALECT)
    return tuple(spoken)


def translated(dialect: Dialect, settings: Any) -> Translation:
    """Say the settings of one dialect as ``REPLICAS``, mistaken names among the problems."""
    keys = dialect.own | dialect.shared
    names = _names_in(settings)
    translation = dialect.translate({name: getattr(settings, name) for name in names & keys})
    mistaken = [
        each for each in sorted(names - keys) if dialect.prefix and each.startswith(dialect.prefix)
    ]
    problems = tuple(_unknown(name, keys) for name in mistaken)
    return replace(translation, problems=(*problems, *translation.problems))


def words_of(dialect: Dialect, settings: Any) -> str:
    """Name the package, and its settings that are there; many with its prefix in one."""
    names = sorted((dialect.own | dialect.shared) & _names_in(settings))
    alike = [name for name in names if dialect.prefix and name.startswith(dialect.prefix)]
    if len(alike) > MANY:
        names = [*sorted(set(names) - set(alike)), f"{dialect.prefix}*"]
    return f"{dialect.package} ({', '.join(names)})"


def _names_in(settings: Any) -> frozenset[str]:
    return frozenset(filter(str.isupper, dir(settings)))


def _unknown(name: str, keys: Collection[str]) -> str:
    similar = get_close_matches(name, keys, n=1)
    remedy = f"Did you mean {similar[0]}?" if similar else "Remove it, or correct its name."
    return f"{name} is not a setting. {remedy}"
