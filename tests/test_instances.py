"""Objects that were read from a follower, on their way back to the leader."""

import logging

import pytest
from django.db.models.signals import pre_save

from django_replicas import leader, unit_of_work
from django_replicas.conf import get_config
from django_replicas.exceptions import StaleSaveError
from django_replicas.instances import AdoptedAlias, adopt
from tests.shop.models import Book, Shelf

FOLLOWERS = ("replica1", "replica2")


def row(alias):
    """Return a book as it stands in one database."""
    return Book.objects.using(alias).values_list("title", "note").get(pk=1)


@pytest.fixture
def unit():
    with unit_of_work() as unit:
        yield unit


# Adoption


def test_a_partly_read_object_writes_no_stale_values(unit):
    """What was not read from the follower is not written to the leader."""
    book = Book.objects.only("title").get(pk=1)
    assert book.title in FOLLOWERS
    book.title = "new"
    book.save()
    assert row("default") == ("new", "default")


def test_a_deferring_object_writes_no_stale_values(unit):
    """The same for ``defer()``, whose field may also be read first."""
    book = Book.objects.defer("note").get(pk=1)
    book.title = "new"
    book.save()
    assert book.note == "default"
    assert row("default") == ("new", "default")


def test_an_object_from_a_follower_is_saved_to_the_leader(unit):
    """Follower rows stay what they were, and the object lives on the leader afterwards."""
    book = Book.objects.get(pk=1)
    follower = book._state.db
    book.title = "new"
    book.save()
    assert row("default")[0] == "new"
    assert row(follower) == (follower, follower)
    assert book._state.db == "default"
    assert type(book._state.db) is str


def test_an_object_from_a_follower_is_deleted_on_the_leader(unit):
    """A deletion goes where writes go, not where the object came from."""
    book = Book.objects.get(pk=1)
    follower = book._state.db
    assert follower in FOLLOWERS
    book.delete()
    assert not Book.objects.using("default").filter(pk=1).exists()
    assert Book.objects.using(follower).filter(pk=1).exists()


def test_an_object_of_another_set_is_adopted_by_its_own_leader(unit):
    """Adoption stays inside the set."""
    book = Book.objects.using("other-0").only("title").get(pk=1)
    book.title = "new"
    book.save()
    assert row("other") == ("new", "other")
    assert row("default") == ("default", "default")


def test_only_the_object_that_is_written_is_adopted(unit):
    """An object that a write merely refers to stays the follower's."""
    shelf = Shelf.objects.get(pk=1)
    follower = shelf._state.db
    assert follower in FOLLOWERS
    Book(shelf=shelf)
    shelf.books.create(title="new")
    assert shelf._state.db == follower


@pytest.mark.parametrize("alias", [None, "default", "lonely", "other-0"])
def test_an_object_that_no_follower_of_the_set_gave_is_left_alone(alias):
    """New objects, the leader's own, and those of other databases are not adopted."""
    book = Book()
    book._state.db = alias
    adopt(book, get_config().topology.by_leader["default"])
    assert book._state.db is alias


def test_an_adopted_object_is_the_leaders():
    """Its alias is the leader's to Django, and tells us where the values came from."""
    book = Book()
    book._state.db = "replica1"
    adopt(book, get_config().topology.by_leader["default"])
    assert book._state.db == "default"
    assert type(book._state.db) is AdoptedAlias


# STALE_SAVE


def told(caplog):
    return [record.message for record in caplog.records if record.name == "django_replicas"]


MESSAGE = (
    "shop.Book 1 was read from a follower of 'default' and is about to be saved: newer values on "
    "the leader would be overwritten. Read it from the leader first, with `.using('default')` or "
    "inside `with leader('default')`."
)


@pytest.fixture
def stale_save(settings, caplog):
    def choose(value):
        settings.REPLICAS = {**settings.REPLICAS, "STALE_SAVE": value}
        caplog.set_level(logging.INFO, "django_replicas")

    return choose


def test_stale_saves_are_ignored_by_default(unit, caplog):
    """Nothing is said, and no save costs anything: nobody even listens."""
    assert not pre_save.has_listeners(Book)
    Book.objects.get(pk=1).save()
    assert told(caplog) == []


def test_a_stale_save_is_warned_of(unit, stale_save, caplog):
    """With "warn" one line tells it, and the save goes through."""
    stale_save("warn")
    book = Book.objects.get(pk=1)
    book.title = "new"
    book.save()
    assert told(caplog) == [MESSAGE]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert row("default")[0] == "new"


def test_a_stale_save_is_refused(unit, stale_save):
    """With "error" nothing is written, however often it is tried."""
    stale_save("error")
    book = Book.objects.get(pk=1)
    book.title = "new"
    for _ in range(2):
        with pytest.raises(StaleSaveError) as caught:
            book.save()
        assert str(caught.value) == MESSAGE
    assert row("default")[0] == "default"


@pytest.mark.parametrize("using", ["default", None])
def test_naming_the_leader_does_not_make_values_fresh(unit, stale_save, using):
    """``save(using=...)`` is as stale as any other."""
    stale_save("error")
    book = Book.objects.get(pk=1)
    with pytest.raises(StaleSaveError):
        book.save(using=using)


def test_a_save_outside_units_is_told_of_too(stale_save):
    """Values that somebody read from a follower with ``using()`` are as old there."""
    stale_save("error")
    with pytest.raises(StaleSaveError):
        Book.objects.using("replica1").get(pk=1).save(using="default")


def test_the_set_is_named(stale_save):
    """The message names the leader that is about to be written."""
    stale_save("error")
    with pytest.raises(StaleSaveError, match="of 'other' and is about"):
        Book.objects.using("other-0").get(pk=1).save()


def test_a_refreshed_object_is_not_accused(unit, stale_save):
    """Values that were read again from the leader are fresh."""
    stale_save("error")
    book = Book.objects.get(pk=1)
    assert book.title in FOLLOWERS
    book.refresh_from_db(using="default")
    assert book.title == "default"
    book.save()


def test_an_adopted_object_may_be_refreshed_as_usual(unit, stale_save):
    """After a refused save the object belongs to the leader, so a plain refresh reads there."""
    stale_save("error")
    book = Book.objects.get(pk=1)
    with pytest.raises(StaleSaveError):
        book.save()
    book.refresh_from_db()
    assert book.title == "default"
    book.save()


def test_an_object_from_the_leader_is_not_accused(unit, stale_save):
    """Reading as the message advises makes saving right."""
    stale_save("error")
    with leader("default"):
        inside = Book.objects.get(pk=1)
    inside.save()
    Book.objects.using("default").get(pk=1).save()


def test_a_new_object_is_not_accused(unit, stale_save):
    """What was never read cannot be stale, and neither can what was just saved."""
    stale_save("error")
    book = Book.objects.create(title="new")
    book.save()


def test_a_stale_save_is_warned_of_once(unit, stale_save, caplog):
    """Once saved, the leader has these very values."""
    stale_save("warn")
    book = Book.objects.get(pk=1)
    book.save()
    book.save()
    assert told(caplog) == [MESSAGE]


def test_saves_elsewhere_are_not_looked_at(stale_save):
    """A copy into a database without followers overwrites nothing newer."""
    stale_save("error")
    Book.objects.using("replica1").get(pk=1).save(using="lonely")
    assert row("lonely")[0] == "replica1"


def test_a_changed_setting_is_heard(settings, stale_save):
    """Turning it on and off makes somebody listen, and nobody."""
    for value in ("warn", "ignore", "error", "ignore"):
        stale_save(value)
        assert pre_save.has_listeners(Book) is (value != "ignore")
