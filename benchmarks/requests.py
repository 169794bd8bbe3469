"""What a router and its middleware cost a whole request.

Requests enter at the WSGI handler, as a server hands them over, and end with the response's
``close()``; no client and no socket has a part in it. What is timed runs with the garbage collector
on, as requests do.

The headline is the part with persistent connections (``CONN_MAX_AGE: None``). It is how sites that
care about milliseconds run, and the harder part: a connection costs more than all of the routing,
more still on real networks, and a router that reads one follower per request needs one where one
that takes turns needs two. The part with connections opened per request, Django's default, shows
just that.
"""

import sys
import time
from dataclasses import replace
from functools import partial
from http.cookies import SimpleCookie
from pathlib import Path
from time import process_time
from timeit import Timer
from typing import Any

from django.core.handlers.wsgi import WSGIHandler
from django.core.wsgi import get_wsgi_application
from django.test import RequestFactory

from .contenders import GREEDY, MULTIDB, NO_ROUTER, OURS, Contender, ask_page, set_up_site
from .measure import (
    Answers,
    Ratio,
    Seconds,
    at_most,
    command_line,
    measure,
    report,
    rows_of,
    seconds_per_call,
)

AGAIN = replace(NO_ROUTER, name="no router, again")
CONTENDERS = (NO_ROUTER, AGAIN, MULTIDB, *OURS)

MAX_AGES: dict[str, int | None] = {"persistent": None, "opened per request": 0}
EMPTY = "empty GET"
READS = "GET of five reads"
WRITE = "POST of one write"
COOKIE = ", pin cookie"
PAGES = (EMPTY, READS, READS + COOKIE, WRITE, WRITE + COOKIE)


def main() -> int:
    arguments = command_line(__doc__ or "", rounds=25)
    began = time.monotonic()
    names = [contender.name for contender in CONTENDERS]
    seconds: Seconds = {}
    for kept, max_age in MAX_AGES.items():
        scenarios = {_scenario(page, kept): names for page in PAGES}
        prepared = partial(prepare, kept, max_age)
        seconds |= measure(prepared, CONTENDERS, scenarios, arguments.rounds, generations=5)
    targets = []
    for page in (READS, WRITE):
        by_name = seconds[_scenario(page, "persistent")]
        ratio = Ratio.between(by_name[GREEDY.name], by_name[MULTIDB.name])
        targets.append(at_most(f"{page} no slower than {MULTIDB.name}", ratio, 1.0))
    return report(rows_of(seconds), targets, arguments.json, began)


def _scenario(page: str, kept: str) -> str:
    return f"{page}, connections {kept}"


def prepare(kept: str, max_age: int | None, contender: Contender, folder: Path) -> Answers:
    """Make the contender's site and return how to time each scenario on it."""
    set_up_site(contender, folder, max_age)
    handler = get_wsgi_application()
    return {_scenario(page, kept): partial(_time_page, handler, contender, page) for page in PAGES}


def _time_page(handler: WSGIHandler, contender: Contender, page: str, number: int) -> float:
    names = {"ask": partial(ask_page, handler, _environ(handler, contender, page))}
    timer = Timer("ask()", "import gc; gc.enable()", process_time, globals=names)
    return seconds_per_call(timer, number)


def _environ(handler: WSGIHandler, contender: Contender, page: str) -> dict[str, Any]:
    requests = RequestFactory()
    environ = {
        EMPTY: requests.get("/empty").environ,
        READS: requests.get("/read").environ,
        WRITE: _post(contender),
    }[page.removesuffix(COOKIE)]
    if page.endswith(COOKIE):
        environ["HTTP_COOKIE"] = _pin_cookie(handler, contender)
    return environ


def _post(contender: Contender) -> dict[str, Any]:
    environ: dict[str, Any] = (
        RequestFactory().post("/pin-and-write" if contender.pins else "/write").environ
    )
    return environ


def _pin_cookie(handler: WSGIHandler, contender: Contender) -> str:
    """Return what a browser sends after a write: a cookie that has not expired."""
    headers = ask_page(handler, _post(contender))
    cookies = SimpleCookie("; ".join(value for name, value in headers if name == "Set-Cookie"))
    return "; ".join(f"{name}={morsel.coded_value}" for name, morsel in cookies.items())


if __name__ == "__main__":
    sys.exit(main())
