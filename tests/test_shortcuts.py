"""A thread's last answer is given again only while nothing that it hangs on has changed."""

import asyncio
import copy
import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import pytest
from asgiref.sync import async_to_sync
from django.contrib.sessions.models import Session
from django.db import connections, router, transaction

from django_replicas import bind, follower, leader, pin, shortcuts, unit_of_work, unpin_all
from django_replicas.conf import read_anew
from django_replicas.pinning import as_role
from django_replicas.reasons import Reason
from django_replicas.routers import GreedyPinRouter, LeaderFollowerRouter
from django_replicas.scopes import current_unit
from django_replicas.units import LEADER

from .shop.models import Book, Shelf

FOLLOWERS = {"replica1", "replica2"}


def asked(model=Book, **hints):
    return router.db_for_read(model, **hints)


@pytest.fixture
def settled():
    """Be in a unit that has read, in a thread that has a shortcut."""
    with unit_of_work():
        alias = asked()
        assert alias in FOLLOWERS
        (asked_router,) = router.routers
        assert asked_router._of_this_thread.shortcut.scope.unit is current_unit()
        assert asked_router._of_this_thread.shortcut.alias == alias
        yield alias


def test_reads_by_shortcut_are_counted(settled):
    """Whoever counts sees no difference between a rule's answer and a shortcut's."""
    for _ in range(9):
        assert asked() == settled
    assert asked(Shelf) == settled
    assert current_unit().counts == {(settled, Reason.FOLLOWER): 11}


def test_shortcut_is_taken(settled, monkeypatch):
    """The rules are asked once only."""
    monkeypatch.setattr(GreedyPinRouter, "_decide", None)
    assert asked() == settled
    assert asked(Shelf) == settled


def test_every_thread_has_its_own(settled):
    """Another thread of the unit asks for itself, and keeps to the same follower."""
    answers = []
    run(bind(lambda: answers.append((router.routers[0]._of_this_thread.shortcut.scope, asked()))))
    assert answers == [(None, settled)]


def test_nothing_keeps_a_unit_that_is_over():
    """Neither its thread's shortcut nor what threads that are over did for it."""
    with unit_of_work():
        current_unit().notes[None] = kept = Kept()
        unit = weakref.ref(kept)
        del kept
        asked()
        run(bind(asked))
    assert unit() is None


def test_a_thread_of_a_pool_keeps_no_unit_that_it_worked_for():
    """It may wait for long before it has something else to do."""
    with ThreadPoolExecutor(1) as pool:
        with unit_of_work():
            current_unit().notes[None] = kept = Kept()
            unit = weakref.ref(kept)
            del kept
            pool.submit(bind(asked)).result()
        assert unit() is None
        pool.submit(connections.close_all).result()


def test_a_unit_keeps_no_connection_that_is_closed():
    """However often it reads on, as one without an end does."""
    with unit_of_work():
        state = current_unit().state_of("default")
        for _ in range(3):
            alias = asked()
            assert state.has_asked(connections[alias])
            connections[alias].close()
            assert not state.has_asked(connections[alias])
        assert len(state._asked) == 1


def test_a_unit_keeps_nothing_of_threads_that_are_over():
    """However many work for it, their connections go with them, and no garbage is left."""
    connections_of_others = weakref.WeakSet()

    def work():
        for each in (asked(), "default"):
            connections_of_others.add(connections[each])

    with unit_of_work():
        asked()
        for _ in range(3):
            run(bind(work))
        gc.collect()
        assert not connections_of_others


def test_a_change_while_it_is_found_out(settled, monkeypatch):
    """An answer that a unit's change overtakes is given once, and not again."""
    answer = GreedyPinRouter.answer

    def answer_and_change(self, *arguments):
        try:
            return answer(self, *arguments)
        finally:
            Shelf.objects.create(name="new")

    unpin_all()
    with monkeypatch.context() as patched:
        patched.setattr(GreedyPinRouter, "answer", answer_and_change)
        assert asked() in FOLLOWERS
    assert asked() == "default"


def test_a_follower_that_is_lost_is_lost_to_all_threads(settled, monkeypatch, tmp_path):
    """The unit goes on with its leader in every thread, once one of them cannot reach it."""
    nowhere = str(tmp_path / "no" / "file")

    def ask():
        monkeypatch.setitem(connections[settled].settings_dict, "NAME", nowhere)
        answers.append(asked())

    answers = []
    run(bind(ask))
    assert answers == ["default"]
    assert asked() == "default"


class OwnRouter(GreedyPinRouter):
    """A subclass with an ``__init__`` for itself."""

    def __init__(self, color="red"):
        self.color = color


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda own: pickle.loads(pickle.dumps(own))]
)
def test_a_copy_of_a_router_is_a_router_of_its_own(copied, settings):
    """It has the attributes, and repeats no answer of the other's, nor one that is out of date."""
    own = OwnRouter("blue")
    with unit_of_work():
        alias = own.db_for_read(Book)
        other = copied(own)
        assert other.color == "blue"
        assert other._of_this_thread is not own._of_this_thread
        assert other.db_for_read(Book) == alias
        settings.REPLICAS = {**settings.REPLICAS, "ENABLED": False}
        assert (own.db_for_read(Book), other.db_for_read(Book)) == ("default", "default")


def test_routers_go_when_nobody_has_them():
    """What is to be forgotten keeps none of them."""
    before = len(shortcuts._routers)
    own = OwnRouter()
    assert len(shortcuts._routers) == before + 1
    del own
    assert len(shortcuts._routers) == before


class Kept:
    """Something that lives as long as the unit that it is noted in."""


def test_what_is_forgotten_meanwhile_is_not_remembered(settled, monkeypatch):
    """An answer that was found out before the settings changed does not outlive them."""
    answer = GreedyPinRouter.answer

    def answer_and_change(self, *arguments):
        try:
            return answer(self, *arguments)
        finally:
            read_anew()

    unpin_all()
    monkeypatch.setattr(GreedyPinRouter, "answer", answer_and_change)
    asked()
    assert router.routers[0]._of_this_thread.shortcut.scope is None


def test_write_ends_it(settled):
    """What the unit wrote is read on the leader at once."""
    Shelf.objects.create(name="new")
    assert asked() == "default"


def test_write_in_another_thread_ends_it(settled):
    """So is what another thread of the unit wrote."""
    run(bind(lambda: Shelf.objects.create(name="new")))
    assert asked() == "default"


def test_pin_ends_it(settled):
    """A pin holds from the very next read."""
    pin("default")
    assert asked() == "default"
    unpin_all()
    assert asked() in FOLLOWERS


@pytest.mark.parametrize(
    "block", [lambda: leader("default"), lambda: pin("default"), lambda: as_role(LEADER)]
)
def test_block_interrupts_it(settled, block):
    """Inside a block the block decides; after it everything is as before."""
    with block():
        assert asked() == "default"
    assert asked() == settled
    with follower("default"):
        assert asked() == settled


def test_transaction_interrupts_it(settled):
    """A transaction on the leader reads there, whether its connection was open before or not."""
    for _ in range(2):
        with transaction.atomic():
            assert asked() == "default"
        assert asked() == settled


def test_autocommit_interrupts_it(settled):
    """So does an open connection that does not commit by itself."""
    transaction.set_autocommit(False)
    assert asked() == "default"
    transaction.rollback()
    transaction.set_autocommit(True)
    assert asked() == settled


def test_leader_models_are_none_of_it(settled):
    """A model that reads its leader does so after any other model's read."""
    assert asked(Session) == "default"
    assert asked() == settled


def test_hints_are_none_of_it(settled):
    """An object from the leader has its relations read there."""
    book = Book.objects.using("default").get(pk=1)
    assert asked(Shelf, instance=book) == "default"


def test_other_units_are_none_of_it(settled):
    """A unit inside this one, and what is outside of it, are asked afresh."""
    with unit_of_work(role="leader"):
        assert asked() == "default"
    answers = []
    run(lambda: answers.append(asked()))
    assert answers == ["default"]


def test_other_routers_are_none_of_it(settled):
    """Another router has its own opinion."""
    assert LeaderFollowerRouter().db_for_read(Book) == "default"


def test_event_loop_is_none_of_it(settled):
    """On an event loop the thread's transactions say nothing, so the leader answers."""

    async def ask():
        return asked()

    assert asyncio.run(ask()) == "default"


def test_settings_end_it(settled, settings):
    """Changed settings hold from the next read."""
    settings.REPLICAS = {**settings.REPLICAS, "ENABLED": False}
    assert asked() == "default"


def test_replaced_connection_ends_it(settled):
    """A new connection to the leader is the one whose transactions count."""
    connections["default"].close()
    del connections["default"]
    with transaction.atomic():
        assert asked() == "default"


@pytest.mark.parametrize(
    ("begin", "reason"),
    [
        (lambda: setattr(current_unit(), "role", LEADER), Reason.ROLE),
        (lambda: Shelf.objects.create(name="new"), Reason.WRITTEN),
        (lambda: pin("default"), Reason.PINNED),
        (lambda: setattr(current_unit().state_of("default"), "marked", True), Reason.MARKED),
    ],
)
def test_leader_answers_by_shortcut_too(begin, reason, monkeypatch):
    """What sends a whole unit to the leader is asked once, and a transaction is still told."""
    connections["default"].ensure_connection()
    with unit_of_work():
        begin()
        assert asked() == "default"
        with transaction.atomic():
            assert asked() == "default"
        monkeypatch.setattr(GreedyPinRouter, "_decide", None)
        assert asked() == "default"
        assert current_unit().counts == {
            ("default", reason): 2,
            ("default", Reason.TRANSACTION): 1,
        }


def test_trace_takes_none(traced):
    """With a trace every read is in it."""
    with unit_of_work():
        asked()
        asked()
        assert len(current_unit().trace) == 2


def run(work):
    """Run *work* in a thread of its own, and close what it opened."""

    def run_and_close():
        work()
        connections.close_all()

    thread = Thread(target=run_and_close)
    thread.start()
    thread.join()


def test_router_that_answers_by_model_has_none(settings):
    """A subclass that decides for itself is asked each time."""

    class ShelvesOnTheLeader(GreedyPinRouter):
        def answer(self, replica_set, scope, unit, model, hints, config):
            if model is Shelf:
                return "default", Reason.BLOCK
            return super().answer(replica_set, scope, unit, model, hints, config)

    settings.DATABASE_ROUTERS = [ShelvesOnTheLeader()]
    with unit_of_work():
        for _ in range(3):
            assert asked() in FOLLOWERS
            assert asked(Shelf) == "default"


def test_unit_of_a_thread_alone_has_none(settings):
    """Tasks that a thread waits for are outside its unit, so nothing may be remembered there."""
    settings.REPLICAS = {**settings.REPLICAS, "OUTSIDE_UNITS": "routed"}
    connections["default"].ensure_connection()
    assert asked() in FOLLOWERS

    @async_to_sync
    async def task():
        await Book.objects.filter(pk=1).aupdate(note="new")
        return (await Book.objects.aget(pk=1)).note

    assert task() == "new"
    assert asked() == "default"


def test_a_follower_that_is_connected_to_anew_is_found_out(monkeypatch, tmp_path):
    """Closed inside the unit, its connection may be opened to a server that is gone."""
    with unit_of_work(role="follower"):
        alias = router.db_for_read(Book)
        assert router.db_for_read(Book) == alias
        connections[alias].close()
        monkeypatch.setitem(connections[alias].settings_dict, "NAME", str(tmp_path / "no" / "file"))
        assert router.db_for_read(Book) == "default"
