"""Who answered each query, by the server's own word, and the reason that the router gave."""

import re
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse

from django_replicas import current_unit

HEADER = "X-Reads"
READING = ("SELECT", "VALUES", "TABLE", "SHOW", "WITH")


class Answer(NamedTuple):
    """One query and the server that answered it."""

    alias: str
    port: int
    is_follower: bool
    sql: str
    reason: str

    @property
    def brief(self) -> str:
        """The statement without its list of columns and its quotation marks."""
        return re.sub(r"^SELECT .*? FROM ", "SELECT … FROM ", self.sql).replace('"', "")

    @property
    def is_read(self) -> bool:
        return self.sql.startswith(READING)


class Testimony:
    """The answers that one request got, and how many of the router's decisions they explain."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self._explained = 0

    def add(self, connection: BaseDatabaseWrapper, sql: str) -> None:
        server = connection.connection.info
        is_follower = server.parameter_status("in_hot_standby") == "on"
        reason = self._reason(connection.alias, sql)
        self.answers.append(Answer(connection.alias, server.port, is_follower, sql, reason))

    def reads(self, *, from_followers: bool) -> int:
        return sum(a.is_read and a.is_follower is from_followers for a in self.answers)

    def _reason(self, alias: str, sql: str) -> str:
        unit = current_unit()
        if unit is None:
            return "chance" if settings.BOARD_ROUTER == "naive" else "the only database"
        fresh = list(unit.trace)[self._explained :]
        self._explained += len(fresh)
        told = [str(decision.reason) for decision in fresh if decision.alias == alias]
        return told[-1] if told else "part of a write"


_testimony: ContextVar[Testimony | None] = ContextVar("testimony", default=None)


def witness(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
    """Note who answers a query. An execute wrapper."""
    result = execute(sql, params, many, context)
    testimony = _testimony.get()
    if testimony is not None:
        testimony.add(context["connection"], sql)
    return result


@receiver(connection_created)
def watch(connection: BaseDatabaseWrapper, **kwargs: object) -> None:
    """Let every new connection have its witness."""
    if connection.vendor == "postgresql" and witness not in connection.execute_wrappers:
        connection.execute_wrappers.append(witness)


class WitnessMiddleware:
    """Tell in a header how many reads of the request followers and leader answered."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        testimony = Testimony()
        token = _testimony.set(testimony)
        try:
            response = self._get_response(request)
        finally:
            _testimony.reset(token)
        followers = testimony.reads(from_followers=True)
        leader = testimony.reads(from_followers=False)
        response[HEADER] = f"followers={followers} leader={leader}"
        return response


def what_happened(request: HttpRequest) -> dict[str, object]:
    """Give every page its router and the answers so far. A context processor."""
    testimony = _testimony.get()
    return {
        "router": settings.BOARD_ROUTER,
        "answers": testimony.answers if testimony is not None else [],
    }
