"""Which models show what is written to a table."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING

from django.apps import apps
from django.core.cache import caches
from django.core.cache.backends.db import BaseDatabaseCache
from django.core.signals import setting_changed

if TYPE_CHECKING:
    from django.db.models import Model

Models = frozenset["type[Model]"]


def models_showing(tables: frozenset[str] | None) -> Models:
    """Return the models whose own queries read one of the tables.

    Children of multi-table inheritance show their parents' tables, both ends of a many-to-many
    relation the table between them. A table that belongs to no model, and None, may be shown by
    any.
    """
    readers = _readers()
    if tables is None or not tables <= readers.keys():
        return frozenset[type["Model"]]().union(*readers.values())
    return frozenset[type["Model"]]().union(*(readers[table] for table in tables))


@cache
def _readers() -> Mapping[str, Models]:
    readers: defaultdict[str, set[type[Model]]] = defaultdict(set)
    for model, table in [*_tables_of_models(), *_tables_of_caches()]:
        readers[table].add(model)
    return {table: frozenset(models) for table, models in readers.items()}


def tables_of(model: "type[Model]") -> frozenset[str]:
    """Return the tables that hold the model's own fields."""
    # A cache in the database shows routers something in place of a model that has no parents.
    parents: Callable[[], list[type[Model]]] = getattr(model._meta, "get_parent_list", list)
    return frozenset(each._meta.db_table for each in (model, *parents()))


def _tables_of_models() -> Iterator[tuple["type[Model]", str]]:
    for model in apps.get_models(include_auto_created=True):
        for table in tables_of(model):
            yield model, table
        for relation in model._meta.many_to_many:
            yield model, relation.m2m_db_table()
            yield relation.related_model, relation.m2m_db_table()


def _tables_of_caches() -> Iterator[tuple["type[Model]", str]]:
    for alias in caches:
        cache = caches[alias]
        if isinstance(cache, BaseDatabaseCache):
            # What it shows to routers in place of a model, one for each instance of the cache.
            entry = cache.cache_model_class
            yield entry, entry._meta.db_table


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting in {"CACHES", "INSTALLED_APPS"}:
        _readers.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_replicas.readers")
