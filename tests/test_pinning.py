"""The unit of work and every verb that speaks about it."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from threading import Barrier, Event, Thread

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connections

import django_replicas
from django_replicas import (
    bind,
    follower,
    get_follower,
    get_newly_pinned,
    get_pinned,
    is_pinned,
    leader,
    pin,
    unit_of_work,
    unpin_all,
)
from django_replicas.exceptions import UnknownSetError
from django_replicas.marking import take_marks
from django_replicas.marks import Mark
from django_replicas.pinning import Block
from django_replicas.reasons import Reason
from django_replicas.scopes import Scope, current_scope, current_unit
from django_replicas.units import Role, SetState, Unit

from .shop.models import Book, Shelf

FOLLOWERS = {"replica1", "replica2"}
NO_PINS = frozenset()


def answer():
    return Book.objects.get(pk=1).title


async def aanswer():
    return (await Book.objects.aget(pk=1)).title


def other_answer():
    return Shelf.objects.get(pk=1).name


def write():
    Book.objects.filter(pk=1).update(note="written")


async def awrite():
    await Book.objects.filter(pk=1).aupdate(note="written")


def fail_after(function, *args):
    function(*args)
    raise ZeroDivisionError


def in_thread(function, *args):
    """Run a function in a thread of its own, which inherits nothing, and close its connections."""

    def call():
        try:
            return function(*args)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


@pytest.fixture(autouse=True)
def closed_connections_of_the_loop(databases):
    """Close what `sync_to_async` opened in the one thread that it uses outside requests."""
    yield
    in_thread(lambda: asyncio.run(sync_to_async(connections.close_all)()))


@pytest.fixture
def two_sets(settings):
    """Keep the shelves in the set that "other" leads."""
    settings.REPLICAS = {**settings.REPLICAS, "DELEGATE_ROUTERS": [ShelvesElsewhere()]}


class ShelvesElsewhere:
    def db_for_read(self, model, **hints):
        return "other" if model is Shelf else None

    db_for_write = db_for_read


@pytest.fixture
def by_role(settings):
    """Route as the unit's role says."""
    settings.DATABASE_ROUTERS = ["django_replicas.routers.LeaderFollowerRouter"]


@pytest.fixture
def routed(settings):
    """Give each thread an implicit unit."""
    settings.REPLICAS = {**settings.REPLICAS, "OUTSIDE_UNITS": "routed"}


# Pins for the rest of the unit


def test_unit_reads_one_follower():
    """A unit that has neither written nor pinned keeps to one follower."""
    with unit_of_work():
        answers = {answer() for _ in range(20)}
        assert len(answers) == 1
        assert answers <= FOLLOWERS


def test_pin_holds_from_the_call_to_the_end_of_the_unit():
    """Called alone, a pin turns reads to the leader until the unit ends, not beyond."""
    with unit_of_work():
        assert answer() in FOLLOWERS
        pin("default")
        assert answer() == "default"
        assert is_pinned("default")
        assert get_pinned() == {"default"}
        assert get_newly_pinned() == {"default"}
    with unit_of_work():
        assert answer() in FOLLOWERS
        assert not is_pinned("default")
        assert get_pinned() == NO_PINS
        assert get_newly_pinned() == NO_PINS


def test_pin_that_does_not_count_as_new():
    """A pin that is not to be carried on holds here and is not newly pinned."""
    with unit_of_work():
        pin("default", count_as_new=False)
        assert answer() == "default"
        assert get_pinned() == {"default"}
        assert get_newly_pinned() == NO_PINS


def test_pin_concerns_its_set_alone(two_sets):
    """The other set goes on reading its follower."""
    with unit_of_work():
        pin("default")
        assert answer() == "default"
        assert other_answer() == "other-0"
        pin("other")
        assert other_answer() == "other"
        assert get_pinned() == {"default", "other"}


def test_write_pins_and_counts_as_new():
    """A write is as good as a pin."""
    with unit_of_work():
        write()
        assert is_pinned("default")
        assert get_pinned() == {"default"}
        assert get_newly_pinned() == {"default"}
        assert answer() == "default"


def test_get_pinned_returns_a_value_that_later_pins_do_not_change():
    """What was returned stays as it was."""
    with unit_of_work():
        before = get_pinned(), get_newly_pinned()
        pin("default")
        assert before == (NO_PINS, NO_PINS)


# Pins for a block


def test_pin_block_restores():
    """As a block, a pin holds inside and leaves nothing behind."""
    with unit_of_work():
        chosen = answer()
        with pin("default"):
            assert answer() == "default"
            assert is_pinned("default")
            assert get_pinned() == {"default"}
        assert answer() == chosen
        assert not is_pinned("default")
        assert get_pinned() == NO_PINS
        assert get_newly_pinned() == NO_PINS


def test_pin_block_is_not_carried_on():
    """What ends with the block is nothing that the next unit needs to know."""
    with unit_of_work():
        with pin("default"):
            assert get_newly_pinned() == NO_PINS
        with pin("default", count_as_new=False):
            assert get_newly_pinned() == NO_PINS


def test_pin_blocks_nest():
    """The inner block's end does not end the outer one's pin."""
    with unit_of_work():
        with pin("default"):
            with pin("default"):
                assert answer() == "default"
            assert answer() == "default"
        assert answer() in FOLLOWERS


def test_pin_block_leaves_an_earlier_pin():
    """The block's end does not take away the pin that was there before it."""
    with unit_of_work():
        pin("default")
        with pin("default", count_as_new=False):
            pass
        assert answer() == "default"
        assert get_newly_pinned() == {"default"}


def test_pin_called_inside_a_pin_block_outlives_it():
    """A pin for the rest of the unit is not ended by a block around it."""
    with unit_of_work():
        with pin("default"):
            pin("default")
        assert answer() == "default"
        assert get_newly_pinned() == {"default"}


def test_write_inside_a_pin_block_outlives_it():
    """Rule 7: written also inside a block that has ended."""
    with unit_of_work():
        with pin("default"):
            write()
        assert is_pinned("default")
        assert answer() == "default"


def test_pin_block_survives_exceptions():
    """An exception inside puts back what was there."""
    with unit_of_work():
        chosen = answer()
        with pytest.raises(ZeroDivisionError), pin("default"):
            fail_after(answer)
        assert answer() == chosen
        assert get_pinned() == NO_PINS


def test_pin_kept_and_entered_later_holds_until_then():
    """A pin is one from its call on; entering it turns it into a block's."""
    with unit_of_work():
        block = pin("default")
        assert answer() == "default"
        with block:
            assert answer() == "default"
        assert answer() in FOLLOWERS
        assert get_newly_pinned() == NO_PINS


def test_pin_entered_after_unpin_all_takes_nothing_away():
    """A pin that was forgotten does not end another when it becomes a block."""
    with unit_of_work():
        forgotten = pin("default")
        unpin_all()
        pin("default")
        with forgotten:
            pass
        assert answer() == "default"
        assert get_newly_pinned() == {"default"}


@pytest.mark.parametrize("verb", [pin, leader, follower])
def test_block_is_no_decorator(verb):
    """What a block would mean for each call is said by other verbs."""
    with unit_of_work(), pytest.raises(TypeError, match="not callable"):
        verb("default")(answer)


# unpin_all


def test_unpin_all_begins_afresh():
    """Pins are gone; what was only pinned is not carried on."""
    with unit_of_work():
        pin("default")
        unpin_all()
        assert answer() in FOLLOWERS
        assert get_pinned() == NO_PINS
        assert get_newly_pinned() == NO_PINS


def test_unpin_all_forgets_the_write_but_carries_it_on():
    """The next unit must still see what this one wrote."""
    with unit_of_work():
        write()
        unpin_all()
        assert answer() in FOLLOWERS
        assert get_pinned() == NO_PINS
        assert get_newly_pinned() == {"default"}


def test_unpin_all_leaves_the_pin_of_the_block_around_it():
    """A block keeps its promise to its end."""
    with unit_of_work():
        with pin("default"):
            pin("default")
            unpin_all()
            assert answer() == "default"
        assert answer() in FOLLOWERS


def test_unpin_all_chooses_followers_anew(settings):
    """A fresh unit has a fresh follower."""
    settings.REPLICAS = {"SETS": {"default": {"FOLLOWERS": [*FOLLOWERS], "BALANCE": "round_robin"}}}
    with unit_of_work():
        before = answer()
        unpin_all()
        assert {before, answer()} == FOLLOWERS


def test_unpin_all_forgets_what_the_outer_unit_wrote():
    """Marks are part of what is begun afresh."""
    with unit_of_work():
        write()
        with unit_of_work():
            assert answer() == "default"
            unpin_all()
            assert answer() in FOLLOWERS
        assert answer() == "default"


def test_unit_inside_one_that_began_afresh_sees_what_was_written():
    """Beginning afresh is about the unit that does so, not about those inside it."""
    with unit_of_work():
        write()
        unpin_all()
        with unit_of_work():
            assert answer() == "default"
            unpin_all()
            assert answer() in FOLLOWERS
            with unit_of_work():
                assert answer() == "default"


# leader() and follower()


def test_leader_block():
    """Reads go to the leader inside, and back afterwards; pins are left as they are."""
    with unit_of_work():
        chosen = answer()
        with leader("default"):
            assert answer() == "default"
            assert get_pinned() == NO_PINS
        assert answer() == chosen


def test_write_inside_a_leader_block_pins_nothing():
    """The block says that nobody will read it back."""
    with unit_of_work():
        with leader("default"):
            write()
        assert get_pinned() == NO_PINS
        assert get_newly_pinned() == NO_PINS
        assert answer() in FOLLOWERS


def test_follower_block_despite_a_pin():
    """Reads go to the unit's follower inside, and back to the leader afterwards."""
    with unit_of_work():
        chosen = answer()
        pin("default")
        with follower("default"):
            assert answer() == chosen
            assert is_pinned("default")
        assert answer() == "default"


def test_follower_block_despite_a_write():
    """So does a write's."""
    with unit_of_work():
        write()
        with follower("default"):
            assert answer() in FOLLOWERS
        assert answer() == "default"


def test_follower_block_despite_a_pin_block():
    """The two blocks do not undo each other."""
    with unit_of_work(), pin("default"):
        with follower("default"):
            assert answer() in FOLLOWERS
        assert answer() == "default"


def test_leader_and_follower_blocks_nest():
    """The innermost block is obeyed, and each one's end brings back the one around it."""
    with unit_of_work():
        with leader("default"):
            with follower("default"):
                with leader("default"):
                    assert answer() == "default"
                assert answer() in FOLLOWERS
            assert answer() == "default"
        assert answer() in FOLLOWERS


def test_blocks_of_two_sets_are_independent(two_sets):
    """A block speaks of its set alone."""
    with unit_of_work(), leader("default"), follower("other"):
        assert answer() == "default"
        assert other_answer() == "other-0"
        with leader("other"):
            assert answer() == "default"
            assert other_answer() == "other"
        assert other_answer() == "other-0"


@pytest.mark.parametrize("verb", [pin, leader, follower])
def test_blocks_survive_exceptions_in_any_mixture(verb):
    """Whatever stands around the failing block is as it was before."""
    with unit_of_work():
        chosen = answer()
        for outer in (pin, leader, follower):
            with outer("default"):
                expected = answer()
                with pytest.raises(ZeroDivisionError), verb("default"):
                    raise ZeroDivisionError
                assert answer() == expected
            assert answer() == chosen


@pytest.mark.parametrize("verb", [pin, leader, follower, lambda alias: unit_of_work()])
def test_block_is_entered_once(verb):
    """A second `with` on one block is an error, while it is open and afterwards."""
    message = r"^This block was entered before; make a new one for each `with`\.$"
    with unit_of_work():
        chosen = answer()
        block = verb("default")
        with block, pytest.raises(RuntimeError, match=message):
            block.__enter__()
        with pytest.raises(RuntimeError, match=message):
            block.__enter__()
        assert answer() == chosen
        assert get_pinned() == NO_PINS


async def test_block_left_in_another_call():
    """Calls through sync_to_async have contexts of their own, and hand on what holds in them."""
    with unit_of_work():
        block = leader("default")
        await sync_to_async(block.__enter__)()
        assert await aanswer() == "default"
        await sync_to_async(block.__exit__)(None, None, None)
        assert await aanswer() in FOLLOWERS


def test_block_left_where_it_does_not_hold():
    """What was before it in one place is put back in no other."""
    block = leader("default")
    copy_context().run(block.__enter__)
    before = current_scope()
    with pytest.raises(ValueError, match="different Context"):
        block.__exit__(None, None, None)
    assert current_scope() is before


def test_block_answers_itself():
    """`as` names the block."""
    block = leader("default")
    with block as entered:
        assert entered is block


# What a unit keeps to


def test_first_of_two_threads_settles_for_the_unit():
    """Who chooses a moment later takes what was chosen."""
    state = SetState()
    first = ("replica1", Reason.FOLLOWER)
    assert state.settle(first) == first
    assert state.settle(("replica2", Reason.FOLLOWER)) == first


def test_threads_of_one_unit_choose_one_follower():
    """However many of them begin to read at once."""
    for _ in range(10):
        together = Barrier(8)
        with unit_of_work(), ThreadPoolExecutor(8) as pool:
            bound = bind(lambda together=together: (together.wait(), answer(), close())[1])
            answers = [pool.submit(bound) for _ in range(8)]
            assert len({each.result() for each in answers} & FOLLOWERS) == 1


def close():
    connections.close_all()


def test_mark_that_held_at_first_holds_to_the_end_of_the_unit():
    """A unit does not go back in time when a deadline passes, nor are marks loaded twice."""
    loaded = []

    def load():
        loaded.append(Mark(time.time() + 0.5))
        return {"default": loaded[0]}

    unit = Unit(load)
    assert unit.is_marked("default")
    while not loaded[0].is_past():
        pass
    assert unit.is_marked("default")
    assert not unit.is_marked("other")
    assert len(loaded) == 1


def test_inner_unit_keeps_to_the_mark_that_the_outer_one_keeps_to():
    """What the outer unit has seen on the leader, one inside it must not miss."""
    mark = Mark(time.time() + 0.5)
    unit = Unit(lambda: {"default": mark})
    with Block(lambda scope: Scope(unit, inside=True)):
        assert answer() == "default"
        while not mark.is_past():
            pass
        assert answer() == "default"
        with unit_of_work():
            assert answer() == "default"


def test_marks_are_taken_once_for_each_write():
    """A carrier gets them when something was written since the last one, with those that came."""
    unit = Unit(lambda: {"other": Mark(99999999999)})
    assert take_marks(unit) == {}
    unit.note_write("default")
    assert set(take_marks(unit)) == {"default", "other"}
    assert take_marks(unit) == {}
    unit.note_write("default")
    assert set(take_marks(unit)) == {"default", "other"}


# get_follower


def test_get_follower_is_the_same_for_the_whole_unit():
    """It is the one that reads go to."""
    with unit_of_work():
        chosen = get_follower("default")
        assert chosen in FOLLOWERS
        assert {get_follower("default") for _ in range(20)} == {chosen}
        assert answer() == chosen


def test_get_follower_after_a_pin_is_a_follower():
    """It is asked for despite pins, to be named to `using()`."""
    with unit_of_work():
        pin("default")
        assert get_follower("default") in FOLLOWERS
        assert Book.objects.using(get_follower("default")).get(pk=1).title in FOLLOWERS


def test_get_follower_outside_units_chooses_each_time(settings):
    """Nothing holds one call's answer for the next."""
    settings.REPLICAS = {"SETS": {"default": {"FOLLOWERS": [*FOLLOWERS], "BALANCE": "round_robin"}}}
    assert {get_follower("default"), get_follower("default")} == FOLLOWERS


def test_get_follower_of_a_database_without_followers():
    """It is that database."""
    assert get_follower("lonely") == "lonely"


async def test_get_follower_on_an_event_loop():
    """It is named without being tried, and the unit keeps to it."""
    with unit_of_work():
        chosen = get_follower("default")
        assert chosen in FOLLOWERS
        assert get_follower("default") == chosen
        assert await aanswer() == chosen
        assert get_follower("default") == chosen


def test_get_follower_where_routing_is_disabled(settings):
    """With routing switched off the leader serves everything."""
    settings.REPLICAS = {**settings.REPLICAS, "ENABLED": False}
    with unit_of_work():
        assert get_follower("default") == "default"


# Aliases of the verbs


def test_other_names():
    """The names that people bring along are the same verbs."""
    assert django_replicas.master is leader
    assert django_replicas.unpinned_replica is follower
    assert django_replicas.get_replica is get_follower
    assert django_replicas.use_master is django_replicas.use_leader
    assert django_replicas.use_slave is django_replicas.use_follower


# Aliases that lead nothing


@pytest.mark.parametrize("verb", [pin, leader, follower])
def test_unknown_alias(verb):
    """The message names the alias and the leaders there are."""
    with pytest.raises(UnknownSetError) as raised:
        verb("nonsense")
    assert str(raised.value) == (
        "'nonsense' is not in DATABASES. The leaders are: 'default', 'other'."
    )


def test_unknown_alias_without_sets(settings):
    """Where nothing is configured the message says so."""
    settings.REPLICAS = {}
    with pytest.raises(UnknownSetError) as raised:
        pin("nonsense")
    assert str(raised.value) == (
        "'nonsense' is not in DATABASES. The leaders are: none, REPLICAS has no SETS."
    )


@pytest.mark.parametrize("verb", [pin, leader, follower])
def test_alias_of_a_follower(verb):
    """The message names the leader to be named instead."""
    with pytest.raises(UnknownSetError) as raised:
        verb("replica1")
    assert str(raised.value) == "'replica1' is a follower of 'default': name the leader instead."


def test_unknown_alias_changes_nothing():
    """A refused pin is none."""
    with unit_of_work():
        with pytest.raises(UnknownSetError):
            pin("replica1")
        assert get_pinned() == NO_PINS
        assert answer() in FOLLOWERS


@pytest.mark.parametrize("verb", [pin, leader, follower])
def test_database_without_followers(verb):
    """It is its own leader: the verbs are allowed and change nothing."""
    with unit_of_work():
        verb("lonely")
        with verb("lonely"):
            assert Book.objects.using("lonely").get(pk=1).title == "lonely"
            assert answer() in FOLLOWERS
            assert get_pinned() == NO_PINS
            assert not is_pinned("lonely")
        assert get_pinned() == NO_PINS
        assert get_newly_pinned() == NO_PINS


# Outside units


def test_outside_units_everything_goes_to_the_leader():
    """Nothing is pinned, nothing is refused, nothing is changed by a pin."""
    assert answer() == "default"
    pin("default")
    write()
    unpin_all()
    assert answer() == "default"
    assert current_unit() is None
    assert not is_pinned("default")
    assert get_pinned() == NO_PINS
    assert get_newly_pinned() == NO_PINS


@pytest.mark.parametrize("router", ["LeaderFollowerRouter", "StrictPinRouter", "GreedyPinRouter"])
def test_outside_units_no_router_refuses(settings, router):
    """Shells, commands and data migrations are in nobody's way."""
    settings.DATABASE_ROUTERS = [f"django_replicas.routers.{router}"]
    write()
    assert answer() == "default"
    with pin("default"):
        write()
        assert answer() == "default"


def test_outside_units_a_pin_block_pins_nothing():
    """Every question about pins has the same answer there: none."""
    with pin("default"):
        assert answer() == "default"
        assert not is_pinned("default")
        assert get_pinned() == NO_PINS
        assert get_newly_pinned() == NO_PINS


def test_outside_units_a_follower_block_works_for_its_set_alone(two_sets):
    """It is the one thing that is obeyed there; it chooses one follower for the block."""
    with follower("default"):
        assert len({answer() for _ in range(20)} & FOLLOWERS) == 1
        assert other_answer() == "other"
        assert current_unit() is None
        assert get_pinned() == NO_PINS
    assert answer() == "default"


def test_outside_units_a_leader_block_inside_a_follower_block():
    """Blocks nest there too."""
    with follower("default"):
        with leader("default"):
            assert answer() == "default"
        with pytest.raises(ZeroDivisionError), leader("default"):
            raise ZeroDivisionError
        assert answer() in FOLLOWERS
    assert answer() == "default"


def test_outside_units_a_pin_inside_a_follower_block_pins_nothing():
    """The block is no unit."""
    with follower("default"):
        pin("default")
        write()
        with pin("default"):
            assert answer() in FOLLOWERS
            assert not is_pinned("default")
            assert get_pinned() == NO_PINS
        assert get_newly_pinned() == NO_PINS


def test_unit_inside_a_follower_block_outside_units():
    """The block holds inside the unit, and the unit leaves nothing in it."""
    with follower("default"):
        with unit_of_work():
            write()
            assert answer() in FOLLOWERS
            assert is_pinned("default")
            with leader("default"):
                assert answer() == "default"
        assert answer() in FOLLOWERS
        assert not is_pinned("default")


# Units of work


def test_after_the_unit_all_is_outside_again():
    """The end of a unit leaves nothing."""
    with unit_of_work():
        assert current_unit() is not None
    assert current_unit() is None
    assert answer() == "default"


def test_unit_ends_with_an_exception():
    """An exception ends it as well."""
    with pytest.raises(ZeroDivisionError), unit_of_work():
        fail_after(pin, "default")
    assert current_unit() is None


def test_task_after_another_unit_on_the_same_thread_starts_clean():
    """Two jobs of one worker thread know nothing of each other."""

    @unit_of_work
    def job(first):
        found = answer()
        if first:
            write()
            pin("default")
            follower("default").__enter__()
        return found

    def work():
        return [job(first) for first in (True, False, True, False)]

    assert set(in_thread(work)) <= FOLLOWERS


@pytest.mark.parametrize("decorate", [unit_of_work, unit_of_work()])
def test_unit_as_a_decorator(decorate):
    """Bare or called, each call is a unit of its own, with arguments, answer and name kept."""

    @decorate
    def work(number, *, more):
        """Do it."""
        found = answer()
        pin("default")
        return found, answer(), current_unit(), number + more

    first, second = work(1, more=2), work(2, more=3)
    assert first[0] in FOLLOWERS
    assert second[0] in FOLLOWERS
    assert first[1] == second[1] == "default"
    assert first[2] is not second[2]
    assert (first[3], second[3]) == (3, 5)
    assert (work.__name__, work.__doc__) == ("work", "Do it.")
    assert current_unit() is None


@pytest.mark.parametrize("decorate", [unit_of_work, unit_of_work()])
async def test_unit_as_a_decorator_of_an_async_function(decorate):
    """The unit lasts until the coroutine has ended."""

    @decorate
    async def work():
        await asyncio.sleep(0)
        found = await aanswer()
        pin("default")
        return found, await aanswer(), current_unit()

    results = await asyncio.gather(work(), work())
    assert {found for found, _, _ in results} <= FOLLOWERS
    assert {pinned for _, pinned, _ in results} == {"default"}
    assert results[0][2] is not results[1][2]
    assert current_unit() is None


async def test_unit_of_a_coroutine_that_a_function_returns():
    """It is the function's own unit, which ends when the coroutine has; both write to the outer."""
    units = []

    @unit_of_work
    def work():
        units.append(current_unit())
        current_unit().note_write("default")
        current_unit().at_end(lambda: ends.append(len(units)))
        return goes_on()

    async def goes_on():
        units.append(current_unit())
        return await aanswer()

    ends = []
    with unit_of_work() as outer:
        coroutine = work()
        assert current_unit() is outer.unit
        assert get_pinned() == {"default"}
        assert not ends
        assert await coroutine == "default"
        assert current_unit() is outer.unit
    assert units[0] is units[1]
    assert units[0] is not outer.unit
    assert ends == [2]


async def test_bind_of_a_function_that_returns_a_coroutine():
    """It is done in the unit that was bound."""
    with unit_of_work() as block:
        bound = bind(lambda: unit_here())
    assert await bound() is block.unit


async def unit_here():
    return current_unit()


def test_recursive_calls_of_a_decorated_function():
    """A decorated function may call itself."""

    @unit_of_work
    def work(depth):
        pin("default")
        return 0 if depth == 0 else 1 + work(depth - 1)

    assert work(3) == 3


@pytest.mark.parametrize(("role", "expected"), [("leader", {"default"}), ("follower", FOLLOWERS)])
def test_role_of_a_unit(by_role, role, expected):
    """As a block and as a decorator, a unit has the role that it was given."""
    with unit_of_work(role=role):
        assert answer() in expected
        assert current_scope().role is Role(role)
    assert unit_of_work(role=role)(answer)() in expected


def test_unit_without_a_role(by_role, settings):
    """A router by role reads the leader, the others a follower."""
    with unit_of_work():
        assert answer() == "default"
    settings.DATABASE_ROUTERS = ["django_replicas.routers.GreedyPinRouter"]
    with unit_of_work():
        assert answer() in FOLLOWERS


def test_unknown_role():
    """A role is one of two words."""
    with pytest.raises(ValueError, match="'slave' is no role"):
        unit_of_work(role="slave")


@pytest.mark.parametrize("decorate", [unit_of_work, unit_of_work(), bind])
def test_generator_functions_are_refused(decorate):
    """Their body would run when the block is long left."""

    def generate():
        yield answer()

    async def agenerate():
        yield await aanswer()

    for function in (generate, agenerate):
        with pytest.raises(TypeError) as raised:
            decorate(function)
        assert str(raised.value) == (
            f"{function!r} is a generator function: open the block inside it."
        )


# Units inside units


def test_inner_unit_begins_without_pins_role_and_follower(settings):
    """None of what the outer unit decided for itself is the inner one's."""
    settings.REPLICAS = {"SETS": {"default": {"FOLLOWERS": [*FOLLOWERS], "BALANCE": "round_robin"}}}
    with unit_of_work(role="leader"), pin("default", count_as_new=False):
        outer = get_follower("default")
        pin("default", count_as_new=False)
        assert answer() == "default"
        with unit_of_work():
            assert get_pinned() == NO_PINS
            assert current_scope().role is None
            assert answer() in FOLLOWERS - {outer}
        assert get_follower("default") == outer
        assert answer() == "default"


def test_inner_unit_begins_without_new_pins():
    """A pin that the user's next requests will obey is no write that a unit inside must see."""
    with unit_of_work():
        pin("default")
        with unit_of_work():
            assert answer() in FOLLOWERS
            assert get_newly_pinned() == NO_PINS
        assert get_newly_pinned() == {"default"}


@pytest.mark.parametrize(("verb", "expected"), [(leader, {"default"}), (follower, FOLLOWERS)])
def test_blocks_around_an_inner_unit_hold_in_it(verb, expected):
    """Who wrote them speaks for everything inside."""
    with unit_of_work():
        write()
        with verb("default"), unit_of_work():
            assert answer() in expected
            with unit_of_work():
                assert answer() in expected


def test_inner_unit_sees_what_the_outer_one_wrote():
    """However deep it is."""
    with unit_of_work():
        write()
        with unit_of_work():
            assert answer() == "default"
            with unit_of_work():
                assert answer() == "default"


def test_inner_unit_sees_what_the_outer_one_wrote_however_long_it_takes(settings):
    """A write of this very process is no matter of seconds."""
    settings.REPLICAS = {**settings.REPLICAS, "PIN_SECONDS": 1e-9}
    with unit_of_work():
        write()
        with unit_of_work():
            begun = time.time()
            while time.time() <= begun:
                pass
            assert answer() == "default"


def test_inner_unit_is_not_owed_what_the_outer_one_wrote():
    """Only who wrote hands on."""
    with unit_of_work():
        write()
        with unit_of_work():
            assert get_newly_pinned() == NO_PINS
        assert get_newly_pinned() == {"default"}


def test_outer_unit_sees_what_the_inner_one_wrote():
    """Afterwards, and hands it on."""
    with unit_of_work():
        assert answer() in FOLLOWERS
        with unit_of_work(), unit_of_work():
            write()
        assert answer() == "default"
        assert get_newly_pinned() == {"default"}


def test_outer_unit_sees_what_an_inner_one_wrote_that_failed():
    """A write followed by an exception is a write."""
    with unit_of_work():
        with pytest.raises(ZeroDivisionError), unit_of_work():
            fail_after(write)
        assert answer() == "default"


def test_outer_unit_sees_what_an_inner_one_wrote_before_it_began_afresh():
    """`unpin_all()` is about the unit that calls it; what it wrote is handed on all the same."""
    with unit_of_work():
        with unit_of_work():
            write()
            unpin_all()
        assert answer() == "default"
        assert get_newly_pinned() == {"default"}


def test_pins_of_an_inner_unit_end_with_it():
    """What it only pinned is not the outer one's."""
    with unit_of_work():
        chosen = answer()
        with unit_of_work():
            pin("default")
            assert answer() == "default"
        assert answer() == chosen
        assert get_pinned() == NO_PINS


def test_units_side_by_side_inside_a_unit(two_sets):
    """The second inner unit sees the first one's writes, set by set."""
    with unit_of_work():
        with unit_of_work():
            write()
        with unit_of_work():
            assert answer() == "default"
            assert other_answer() == "other-0"


# Tasks and threads


async def test_async_blocks():
    """Every block means on an event loop what it means elsewhere."""
    with unit_of_work():
        chosen = await aanswer()
        assert chosen in FOLLOWERS
        with pin("default"):
            assert await aanswer() == "default"
            with follower("default"):
                assert await aanswer() == chosen
                with leader("default"):
                    assert await aanswer() == "default"
            assert await aanswer() == "default"
        assert await aanswer() == chosen
        await awrite()
        assert await aanswer() == "default"


@pytest.mark.parametrize("verb", [pin, leader, follower, lambda alias: unit_of_work()])
async def test_cancellation_restores(verb):
    """A block that is left because its task was cancelled puts back what was there."""
    entered, seen = asyncio.Event(), []

    async def work():
        with unit_of_work():
            before = current_scope()
            try:
                with verb("default"):
                    entered.set()
                    await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append(current_scope() is before)
                seen.append(get_pinned())
                raise

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [True, NO_PINS]


async def test_write_of_a_gathered_child_is_seen_by_its_parent():
    """A unit is one for all tasks that work for it."""
    with unit_of_work():
        await asyncio.gather(awrite(), asyncio.sleep(0))
        assert get_newly_pinned() == {"default"}
        assert await aanswer() == "default"


async def test_pin_of_a_child_task_is_seen_by_its_parent_and_siblings():
    """So are pins."""
    pinned = asyncio.Event()

    async def pins():
        pin("default")
        pinned.set()

    async def reads():
        await pinned.wait()
        return await aanswer()

    with unit_of_work():
        assert (await asyncio.gather(reads(), pins()))[0] == "default"
        assert is_pinned("default")


async def test_block_of_a_child_task_is_its_own():
    """What is scoped to a block is seen by nobody else."""
    inside, looked = asyncio.Event(), asyncio.Event()

    async def child(verb):
        with verb("default"):
            inside.set()
            await looked.wait()

    for verb in (pin, leader):
        inside.clear()
        looked.clear()
        with unit_of_work():
            task = asyncio.create_task(child(verb))
            await inside.wait()
            assert await aanswer() in FOLLOWERS
            assert not is_pinned("default")
            looked.set()
            await task


async def test_child_task_inherits_the_blocks_around_it():
    """And keeps them when the parent has left them."""
    left = asyncio.Event()

    async def child():
        await left.wait()
        return await aanswer()

    with unit_of_work():
        with leader("default"):
            task = asyncio.create_task(child())
        left.set()
        assert await task == "default"
        assert await aanswer() in FOLLOWERS


async def test_pin_inside_sync_to_async_is_seen_outside():
    """A worker thread of the unit's own task works for the unit."""
    with unit_of_work():
        await sync_to_async(pin)("default")
        assert is_pinned("default")
        assert await asyncio.to_thread(is_pinned, "default")


async def test_units_of_two_tasks_know_nothing_of_each_other():
    """One pins, the other does not notice."""
    pinned = asyncio.Event()

    @unit_of_work
    async def pins():
        pin("default")
        await awrite()
        pinned.set()
        return await aanswer()

    @unit_of_work
    async def reads():
        await pinned.wait()
        return await aanswer()

    one, other = await asyncio.gather(pins(), reads())
    assert one == "default"
    assert other in FOLLOWERS


def test_plain_thread_does_not_inherit_the_unit():
    """Without bind() it is outside."""
    with unit_of_work():
        pin("default")
        assert in_thread(current_unit) is None
        assert in_thread(get_pinned) == NO_PINS


# bind


def test_bind_carries_the_unit_and_its_blocks():
    """What holds where bind() was called holds in the thread, also when it has ended here."""
    with unit_of_work(role="follower"):
        unit = current_unit()
        chosen = answer()
        with follower("default"):
            bound = bind(lambda: (current_unit(), answer(), current_scope().role))
        pin("default")
        assert answer() == "default"
        assert in_thread(bound) == (unit, chosen, Role.FOLLOWER)


def test_bound_write_is_seen_by_the_unit():
    """The unit is shared, both ways."""
    with unit_of_work():
        in_thread(bind(write))
        assert answer() == "default"
        assert get_newly_pinned() == {"default"}
        assert in_thread(bind(answer)) == "default"


def test_bound_function_leaves_the_thread_as_it_was():
    """A pool's thread is outside again afterwards, after an exception too."""

    def fail():
        raise ZeroDivisionError

    with unit_of_work(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(bind(current_unit)).result() is current_unit()
        with pytest.raises(ZeroDivisionError):
            pool.submit(bind(fail)).result()
        assert pool.submit(current_unit).result() is None


def test_bound_function_is_called_as_it_was():
    """Arguments, answer, name; as often as wanted, inside another unit too."""

    def work(number, *, more):
        return number + more, current_unit()

    with unit_of_work():
        bound, unit = bind(work), current_unit()
    assert bound.__name__ == "work"
    assert bound(1, more=2) == (3, unit)
    with unit_of_work():
        assert bound(2, more=3) == (5, unit)
        assert current_unit() is not unit


def test_bind_outside_units():
    """There is nothing to carry, and nothing changes."""
    assert in_thread(bind(answer)) == "default"
    assert in_thread(bind(current_unit)) is None


def test_bound_async_function():
    """A coroutine function carries the unit onto another loop."""

    async def work():
        await asyncio.sleep(0)
        pin("default")
        return current_unit()

    with unit_of_work():
        bound = bind(work)
        assert in_thread(lambda: asyncio.run(bound())) is current_unit()
        assert is_pinned("default")


async def test_bound_async_function_in_a_task_of_another_unit():
    """The unit that was bound is worked for, and the task's own comes back."""
    with unit_of_work():
        bound = bind(awrite)
        written = current_unit()
    with unit_of_work():
        await bound()
        assert get_newly_pinned() == NO_PINS
        assert await aanswer() in FOLLOWERS
    assert written.sets["default"].written


# OUTSIDE_UNITS: "routed"


def test_routed_thread_has_a_unit_of_its_own(routed):
    """From its first read to its end, begun afresh by unpin_all()."""

    def work():
        first = answer()
        assert answer() == first
        pin("default")
        pinned = answer()
        unpin_all()
        return first, pinned, answer()

    first, pinned, fresh = in_thread(work)
    assert first in FOLLOWERS
    assert pinned == "default"
    assert fresh in FOLLOWERS


def test_routed_threads_share_nothing(routed):
    """A pool's thread remembers what was done in it; another one does not."""
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        one.submit(write).result()
        assert one.submit(answer).result() == "default"
        assert other.submit(answer).result() in FOLLOWERS
        for pool in (one, other):
            pool.submit(connections.close_all).result()


def test_routed_thread_refuses_as_a_unit_does(routed, settings):
    """An implicit unit is a unit."""
    settings.DATABASE_ROUTERS = ["django_replicas.routers.StrictPinRouter"]

    def work():
        with pytest.raises(Exception, match="was not pinned before"):
            write()
        with pin("default"):
            write()
        return answer()

    assert in_thread(work) == "default"


def test_routed_thread_and_explicit_units(routed):
    """A unit opened there sees the thread's writes, and its own hold in the thread."""

    def work():
        with unit_of_work():
            before = answer()
            write()
        return before, answer(), get_newly_pinned()

    before, after, newly = in_thread(work)
    assert before in FOLLOWERS
    assert after == "default"
    assert newly == {"default"}


def test_routed_blocks_restore(routed):
    """Blocks in an implicit unit come and go as in any other."""

    def work():
        chosen = answer()
        for verb in (pin, leader):
            with verb("default"):
                assert answer() == "default"
            assert answer() == chosen
        pin("default")
        with follower("default"):
            assert answer() == chosen
        return answer()

    assert in_thread(work) == "default"


def test_routed_thread_that_inherits_a_context_has_a_unit_of_its_own(routed):
    """Threads of free-threaded builds inherit it from who starts them, others by hand."""

    def work():
        pin("default")
        inherited = copy_context()
        return current_unit(), in_thread(inherited.run, lambda: (current_unit(), answer()))

    unit, (other, title) = in_thread(work)
    assert other is not None
    assert other is not unit
    assert title in FOLLOWERS


def test_routed_unit_is_bound_to_another_thread(routed):
    """bind() carries the thread's implicit unit as it does any other."""

    def work():
        in_thread(bind(write))
        return answer()

    assert in_thread(work) == "default"


def test_routed_bind_from_a_loop_gives_the_thread_its_own(routed):
    """Where there is no unit to carry, the thread has its implicit one, for the call."""

    async def work():
        return bind(lambda: (answer(), current_unit()))

    bound = in_thread(lambda: asyncio.run(work()))
    title, unit = in_thread(bound)
    assert title in FOLLOWERS
    assert unit is not None


def test_routed_tasks_of_one_loop_share_no_unit(routed):
    """On a loop, in its worker threads and in child tasks all is outside: the leader."""

    async def task():
        pin("default")
        await awrite()
        found = {current_unit(), await sync_to_async(current_unit)()}
        found |= set(await asyncio.gather(child(), child()))
        return found, await aanswer()

    async def child():
        return await sync_to_async(current_unit)()

    async def main():
        results = await asyncio.gather(task(), task())
        await sync_to_async(connections.close_all)()
        return results

    def work():
        before = answer()
        results = asyncio.run(main())
        return before, results, answer()

    before, results, after = in_thread(work)
    assert before in FOLLOWERS
    assert after == "default"  # The tasks wrote while this thread's unit waited for them.
    assert results == [({None}, "default")] * 2


def test_routed_worker_thread_of_no_loop_in_particular(routed):
    """`sync_to_async` without thread sensitivity uses threads that tasks share, too."""

    async def main():
        pin_in_thread = sync_to_async(lambda: (pin("default"), current_unit())[1])
        return await asyncio.gather(
            *(sync_to_async(current_unit, thread_sensitive=False)() for _ in range(8)),
            pin_in_thread(),
        )

    assert set(in_thread(lambda: asyncio.run(main()))) == {None}


def test_routed_to_thread_has_a_unit_for_the_call(routed):
    """A thread that knows no loop is a thread; what one call pins, the next does not know."""

    def call(pins):
        found = current_unit(), is_pinned("default")
        if pins:
            pin("default")
        return found

    async def main():
        return [await asyncio.to_thread(call, True) for _ in range(20)]

    results = in_thread(lambda: asyncio.run(main()))
    assert len({unit for unit, _ in results}) == 20
    assert {pinned for _, pinned in results} == {False}


def test_routed_thread_keeps_its_unit_after_asyncronous_work(routed):
    """A thread that ran a coroutine once is afterwards the thread that it was."""

    async def work_async():
        await sync_to_async(answer)()

    def work():
        before = answer()
        async_to_sync(work_async)()
        return before, answer()

    before, after = in_thread(work)
    assert before in FOLLOWERS
    assert after == before


def test_leader_is_the_default_outside_units_again(routed, settings):
    """Changing the setting back ends the implicit units."""

    def work():
        before = answer()
        settings.REPLICAS = {**settings.REPLICAS, "OUTSIDE_UNITS": "leader"}
        return before, answer(), current_unit()

    before, after, unit = in_thread(work)
    assert before in FOLLOWERS
    assert after == "default"
    assert unit is None


def test_work_at_the_end_of_a_unit():
    """It is done once, inside the unit, in the order in which it was asked for."""
    done = []
    with unit_of_work() as block:
        unit = block.unit
        unit.at_end(lambda: done.append(("first", current_unit() is unit)))
        unit.at_end(lambda: done.append(("second", current_unit() is unit)))
        assert done == []
    assert done == [("first", True), ("second", True)]


def test_another_role_for_the_whole_unit():
    """A unit whose role changes reads as its new role says, from the next read."""
    with unit_of_work(role="follower") as block:
        assert answer() in FOLLOWERS
        block.unit.role = Role.LEADER
        assert answer() == "default"
        assert current_scope().role is Role.LEADER


@pytest.mark.parametrize("alias", ["replica1", "nowhere"])
def test_get_follower_of_no_leader(alias):
    """Neither a follower nor an unknown alias has followers."""
    with pytest.raises(UnknownSetError, match=repr(alias)):
        get_follower(alias)


def test_no_such_role():
    """The message says which there are."""
    with pytest.raises(ValueError, match=r"^'writer' is no role: choose 'leader' or 'follower'\.$"):
        unit_of_work(role="writer")


def test_get_follower_inside_a_follower_block_outside_units():
    """One block, one follower: subqueries made with ``using()`` fit the block's own reads."""
    for _ in range(20):
        with follower("default"):
            assert get_follower("default") == answer()


def test_unpin_all_waits_for_a_write_that_is_being_noted():
    """Whichever comes first, what was written is handed on."""
    for _ in range(200):
        with unit_of_work() as block:
            answer()
            threads = [
                Thread(target=bind(unpin_all)),
                Thread(target=bind(lambda unit=block.unit: unit.note_write("default"))),
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert set(take_marks(block.unit)) == {"default"}


def test_marks_are_loaded_once_for_all_threads():
    """A thread that asks while another loads does not take the marks for none."""
    loading, go_on = Event(), Event()

    def load():
        loading.set()
        go_on.wait()
        return {"default": Mark.lasting(60)}

    unit = Unit(load)
    answers = []
    threads = [Thread(target=lambda: answers.append(unit.is_marked("default"))) for _ in range(2)]
    for thread in threads:
        thread.start()
        loading.wait()
    go_on.set()
    for thread in threads:
        thread.join()
    assert answers == [True, True]
    assert unit.is_marked("default")
