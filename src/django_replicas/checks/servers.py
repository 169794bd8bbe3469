"""Are the servers what the settings say they are: this asks them, and waits only so long."""

import time
from collections.abc import Collection, Iterator
from threading import Thread
from typing import Any, NamedTuple

from django.core.checks import CheckMessage, Tags, register

from django_replicas.own_connections import (
    OVER_A_NETWORK,
    connection_of_its_own,
    open_file,
    seconds_to_connect,
)
from django_replicas.writability import refuses_writes

from .members import Pair, leaders, pairs, settings_of, vendor_of
from .messages import warning

# For connecting, where the settings do not say; for answering once connected.
SECONDS_TO_CONNECT = 5.0
SECONDS_TO_ANSWER = 2.0


class Answer(NamedTuple):
    """What asking a server has brought: whether it is read-only, where that can be asked."""

    read_only: bool | None = None
    failure: str | None = None


@register(Tags.database)
def check_servers(databases: Collection[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Report members that cannot be reached, or are not what they should be.

    Only *databases* are asked, all at once; a server that does not answer is waited for as long as
    connecting to it may take, and a little longer.
    """
    wanted = set(databases or ())
    pairs_wanted = [pair for pair in pairs() if pair.follower in wanted]
    leaders_wanted = [each for each in leaders() if each in wanted and vendor_of(each) != "sqlite"]
    answers = _ask_all([*leaders_wanted, *(pair.follower for pair in pairs_wanted)])
    messages: list[CheckMessage] = []
    for leader in leaders_wanted:
        messages += _leader(leader, answers[leader])
    for pair in pairs_wanted:
        messages += _follower(pair, answers[pair.follower])
    return messages


def _leader(alias: str, answer: Answer) -> Iterator[CheckMessage]:
    yield from _unreachable("leader", alias, answer)
    if answer.read_only:
        yield warning(
            "W014",
            f"The leader {alias!r} is read-only, or in recovery.",
            "See that it is the server that takes writes, not one of its followers.",
        )


def _follower(pair: Pair, answer: Answer) -> Iterator[CheckMessage]:
    yield from _unreachable("follower", pair.follower, answer)
    if answer.read_only is False and not _is_stand_in(pair):
        yield warning(
            "W013",
            f"The follower {pair.follower!r} takes writes: it is not in recovery, nor read-only.",
            "See that it replicates its leader and was not promoted, and make it read-only.",
        )


def _unreachable(role: str, alias: str, answer: Answer) -> Iterator[CheckMessage]:
    if answer.failure is not None:
        yield warning(
            "W012",
            f"The {role} {alias!r} cannot be reached: {answer.failure}",
            "See that its server runs, and that its entry in DATABASES is right; `manage.py "
            "replicas` shows every member.",
        )


def _is_stand_in(pair: Pair) -> bool:
    """Tell whether the follower is its leader by another name, as in tests and at home."""
    follower, leader = map(settings_of, pair)
    return all(follower[key] == leader[key] for key in ("ENGINE", "HOST", "PORT", "NAME"))


class _Inquiry(Thread):
    """Asks one server, on a thread that nobody has to wait for."""

    def __init__(self, alias: str) -> None:
        super().__init__(name=f"django_replicas check of {alias}", daemon=True)
        self.alias = alias
        self.patience = seconds_to_connect(alias, SECONDS_TO_CONNECT) + SECONDS_TO_ANSWER
        self.answer = Answer(failure=f"no answer within {self.patience:g} seconds")

    def run(self) -> None:
        try:
            self.answer = Answer(read_only=_ask(self.alias))
        # Whatever an engine or its driver raises, it is the answer.
        except Exception as error:
            self.answer = Answer(failure=" ".join(str(error).split()) or repr(error))


def _ask_all(aliases: list[str]) -> dict[str, Answer]:
    inquiries = [_Inquiry(alias) for alias in aliases]
    beginning = time.monotonic()
    for inquiry in inquiries:
        inquiry.start()
    for inquiry in inquiries:
        inquiry.join(max(0, beginning + inquiry.patience - time.monotonic()))
    return {inquiry.alias: inquiry.answer for inquiry in inquiries}


def _ask(alias: str) -> bool | None:
    with connection_of_its_own(alias, SECONDS_TO_CONNECT) as connection:
        if connection.vendor == "sqlite":
            open_file(connection)
            return None
        read_only = refuses_writes(connection)
        # Of others it is only known that they can be reached.
        return read_only if connection.vendor in OVER_A_NETWORK else None
