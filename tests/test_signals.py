"""What listeners hear, and that reads cost nothing more while there is none."""

import asyncio
from contextlib import contextmanager
from threading import Event, Thread

import pytest
from django.db import connections, router, transaction

from django_replicas import follower, pin, unit_of_work
from django_replicas.conf import get_config
from django_replicas.followers import Followers, followers_of
from django_replicas.liveness import Liveness
from django_replicas.reasons import Reason
from django_replicas.scopes import current_unit
from django_replicas.signals import follower_down, follower_up, routed

from .shop.models import Book, Shelf

FOLLOWERS = {"replica1", "replica2"}


@contextmanager
def heard(signal):
    """Collect what a signal says inside the block."""
    said = []

    def listen(signal, sender, **told):
        said.append((sender, told))

    signal.connect(listen)
    try:
        yield said
    finally:
        signal.disconnect(listen)


def title():
    return Book.objects.get(pk=1).title


def test_every_read_is_told():
    """Listeners hear of each read of a unit, the repeated ones included."""
    with heard(routed) as said, unit_of_work():
        unit = current_unit()
        alias = title()
        assert [title(), title()] == [alias, alias]
        with pin("default"):
            assert title() == "default"
    told = {"alias": alias, "reason": Reason.FOLLOWER, "unit": unit}
    pinned = {"alias": "default", "reason": Reason.PINNED, "unit": unit}
    assert said == [(Book, told), (Book, told), (Book, told), (Book, pinned)]
    assert unit.counts == {(alias, Reason.FOLLOWER): 3, ("default", Reason.PINNED): 1}


def test_reads_outside_units_are_told():
    """Outside units too: those are the reads that people wonder about."""
    with heard(routed) as said:
        assert title() == "default"
        with follower("default"):
            assert title() in FOLLOWERS
    assert [(told["alias"], told["reason"]) for _, told in said] == [
        ("default", Reason.OUTSIDE),
        (said[1][1]["alias"], Reason.BLOCK),
    ]
    assert said[0][1]["unit"] is None


def test_no_shortcut_while_anybody_listens():
    """The shortcut would hide reads, so it is left, and taken again when the listener is gone."""
    with unit_of_work():
        title()
        assert router.routers[0]._of_this_thread.shortcut.scope is not None
        with heard(routed) as said:
            title()
            assert router.routers[0]._of_this_thread.shortcut.scope is None
            title()
            assert len(said) == 2
        title()
        assert router.routers[0]._of_this_thread.shortcut.scope is not None
        assert len(said) == 2


def test_listener_hears_threads_that_have_a_shortcut():
    """A listener that comes late is heard in threads whose last answer was a shortcut's."""
    ready, go = Event(), Event()

    def work():
        with unit_of_work():
            for _ in range(3):
                router.db_for_read(Book)
            ready.set()
            go.wait()
            router.db_for_read(Shelf)
        connections.close_all()

    thread = Thread(target=work)
    thread.start()
    ready.wait()
    with heard(routed) as said:
        go.set()
        thread.join()
    assert [sender for sender, _ in said] == [Shelf]


def test_a_listener_that_fails_changes_nothing(caplog):
    """A read is answered whatever its listeners do; Django logs the error."""

    def fail(**told):
        raise RuntimeError("a listener's own")

    routed.connect(fail)
    try:
        with unit_of_work():
            assert title() in FOLLOWERS
    finally:
        routed.disconnect(fail)
    assert [record.name for record in caplog.records] == ["django.dispatch"]


def test_on_an_event_loop():
    """Reads that are routed on the loop are told there."""

    async def read():
        with unit_of_work():
            return router.db_for_read(Book)

    with heard(routed) as said:
        assert asyncio.run(read()) == "default"
    assert [told["reason"] for _, told in said] == [Reason.EVENT_LOOP]


def test_async_listeners_are_refused():
    """Nothing can be awaited where a read is routed, so it is said at once."""

    async def listen(**told): ...

    with pytest.raises(TypeError, match=r"listen at .* is async"):
        routed.connect(listen)
    assert not routed.receivers


def test_nobody_listens_at_first():
    """Nothing in the package listens to its own signals."""
    assert not routed.receivers
    assert not follower_down.receivers
    assert not follower_up.receivers


def test_inside_a_transaction_is_told():
    """The reason is the rule's own."""
    with heard(routed) as said, unit_of_work(), transaction.atomic():
        title()
    assert [told["reason"] for _, told in said] == [Reason.TRANSACTION]


def test_follower_down_and_up(monkeypatch, tmp_path):
    """A follower that is lost is told of once, with the error, and once when it is back."""
    now = [0.0]
    the_set = get_config().topology.by_leader["default"]
    followers = Followers(the_set, Liveness(the_set.downtime, lambda: now[0]), lambda count: 0)
    right = connections.settings["replica1"]["NAME"]
    monkeypatch.setitem(connections.settings["replica1"], "NAME", str(tmp_path / "gone" / "file"))
    with heard(follower_down) as down, heard(follower_up) as up:
        assert [followers.choose("replica1") for _ in range(3)] == ["replica2"] * 3
        now[0] += the_set.downtime
        assert followers.choose("replica1") == "replica2"
        assert len(down) == 1
        assert not up
        monkeypatch.setitem(connections.settings["replica1"], "NAME", right)
        now[0] += the_set.downtime
        assert [followers.choose("replica1") for _ in range(2)] == ["replica1"] * 2
    (sender, told), *_ = down
    assert sender is followers
    assert str(told.pop("error")) == "unable to open database file"
    assert told == {"alias": "replica1", "leader": "default"}
    assert up == [(followers, {"alias": "replica1", "leader": "default"})]


def test_down_for(monkeypatch, tmp_path):
    """What is known of a follower can be asked for: the seconds that it is still left alone."""
    followers = followers_of(get_config().topology.by_leader["default"])
    assert followers.down_for("replica1") is None
    monkeypatch.setitem(connections.settings["replica1"], "NAME", str(tmp_path / "gone" / "file"))
    followers.choose("replica1")
    assert 0 < followers.down_for("replica1") <= 10
    assert followers.down_for("replica2") is None
