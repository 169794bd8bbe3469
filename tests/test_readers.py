"""Which models show what is written to a table."""

from django.core.cache import caches
from django.db import models
from django.test.utils import isolate_apps

from django_replicas.readers import models_showing, tables_of

from .shop.models import Book, Label, Remark, Shelf

TABLE = "shared_cache"
DATABASE_CACHE = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "database": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": TABLE},
}


def tables_showing(*tables):
    """Name models by their own tables: other tests have proxies of some."""
    return {model._meta.db_table for model in models_showing(frozenset(tables))}


def test_a_table_is_shown_by_its_model():
    """What is written to shelves is not seen in remarks."""
    assert tables_showing("shop_shelf") == {"shop_shelf"}
    assert tables_showing("shop_shelf", "shop_remark") == {"shop_shelf", "shop_remark"}
    assert tables_showing() == set()


def test_the_table_between_is_shown_by_both_ends():
    """A label that was put on a book is missed by `book.labels` and `label.books`."""
    assert tables_showing("shop_book_labels") == {"shop_book", "shop_label", "shop_book_labels"}


def test_what_is_not_known_may_be_shown_by_any():
    """A table of no model may be behind a view, and None is any table."""
    everything = models_showing(None)
    assert {Book, Label, Remark, Shelf, Book.labels.through} <= everything
    assert models_showing(frozenset({"shop_shelf", "audit"})) == everything


def test_the_table_of_a_cache_is_shown_by_the_cache(settings):
    """Caching in the database is not a write to every model."""
    everything = models_showing(None)
    settings.CACHES = DATABASE_CACHE
    (entry,) = models_showing(frozenset({TABLE}))
    assert entry._meta.db_table == TABLE
    assert models_showing(None) == everything | {entry}
    assert tables_of(caches["database"].cache_model_class) == {TABLE}


@isolate_apps("tests.shop")
def test_a_child_has_the_tables_of_its_parents():
    """Multi-table inheritance reads and writes all of them."""

    class Atlas(Book):
        maps = models.IntegerField()

        class Meta:
            app_label = "shop"

    assert tables_of(Atlas) == {"shop_atlas", "shop_book"}
