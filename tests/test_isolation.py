"""No unit of work is ever seen by another, whatever threads and tasks do at once.

Each of them draws random steps and takes them twice: for real, and in a model of its own that is
plain Python and knows nothing of the package. After every step both must say the same.
"""

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Barrier, Lock

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from django_replicas import (
    follower,
    get_newly_pinned,
    get_pinned,
    is_pinned,
    leader,
    pin,
    unit_of_work,
    unpin_all,
    use_follower,
    use_leader,
)
from django_replicas.exceptions import WriteRefusedError

from .shop.models import Book, Shelf

AT_ONCE = 64
ONE_WRITER = Lock()  # SQLite has one at a time, and is unfair to those who wait
FOLLOWERS = {"default": {"replica1", "replica2"}, "other": {"other-0"}}
ALIASES = sorted(FOLLOWERS)
ROLES = [None, "leader", "follower"]
ROUTERS = ["GreedyPinRouter", "LeaderFollowerRouter", "StrictPinRouter"]


class ModelUnit:
    """What one unit of work knows of each set."""

    def __init__(self, must_see=()):
        self.must_see = set(must_see)  # came from the unit around it, and stays for those inside
        self.marked = set(must_see)
        self.wrote = set()  # ever
        self.written = set()  # since it last began afresh
        self.pinned = set()
        self.newly = set()
        self.chosen = {}

    def begin_afresh(self):
        self.marked, self.written, self.pinned = set(), set(), set()
        self.newly = set(self.wrote)
        self.chosen = {}


class ModelFrame:
    """One open block: what holds inside of it."""

    def __init__(self, unit=None, role=None, overrides=(), pinned=()):
        self.unit = unit
        self.role = role
        self.overrides = dict(overrides)
        self.pinned = frozenset(pinned)
        self.chosen_outside = {}

    def but(self, **changes):
        frame = ModelFrame(self.unit, self.role, self.overrides, self.pinned)
        frame.chosen_outside = self.chosen_outside
        for name, value in changes.items():
            setattr(frame, name, value)
        return frame


class Model:
    """What the promises say, for one thread or task."""

    def __init__(self, router, frames=None):
        self.router = router
        self.frames = frames or [ModelFrame()]

    def child(self):
        """Return the model of a task that this one starts: its unit is shared, its blocks not."""
        return Model(self.router, [self.frame])

    @property
    def frame(self):
        return self.frames[-1]

    @property
    def unit(self):
        return self.frame.unit

    def enter(self, kind, argument):
        frame = self.frame
        if kind == "unit":
            must_see = () if frame.unit is None else frame.unit.must_see | frame.unit.wrote
            frame = frame.but(unit=ModelUnit(must_see), role=argument, pinned=frozenset())
        elif kind == "role":
            frame = frame.but(role=argument)
        elif kind == "pin":
            frame = frame.but(pinned=frame.pinned | {argument} if frame.unit else frozenset())
        else:
            if frame.unit is None and not frame.overrides:
                frame = frame.but(chosen_outside={})
            frame = frame.but(overrides={**frame.overrides, argument: kind})
        self.frames.append(frame)

    def leave(self):
        left = self.frames.pop().unit
        if left is not self.unit and self.unit is not None:
            for alias in left.wrote:
                self._note_write(alias)

    def pin(self, alias, count_as_new):
        if self.unit is not None:
            self.unit.pinned.add(alias)
            if count_as_new:
                self.unit.newly.add(alias)

    def unpin_all(self):
        if self.unit is not None:
            self.unit.begin_afresh()

    def refuses_write(self, alias):
        if self.unit is None or self.frame.overrides.get(alias) == "leader":
            return False
        if self.router == "LeaderFollowerRouter":
            return self.frame.role == "follower"
        return self.router == "StrictPinRouter" and alias not in self.pinned()

    def write(self, alias):
        if self.unit is not None and self.frame.overrides.get(alias) != "leader":
            self._note_write(alias)

    def _note_write(self, alias):
        for group in (self.unit.wrote, self.unit.written, self.unit.newly):
            group.add(alias)

    def pinned(self):
        if self.unit is None:
            return set()
        return self.unit.pinned | self.unit.written | self.frame.pinned

    def newly(self):
        return set() if self.unit is None else self.unit.newly

    def reads_leader(self, alias):
        override = self.frame.overrides.get(alias)
        if override is not None:
            return override == "leader"
        if self.unit is None or self.frame.role == "leader":
            return True
        if self.router == "LeaderFollowerRouter" and self.frame.role is None:
            return True
        return alias in self.pinned() | self.unit.marked

    def accepts(self, alias, answer):
        """Tell whether a read of a set may have been answered so; its follower is settled by it."""
        if self.reads_leader(alias):
            return answer == alias
        chosen = self.frame.chosen_outside if self.unit is None else self.unit.chosen
        return answer in FOLLOWERS[alias] and chosen.setdefault(alias, answer) == answer


class Player:
    """Takes each step for real and in the model."""

    def __init__(self, model):
        self.model = model
        self.blocks = []
        self.log = []

    def story(self):
        """Tell how it came to a difference."""
        return "\n".join(" ".join(map(str, step)) for step in self.log[-40:])

    def enter(self, kind, argument):
        self.log.append(("enter", kind, argument))
        block = make_block(kind, argument)
        block.__enter__()
        self.blocks.append(block)
        self.model.enter(kind, argument)

    def leave(self, error=None):
        self.log.append(("leave", error))
        block = self.blocks.pop()
        assert not block.__exit__(type(error) if error else None, error, None)
        self.model.leave()

    def pin(self, alias, count_as_new):
        self.log.append(("pin", alias, count_as_new))
        pin(alias, count_as_new)
        self.model.pin(alias, count_as_new)

    def unpin_all(self):
        self.log.append(("unpin_all",))
        unpin_all()
        self.model.unpin_all()

    def wrote(self, alias, done):
        self.log.append(("write", alias, done))
        assert done is not self.model.refuses_write(alias), self.story()
        if done:
            self.model.write(alias)

    def has_read(self, alias, answer):
        self.log.append(("read", alias, answer))
        assert self.model.accepts(alias, answer), self.story()

    def compare(self, aliases=ALIASES):
        for alias in aliases:
            assert is_pinned(alias) is (alias in self.model.pinned()), self.story()
            assert (alias in get_pinned()) is (alias in self.model.pinned()), self.story()
            assert (alias in get_newly_pinned()) is (alias in self.model.newly()), self.story()


def make_block(kind, argument):
    if kind == "unit":
        return unit_of_work(role=argument)
    return {"pin": pin, "leader": leader, "follower": follower}[kind](argument)


def read(alias):
    return Book.objects.get(pk=1).title if alias == "default" else Shelf.objects.get(pk=1).name


def write(alias):
    """Try to write, and tell whether it was allowed."""
    model, field = (Book, "note") if alias == "default" else (Shelf, "name")
    try:
        with ONE_WRITER:
            model.objects.filter(pk=-1).update(**{field: "never"})
    except WriteRefusedError:
        return False
    return True


class SetByModel:
    """Keeps the shelves in the set that "other" leads."""

    def db_for_read(self, model, **hints):
        return "other" if model is Shelf else None

    db_for_write = db_for_read


@pytest.fixture(autouse=True, params=ROUTERS)
def router(request, settings):
    """Run everything on each router, over two sets."""
    settings.DATABASE_ROUTERS = [f"django_replicas.routers.{request.param}"]
    settings.REPLICAS = {
        "SETS": {"default": ["replica1", "replica2"], "other": ["other-0"]},
        "DELEGATE_ROUTERS": [SetByModel()],
    }
    return request.param


def draw_step(dice, depth, aliases=ALIASES):
    """Return the name of a step, and what it is about."""
    names = ["pin", "unpin_all", "write", "write", "read", "read", "read", "read"]
    names += ["enter"] * (3 if depth < 5 else 0) + ["role"] + ["leave"] * (2 if depth else 0)
    name = dice.choice(names)
    alias = dice.choice(aliases)
    if name == "enter":
        kind = dice.choice(["unit", "unit", "pin", "leader", "follower"])
        return name, (kind, dice.choice(ROLES) if kind == "unit" else alias)
    if name == "pin":
        return name, (alias, dice.choice([True, False]))
    if name == "role":
        return name, (dice.choice(["leader", "follower"]), alias)
    if name == "leave":
        return name, (dice.choice([None, ZeroDivisionError()]),)
    return name, () if name == "unpin_all" else (alias,)


# Threads


def play(dice, model, steps):
    player = Player(model)
    for _ in range(steps):
        take(player, *draw_step(dice, len(player.blocks)))
        player.compare()
    while player.blocks:
        player.leave()
        player.compare()


def take(player, name, arguments):
    if name == "read":
        player.has_read(*arguments, read(*arguments))
    elif name == "write":
        player.wrote(*arguments, write(*arguments))
    elif name == "role":
        take_in_role(player, *arguments)
    else:
        getattr(player, name)(*arguments)


def take_in_role(player, role, alias):
    """Call a decorated function; outside units the call is a unit."""
    kind = "unit" if player.model.unit is None else "role"
    decorate = use_leader if role == "leader" else use_follower

    @decorate
    def work():
        player.log.append(("called in role", role))
        player.model.enter(kind, role)
        player.has_read(alias, read(alias))
        player.wrote(alias, write(alias))
        player.has_read(alias, read(alias))
        player.compare()
        player.model.leave()

    work()


def test_threads(router):
    """64 threads at once, each on its own."""
    together = Barrier(AT_ONCE)
    seeds = [random.random() for _ in range(AT_ONCE)]

    def work(seed):
        try:
            together.wait()
            play(random.Random(seed), Model(router), steps=40)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for future in [pool.submit(work, seed) for seed in seeds]:
            future.result()


def test_jobs_of_a_few_threads(router):
    """What one job leaves undone is not there for the next job on its thread."""
    seeds = [random.random() for _ in range(AT_ONCE)]

    def job(seed):
        dice = random.Random(seed)
        with unit_of_work():
            model = Model(router)
            model.enter("unit", None)
            play(dice, model, steps=20)
            pin(dice.choice(ALIASES))

    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(job, seed) for seed in seeds]
        wait(jobs)
        together = Barrier(2)
        for _ in range(2):
            pool.submit(lambda: (together.wait(), connections.close_all()))
    for future in jobs:
        future.result()


# Tasks


async def play_async(dice, player, steps, aliases=ALIASES, children=True):
    for _ in range(steps):
        name, arguments = draw_step(dice, len(player.blocks), aliases)
        if children and dice.random() < 0.1:
            await play_children(dice, player)
        elif name == "role":
            await take_in_role_async(dice, player, *arguments)
        else:
            await take_async(dice, player, name, arguments, children)
        player.compare(aliases)
    while player.blocks:
        player.leave()
        player.compare(aliases)


async def all_of(*coroutines):
    """Run all of them to their ends, and only then raise what one of them has raised."""
    for result in await asyncio.gather(*coroutines, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


async def take_async(dice, player, name, arguments, children):
    if name == "read":
        player.has_read(*arguments, await call(dice, read, *arguments))
    elif name == "write":
        player.wrote(*arguments, await call(dice, write, *arguments))
    elif name == "pin" and dice.random() < 0.5:
        await sync_to_async(player.pin)(*arguments)
    elif name != "unpin_all" or children:
        getattr(player, name)(*arguments)
    if dice.random() < 0.5:
        await asyncio.sleep(0)


async def call(dice, function, alias):
    """Run a query in one of the ways that code on an event loop has for it."""
    return await dice.choice([in_shared_thread, in_any_thread, in_executor])(function, alias)


async def in_shared_thread(function, alias):
    if function is read and alias == "default":
        return (await Book.objects.aget(pk=1)).title
    return await sync_to_async(function)(alias)


async def in_any_thread(function, alias):
    return await sync_to_async(closing(function), thread_sensitive=False)(alias)


async def in_executor(function, alias):
    return await asyncio.to_thread(closing(function), alias)


def closing(function):
    def call(alias):
        try:
            return function(alias)
        finally:
            connections.close_all()

    return call


async def take_in_role_async(dice, player, role, alias):
    kind = "unit" if player.model.unit is None else "role"
    decorate = use_leader if role == "leader" else use_follower

    @decorate
    async def work():
        player.log.append(("called in role", role))
        player.model.enter(kind, role)
        player.has_read(alias, await call(dice, read, alias))
        player.wrote(alias, await call(dice, write, alias))
        player.has_read(alias, await call(dice, read, alias))
        player.compare([alias])
        player.model.leave()

    await work()


async def play_children(dice, player):
    """Start two tasks in this one's unit; each has a set to itself, so that it can tell."""
    player.log.append(("children",))
    children = [Player(player.model.child()) for _ in ALIASES]
    dices = [random.Random(dice.random()) for _ in ALIASES]
    await all_of(
        *(
            play_async(own, child, 6, [alias], children=False)
            for own, child, alias in zip(dices, children, ALIASES, strict=True)
        )
    )


async def test_tasks(router):
    """64 tasks on one loop, mixing awaits, threads and child tasks."""
    try:
        await all_of(
            *(
                play_async(random.Random(random.random()), Player(Model(router)), steps=20)
                for _ in range(AT_ONCE)
            )
        )
    finally:
        await sync_to_async(connections.close_all)()


async def test_cancelled_tasks(router):
    """A task that is cancelled anywhere leaves nothing to those that go on."""

    async def endless():
        await play_async(random.Random(random.random()), Player(Model(router)), steps=10_000)

    try:
        tasks = [asyncio.create_task(endless()) for _ in range(8)]
        for task in tasks:
            await play_async(random.Random(random.random()), Player(Model(router)), steps=5)
            task.cancel()
            assert isinstance(
                (await asyncio.gather(task, return_exceptions=True))[0], BaseException
            )
            assert task.cancelled()
    finally:
        await sync_to_async(connections.close_all)()


# One at a time, and every sequence that Hypothesis thinks of


class Pinning(RuleBasedStateMachine):
    """Steps in any order; the shortest sequence that differs from the model is what is reported."""

    router = None

    def __init__(self):
        super().__init__()
        self.player = Player(Model(self.router))

    @rule(kind=st.sampled_from(["pin", "leader", "follower"]), alias=st.sampled_from(ALIASES))
    def enter_block(self, kind, alias):
        self.player.enter(kind, alias)

    @rule(role=st.sampled_from(ROLES))
    def enter_unit(self, role):
        self.player.enter("unit", role)

    @precondition(lambda self: self.player.blocks)
    @rule(error=st.sampled_from([None, ZeroDivisionError()]))
    def leave(self, error):
        self.player.leave(error)

    @rule(alias=st.sampled_from(ALIASES), count_as_new=st.booleans())
    def pin(self, alias, count_as_new):
        self.player.pin(alias, count_as_new)

    @rule()
    def unpin_all(self):
        self.player.unpin_all()

    @rule(alias=st.sampled_from(ALIASES))
    def read(self, alias):
        take(self.player, "read", (alias,))

    @rule(alias=st.sampled_from(ALIASES))
    def write(self, alias):
        take(self.player, "write", (alias,))

    @rule(role=st.sampled_from(["leader", "follower"]), alias=st.sampled_from(ALIASES))
    def call_in_role(self, role, alias):
        take_in_role(self.player, role, alias)

    def check_invariants(self, *args, **kwargs):
        self.player.compare()
        super().check_invariants(*args, **kwargs)

    def teardown(self):
        while self.player.blocks:
            self.player.leave()


def test_every_sequence(router):
    """The single case, searched by Hypothesis."""
    machine = type("PinningOn" + router, (Pinning,), {"router": router})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
