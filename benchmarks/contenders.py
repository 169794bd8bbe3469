"""Who is compared: routers and their middleware, each on a Django site of its own.

A site is one leader and two followers, SQLite files that never wait for a disk, so that what
routing costs is not lost in what databases cost. Beside the contender's own middleware there is
none, for the same reason.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections
from django.http import HttpResponse
from django.test import RequestFactory
from django.utils.module_loading import import_string

from django_replicas import pin

LEADER = "default"
FOLLOWERS = ["follower1", "follower2"]
ROWS = 10


@dataclass(frozen=True)
class Contender:
    """A router and its middleware, in the configuration that its documentation calls the best.

    ``pins`` tells that its views must pin before they write; ``replicas`` is what it has in
    ``REPLICAS`` beside ``SETS``.
    """

    name: str
    router: str | None = None
    middleware: str | None = None
    apps: tuple[str, ...] = ()
    pins: bool = False
    replicas: Mapping[str, Any] = field(default_factory=dict)


def _ours(router: str, pins: bool = False) -> Contender:
    return Contender(
        router,
        f"django_replicas.routers.{router}",
        "django_replicas.middleware.ReplicasMiddleware",
        ("django_replicas",),
        pins,
    )


NO_ROUTER = Contender("no router")
MULTIDB = Contender(
    "django-multidb-router",
    "multidb.PinningReplicaRouter",
    "multidb.middleware.PinningRouterMiddleware",
)
GREEDY = _ours("GreedyPinRouter")
LEADER_FOLLOWER = _ours("LeaderFollowerRouter")
STRICT = _ours("StrictPinRouter", pins=True)
OURS = (GREEDY, LEADER_FOLLOWER, STRICT)


def set_up_site(contender: Contender, folder: Path, max_age: int | None = None) -> None:
    """Make this process the contender's site, its databases in *folder*.

    *max_age* is ``CONN_MAX_AGE``; None keeps connections.
    """
    databases = {alias: _sqlite(folder / alias, max_age) for alias in (LEADER, *FOLLOWERS)}
    configure(contender, databases, "benchmarks.views")
    for alias in databases:
        _fill(alias)


def configure(contender: Contender, databases: Mapping[str, Any], urlconf: str) -> None:
    """Make this process the contender's site over databases that are there: a leader, followers."""
    followers = [alias for alias in databases if alias != LEADER]
    settings.configure(
        SECRET_KEY="not a secret",
        ALLOWED_HOSTS=["testserver"],
        DATABASES=databases,
        DATABASE_ROUTERS=_listed(contender.router),
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=["django.contrib.sessions", *contender.apps, "benchmarks"],
        MIDDLEWARE=_listed(contender.middleware),
        REPLICAS={"SETS": {LEADER: followers}, **contender.replicas},
        REPLICA_DATABASES=followers,
        ROOT_URLCONF=urlconf,
        USE_TZ=True,
    )
    django.setup()


def _listed(path: str | None) -> list[str]:
    return [] if path is None else [path]


def _sqlite(path: Path, max_age: int | None) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path.with_suffix(".sqlite3")),
        "CONN_MAX_AGE": max_age,
        "OPTIONS": {"init_command": "PRAGMA synchronous=OFF; PRAGMA journal_mode=MEMORY"},
    }


def _fill(alias: str) -> None:
    note = import_string("benchmarks.models.Note")
    with connections[alias].schema_editor() as editor:
        editor.create_model(note)
    note.objects.using(alias).bulk_create(
        note(title=alias, text="before", author="nobody", language="en") for _ in range(ROWS)
    )


def answer_inside(contender: Contender, method: str, work: Callable[[], Any]) -> Any:
    """Return what *work* returns, called where a view would be: inside the contender's middleware.

    Without a middleware it is called as it is.
    """
    if contender.middleware is None:
        return work()
    results: list[Any] = []

    def view(request: object) -> HttpResponse:
        if contender.pins and method == "POST":
            pin(LEADER)
        results.append(work())
        return HttpResponse()

    import_string(contender.middleware)(view)(RequestFactory().generic(method, "/"))
    return results[0]


def ask_page(handler: WSGIHandler, environ: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Do what a server does with a request, and return the headers that came back."""
    return ask(handler, environ)[0]


def ask(handler: WSGIHandler, environ: Mapping[str, Any]) -> tuple[list[tuple[str, str]], bytes]:
    """Do what a server does with a request, and return the headers and the body."""
    received: list[tuple[str, str]] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], error: object = None, /
    ) -> Callable[[bytes], object]:
        if status != "200 OK":
            raise RuntimeError(f"The page answered {status}.")
        received.extend(headers)
        return _write_nothing

    response = handler(dict(environ), start_response)
    body = b"".join(response)
    response.close()
    return received, body


def _write_nothing(part: bytes) -> None:
    """Stand for the old way of sending a body, which Django does not use."""
