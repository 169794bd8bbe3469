"""What marks cost in queries, and what one of those queries costs.

Counted are the statements that whole requests send to real PostgreSQL servers beside the page's
own, with one, two and eight followers. (The eight are eight aliases over two servers: the router
cannot tell.) Timed is each of them on an open connection, between two plain queries on that same
connection, by the wall: most of it is the server's time and the way there.
"""

import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from timeit import Timer
from typing import Any

from django.core.handlers.wsgi import WSGIHandler
from django.core.wsgi import get_wsgi_application
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.test import RequestFactory
from django.utils.module_loading import import_string

from django_replicas.conf import get_config
from django_replicas.followers import followers_of
from django_replicas.positions import PostgreSQL, WalPosition
from servers.postgres import Cluster

from .contenders import GREEDY, LEADER, ROWS, Contender, ask_page, configure
from .measure import (
    SEED,
    Answers,
    Seconds,
    Target,
    command_line,
    processes,
    report,
    rows_of,
    seconds_per_call,
)

FOLLOWERS = (1, 2, 8)
REQUESTS = 20
CALLS = 20

Databases = Mapping[str, Mapping[str, Any]]

# Each request of a scenario: its method, its page, and whether a user sends it who just wrote.
SCENARIOS = {
    "a unit that neither writes nor is marked": ("GET", "/read", False),
    "a unit that writes": ("POST", "/write", False),
    "a unit that writes, and is marked": ("POST", "/write", True),
    "a unit with four carriers that writes twice": ("POST", "/write-and-queue", False),
    "a marked unit": ("GET", "/read", True),
}
BEHIND = "a marked unit, all followers behind"
KNOWN = "a marked unit, its follower known to be past the mark"
ALLOWED = {
    "a unit that neither writes nor is marked": {0},
    "a unit that writes": {1},
    "a unit that writes, and is marked": {1},
    "a unit with four carriers that writes twice": {2},
    "a marked unit": {0, 1},
    BEHIND: {1},
    KNOWN: {0},
}


def main() -> int:
    arguments = command_line(__doc__ or "", rounds=40)
    began = time.monotonic()
    with Cluster(major=18) as cluster:
        with processes(partial(prepare_tables, databases(cluster, 0)), [GREEDY]) as asked:
            asked[GREEDY.name].ask("create")
        cluster.wait_for_replay()
        counted = {number: _counted(cluster, number) for number in FOLLOWERS}
        seconds = _timed(cluster, arguments.rounds)
    targets = [
        Target(
            f"{scenario}: {' or '.join(map(str, sorted(allowed)))} more",
            ", ".join(
                f"{_span(counts[scenario])} with {number}" for number, counts in counted.items()
            ),
            all(counts[scenario] <= allowed for counts in counted.values()),
        )
        for scenario, allowed in ALLOWED.items()
    ]
    return report(rows_of(seconds), targets, arguments.json, began)


def databases(cluster: Cluster, followers: int) -> Databases:
    """Return the settings of a leader and of so many aliases of its followers."""
    servers = {LEADER: cluster.leader} | {
        f"follower{number}": cluster.followers[number % len(cluster.followers)]
        for number in range(followers)
    }
    return {
        alias: {**server.django_database(), "CONN_MAX_AGE": None}
        for alias, server in servers.items()
    }


Counts = dict[str, set[int]]


def _span(counts: set[int]) -> str:
    return " to ".join(map(str, sorted({min(counts), max(counts)})))


def _counted(cluster: Cluster, followers: int) -> Counts:
    with processes(partial(prepare, databases(cluster, followers)), [GREEDY]) as asked:
        site = asked[GREEDY.name]
        counts = {name: set(site.ask("count", *scenario)) for name, scenario in SCENARIOS.items()}
        cluster.wait_for_replay()
        counts[KNOWN] = set(site.ask("count known", followers))
        with _paused(cluster):
            counts[BEHIND] = set(site.ask("count", *SCENARIOS["a marked unit"]))
        cluster.wait_for_replay()
    return counts


@contextmanager
def _paused(cluster: Cluster) -> Iterator[None]:
    for follower in cluster.followers:
        follower.pause_replay()
    yield
    for follower in cluster.followers:
        follower.resume_replay()


def _timed(cluster: Cluster, rounds: int) -> Seconds:
    with processes(partial(prepare, databases(cluster, 2)), [GREEDY]) as asked:
        seconds: Seconds = asked[GREEDY.name].ask("time", rounds)
    return seconds


# In the site's process


def prepare_tables(databases: Databases, contender: Contender, folder: Path) -> Answers:
    configure(contender, databases, "benchmarks.views")
    return {"create": _create}


def _create() -> None:
    note = import_string("benchmarks.models.Note")
    with connections[LEADER].schema_editor() as editor:
        editor.create_model(note)
    note.objects.using(LEADER).bulk_create(note(title="before") for _ in range(ROWS))


def prepare(databases: Databases, contender: Contender, folder: Path) -> Answers:
    """Make the site and return how to count and to time on it."""
    configure(contender, databases, "benchmarks.views")
    counter = Counter(get_wsgi_application())
    return {"count": counter.count, "count known": counter.count_known, "time": _time}


class Counter:
    """Counts the statements beside a page's own, which are all about the one table there is."""

    def __init__(self, handler: WSGIHandler) -> None:
        self._handler = handler
        self._more = 0
        connection_created.connect(self._watch)

    def count(self, method: str, page: str, is_marked: bool) -> list[int]:
        """Return how many more statements each of a number of requests made."""
        return [self._ask(method, page, self._mark() if is_marked else "") for _ in range(REQUESTS)]

    def count_known(self, followers: int) -> list[int]:
        """Do so for requests of one user, who has been to every follower."""
        mark = self._mark()
        self._until_nobody_is_asked(mark, followers)
        return [self._ask("GET", "/read", mark) for _ in range(REQUESTS)]

    def _until_nobody_is_asked(self, mark: str, followers: int) -> None:
        silent = 0
        while silent < 10 * followers:
            silent = 0 if self._ask("GET", "/read", mark) else silent + 1

    def _mark(self) -> str:
        """Write as somebody new, and return the cookie that this user has now."""
        headers = ask_page(self._handler, RequestFactory().post("/write").environ)
        [cookie] = [value for name, value in headers if name == "Set-Cookie"]
        return cookie.partition(";")[0]

    def _ask(self, method: str, page: str, cookie: str) -> int:
        environ = RequestFactory().generic(method, page).environ
        self._more = 0
        ask_page(self._handler, {**environ, "HTTP_COOKIE": cookie})
        return self._more

    def _watch(self, connection: BaseDatabaseWrapper, **kwargs: object) -> None:
        connection.execute_wrappers.append(self._note)

    def _note(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        self._more += "benchmarks_note" not in sql
        return execute(sql, params, many, context)


PLAIN = "plain query"
ON_LEADER = "on the leader, whenever a unit wrote"
ON_FOLLOWER = "on a follower, whenever a marked unit asks"


def _time(rounds: int) -> Seconds:
    """Time each question *rounds* times, by turns."""
    questions = {ON_LEADER: _of_leader(), ON_FOLLOWER: _of_follower()}
    seconds: Seconds = {
        where: {name: [] for name in by_name} for where, by_name in questions.items()
    }
    shuffle = random.Random(SEED).shuffle
    for _ in range(rounds):
        for where, by_name in questions.items():
            order = list(by_name)
            shuffle(order)
            for name in order:
                timer = Timer(by_name[name], timer=time.perf_counter)
                seconds[where][name].append(seconds_per_call(timer, CALLS))
    return seconds


def _of_leader() -> dict[str, Callable[[], Any]]:
    connection = connections[LEADER]
    written = partial(PostgreSQL().written, connection)
    return {
        PLAIN: partial(_plain, connection),
        f"{PLAIN}, again": partial(_plain, connection),
        "position, flushed": partial(written, flushed=True),
        "position, inserted": partial(written, flushed=False),
    }


def _of_follower() -> dict[str, Callable[[], Any]]:
    alias = "follower0"
    connection = connections[alias]
    has_replayed = followers_of(get_config().topology.by_leader[LEADER]).has_replayed
    reached = WalPosition(timeline=0, lsn=0)
    # Nobody ever knows a follower to be there, so that it is asked each time.
    never_reached = WalPosition(timeline=0, lsn=1 << 63)
    return {
        PLAIN: partial(_plain, connection),
        f"{PLAIN}, again": partial(_plain, connection),
        "position, asked with a deadline": partial(has_replayed, alias, never_reached),
        "position, known": partial(has_replayed, alias, reached),
    }


def _plain(connection: BaseDatabaseWrapper) -> Any:
    with connection.cursor() as cursor:
        cursor.execute("SELECT title FROM benchmarks_note WHERE id = 1")
        return cursor.fetchone()


if __name__ == "__main__":
    sys.exit(main())
