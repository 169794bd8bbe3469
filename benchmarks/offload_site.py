"""One contender's site and its users, in a process of its own."""

import heapq
import json
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http.cookies import SimpleCookie
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import psycopg
from django.core.handlers.wsgi import WSGIHandler
from django.core.wsgi import get_wsgi_application
from django.db import connections
from django.test import RequestFactory
from django.utils.module_loading import import_string

from .contenders import FOLLOWERS, LEADER, Contender, ask, configure
from .load import Plan, Visit, visits
from .measure import Answers

THREADS = 2
MOST_USERS = 1000
URLCONF = "benchmarks.own"

Databases = Mapping[str, Mapping[str, Any]]
User = tuple["Browser", Iterator[Visit]]


@dataclass
class Tally:
    """Counts of reads: all, by followers, those that a follower could have answered, in vain."""

    reads: int = 0
    by_followers: int = 0
    could: int = 0
    missing: int = 0

    @property
    def share(self) -> float:
        return self.by_followers / max(1, self.reads)

    @property
    def ideal(self) -> float:
        return self.could / max(1, self.reads)

    @property
    def missing_rate(self) -> float:
        return self.missing / max(1, self.reads) * 10_000

    def note(self, alias: str, had_it: bool, could: bool) -> None:
        self.reads += 1
        self.by_followers += alias != LEADER
        self.could += could
        self.missing += not had_it

    def __add__(self, other: Self) -> "Tally":
        return Tally(
            self.reads + other.reads,
            self.by_followers + other.by_followers,
            self.could + other.could,
            self.missing + other.missing,
        )


def prepare_tables(databases: Databases, contender: Contender, folder: Path) -> Answers:
    """Make a site without a router, and return how to create the users' rows with it."""
    configure(contender, databases, URLCONF)
    return {"create": _create}


def _create(contenders: int) -> None:
    note = import_string("benchmarks.models.Note")
    with connections[LEADER].schema_editor() as editor:
        editor.create_model(note)
    note.objects.bulk_create(note(pk=pk) for pk in range(contenders * MOST_USERS))


def prepare(databases: Databases, judged: str, contender: Contender, folder: Path) -> Answers:
    """Make the contender's site and return how to let users visit; the ideal is asked of *judged*.

    What a user wrote is looked for by the version, which grows from one run to the next.
    """
    configure(contender, databases, URLCONF)
    if contender.name == judged:
        vars(import_module(URLCONF))["follower_has"] = FollowerHas(databases)
    versions: dict[int, int] = {}
    return {"wait": lambda: None, "visit": partial(_visit, get_wsgi_application(), versions)}


class FollowerHas:
    """Tells whether a follower shows a version of a note now, on connections that are its own."""

    def __init__(self, databases: Databases) -> None:
        self._followers = [databases[alias] for alias in FOLLOWERS]
        self._here = threading.local()

    def __call__(self, pk: int, version: int) -> bool:
        query = "SELECT rating >= %s FROM benchmarks_note WHERE id = %s"
        return any(
            connection.execute(query, (version, pk)).fetchone() == (True,)
            for connection in self._connections()
        )

    def _connections(self) -> list[psycopg.Connection]:
        if not hasattr(self._here, "connections"):
            self._here.connections = [_connect(follower) for follower in self._followers]
        connections: list[psycopg.Connection] = self._here.connections
        return connections


def _connect(database: Mapping[str, Any]) -> psycopg.Connection:
    return psycopg.connect(
        host=database["HOST"],
        port=database["PORT"],
        dbname=database["NAME"],
        user=database["USER"],
        password=database["PASSWORD"],
        autocommit=True,
    )


def _visit(
    handler: WSGIHandler,
    versions: dict[int, int],
    number: int,
    start: float,
    plan: Plan,
    share: float,
) -> list[Tally]:
    """Let the users of contender *number* visit from *start* on; return a tally for each part."""
    users = [
        (Browser(handler, number * MOST_USERS + user, versions), visits(plan, user, share))
        for user in range(plan.users)
    ]
    with ThreadPoolExecutor(THREADS) as pool:
        serve = partial(_serve, start, plan)
        by_thread = list(pool.map(serve, (users[thread::THREADS] for thread in range(THREADS))))
    return [sum(tallies, Tally()) for tallies in zip(*by_thread, strict=True)]


def _serve(start: float, plan: Plan, users: list[User]) -> list[Tally]:
    """Answer one user after the other, as a thread of a server does."""
    tallies = [Tally() for _ in plan.ends]
    due = [
        (start + visit.rest, n, visit) for n, (_, own) in enumerate(users) for visit in [next(own)]
    ]
    heapq.heapify(due)
    while due[0][0] < start + plan.ends[-1]:
        moment, number, visit = due[0]
        time.sleep(max(0.0, moment - time.time()))
        browser, own = users[number]
        tally = tallies[plan.part_of(time.time() - start)]
        for answer in browser.visit(writes=visit.writes):
            tally.note(*answer)
        following = next(own)
        heapq.heapreplace(due, (time.time() + following.rest, number, following))
    connections.close_all()
    return tallies


class Browser:
    """Somebody's browser: it keeps cookies as long as it is told to."""

    def __init__(self, handler: WSGIHandler, pk: int, versions: dict[int, int]) -> None:
        self._handler = handler
        self._pk = pk
        self._versions = versions
        self._requests = RequestFactory()
        self._cookies: dict[str, tuple[str, float]] = {}

    def visit(self, *, writes: bool) -> list[tuple[str, bool, bool]]:
        """Look at the own page, or write to it; return how each read was answered."""
        version = self._versions.get(self._pk, 0) + writes
        method = "POST" if writes else "GET"
        environ = self._requests.generic(method, f"/own/{self._pk}/{version}").environ
        headers, body = ask(self._handler, {**environ, "HTTP_COOKIE": self._sent()})
        self._keep(headers)
        self._versions[self._pk] = version
        answers: list[tuple[str, bool, bool]] = json.loads(body)
        return answers

    def _sent(self) -> str:
        now = time.time()
        return "; ".join(
            f"{name}={value}" for name, (value, until) in self._cookies.items() if now < until
        )

    def _keep(self, headers: list[tuple[str, str]]) -> None:
        for name, value in headers:
            if name == "Set-Cookie":
                for cookie in SimpleCookie(value).values():
                    until = time.time() + float(cookie["max-age"])
                    self._cookies[cookie.key] = (cookie.coded_value, until)
