"""What single decisions cost, inside a unit of work that has chosen its follower.

Each contender's decisions are timed where a view would make them: inside its own middleware, for a
GET where reads are asked about and for a POST where writes are. Nobody needs a database for an
answer, so these are nanoseconds, and the loop around them is ``timeit``'s.

What it costs that a leader's statements are looked at is shown twice: as they are executed, which
is what a site notices, and alone, where a statement reaches the end of Django's execute wrappers
and nothing happens there.

Two promises are no times: a million decisions leave no memory behind, and a GET that only reads
models opens one follower's connection and no other.
"""

import gc
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import process_time
from timeit import Timer
from typing import Any

from django.core.wsgi import get_wsgi_application
from django.db import connections, router
from django.db.backends.signals import connection_created
from django.test import RequestFactory
from django.utils.module_loading import import_string

from .contenders import (
    FOLLOWERS,
    GREEDY,
    LEADER,
    MULTIDB,
    NO_ROUTER,
    OURS,
    Contender,
    answer_inside,
    ask_page,
    set_up_site,
)
from .measure import (
    Answers,
    Prepare,
    Process,
    Ratio,
    Seconds,
    Target,
    at_most,
    command_line,
    measure,
    processes,
    report,
    rows_of,
    seconds_per_call,
)

AGAIN = replace(MULTIDB, name=f"{MULTIDB.name}, again")
WITH_ROUTER = (MULTIDB, AGAIN, *OURS)
EVERYBODY = (*WITH_ROUTER, NO_ROUTER)

READ = "db_for_read, on the router itself"
READ_VIA_DJANGO = "db_for_read, through django.db.router"

# The method of the unit, and what is timed inside it; for these a contender needs a router.
DECISIONS = {
    READ: ("GET", "router.db_for_read(Note)"),
    "db_for_write, on the router itself": ("POST", "router.db_for_write(Note)"),
}
# For these it needs none: Django answers, or its cursor executes.
ACTS = {
    READ_VIA_DJANGO: ("GET", "django_router.db_for_read(Note)"),
    "db_for_read, for what is related to an object": (
        "GET",
        "django_router.db_for_read(Note, instance=note)",
    ),
    "db_for_write, through django.db.router": ("POST", "django_router.db_for_write(Note)"),
    "db_for_write, to save an object": (
        "POST",
        "django_router.db_for_write(Note, instance=note)",
    ),
    "SELECT on the leader, executed": ("POST", "cursor.execute(select, (1,))"),
    "INSERT on the leader, executed": ("POST", "cursor.execute(insert, values)"),
    "SELECT on the leader, wrappers alone": ("POST", "reach(select, None, False, nothing)"),
    "INSERT on the leader, wrappers alone": ("POST", "reach(insert, None, False, nothing)"),
    "UPDATE on the leader, wrappers alone": ("POST", "reach(update, None, False, nothing)"),
}
INSERT = (
    'INSERT INTO "benchmarks_note" ("title", "text", "author", "language", "rating") '
    'VALUES (%s, %s, %s, %s, %s) RETURNING "benchmarks_note"."id"'
)
UPDATE = (
    'UPDATE "benchmarks_note" SET "title" = %s, "text" = %s, "author" = %s, "language" = %s, '
    '"rating" = %s WHERE "benchmarks_note"."id" = %s'
)

MANY = 1_000_000
# What Python itself may hold more of by then: a larger counter, a specialised instruction.
FEW_BLOCKS = 20
FEW_BYTES = 2_000
PAGES = 25


def main() -> int:
    arguments = command_line(__doc__ or "", rounds=40)
    began = time.monotonic()
    everybody = [contender.name for contender in EVERYBODY]
    with_router = [contender.name for contender in WITH_ROUTER]
    scenarios = dict.fromkeys(DECISIONS, with_router) | dict.fromkeys(ACTS, everybody)
    seconds = measure(prepare, EVERYBODY, scenarios, arguments.rounds, generations=5)
    targets = [_near_multidb(seconds, scenario) for scenario in (READ, READ_VIA_DJANGO)]
    targets += _what_is_no_time(prepare_pages)
    return report(rows_of(seconds), targets, arguments.json, began)


def _near_multidb(seconds: Seconds, scenario: str) -> Target:
    ratio = Ratio.between(seconds[scenario][GREEDY.name], seconds[scenario][MULTIDB.name])
    return at_most(f"{scenario} within 1.5 times {MULTIDB.name}'s", ratio, 1.5)


def _what_is_no_time(prepare: Prepare) -> list[Target]:
    with processes(prepare, OURS) as asked:
        return [
            target
            for name, process in asked.items()
            for target in (_steady_memory(name, process), _one_connection(name, process))
        ]


def _steady_memory(name: str, process: Process) -> Target:
    blocks, size = process.ask("growth")
    return Target(
        f"{name}: no memory grows over {MANY:,} decisions",
        f"{blocks} blocks, {size} bytes",
        blocks <= FEW_BLOCKS and size <= FEW_BYTES,
    )


def _one_connection(name: str, process: Process) -> Target:
    opened = process.ask("opened")
    return Target(
        f"{name}: a GET that only reads opens one follower's connection and no other",
        f"{PAGES} GETs opened {', '.join(sorted({' and '.join(each) for each in opened}))}",
        all(len(each) == 1 and each[0] in FOLLOWERS for each in opened),
    )


# In a contender's process


def prepare(contender: Contender, folder: Path) -> Answers:
    """Make the contender's site and return how to time each scenario on it."""
    set_up_site(contender, folder)
    names = _names()
    return {
        scenario: partial(
            _time_inside, contender, method, Timer(statement, timer=process_time, globals=names)
        )
        for scenario, (method, statement) in (DECISIONS | ACTS).items()
    }


def _names() -> dict[str, Any]:
    note = import_string("benchmarks.models.Note")
    cursor = connections[LEADER].cursor()
    return {
        "Note": note,
        "note": note.objects.using(FOLLOWERS[0]).first(),
        "router": next(iter(router.routers), None),
        "django_router": router,
        "cursor": cursor,
        "select": note.objects.filter(pk=1).query.sql_with_params()[0],
        "insert": INSERT,
        "update": UPDATE,
        "values": ("title", "text", "author", "en", 0),
        "reach": cursor._execute_with_wrappers,
        "nothing": _nothing,
    }


def _nothing(*arguments: object) -> None:
    """Stand where a statement is executed."""


def _time_inside(contender: Contender, method: str, timer: Timer, number: int) -> float:
    seconds = answer_inside(contender, method, lambda: seconds_per_call(timer, number))
    return float(seconds)


def prepare_pages(contender: Contender, folder: Path) -> Answers:
    """Make a site without persistent connections, and return how to ask what is no time."""
    set_up_site(contender, folder, max_age=0)
    return {"growth": partial(_growth, contender), "opened": _opened}


def _growth(contender: Contender) -> tuple[int, int]:
    """Return how many blocks and bytes more there are after so many decisions of one unit."""
    note = import_string("benchmarks.models.Note")
    decide = Timer("decide(Note)", globals={"decide": router.db_for_read, "Note": note}).timeit

    def grown(held: Callable[[], int]) -> int:
        decide(1000)
        gc.collect()
        before = held()
        decide(MANY)
        gc.collect()
        return held() - before

    def all_grown() -> tuple[int, int]:
        blocks = grown(sys.getallocatedblocks)
        tracemalloc.start()
        size = grown(lambda: tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        return blocks, size

    blocks, size = answer_inside(contender, "GET", all_grown)
    return blocks, size


def _opened() -> list[list[str]]:
    """Return the aliases whose connections were opened, GET by GET."""
    handler = get_wsgi_application()
    connections.close_all()
    opened: list[list[str]] = []

    def note_it(connection: Any, **kwargs: object) -> None:
        opened[-1].append(connection.alias)

    connection_created.connect(note_it)
    for _ in range(PAGES):
        opened.append([])
        ask_page(handler, RequestFactory().get("/read").environ)
    return opened


if __name__ == "__main__":
    sys.exit(main())
