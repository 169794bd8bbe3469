"""How far behind its followers are, measured now and then, and never while a user waits for it."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from math import inf

from django.db import connections

from .deadlines import Deadline
from .hangup import hung_up_after
from .lag import Progresses, has_all, why_too_far
from .own_connections import connection_of_its_own, servers_behind
from .replication import Lag, Progress, first_line, progress_of
from .topology import MaxLag, ReplicaSet

logger = logging.getLogger("django_replicas")

NOT_MEASURED = "its lag has not been measured"


class Measurer:
    """Knows for one process which followers of a set are further behind than ``MAX_LAG``.

    They are measured every ``CHECK_INTERVAL`` at most, while anybody reads from them: by one thread
    at a time, on connections of its own, which are closed afterwards, waiting ``CHECK_TIMEOUT`` for
    each server and no longer. Nobody waits for that thread, but who comes when nothing was
    measured yet; that one waits ``CHECK_TIMEOUT`` and no longer. ``judge`` is told what was found
    of each follower: why it is too far behind, None where it is not. ``lose`` is told of those that
    do not answer.
    """

    def __init__(
        self,
        replica_set: ReplicaSet,
        limit: MaxLag,
        judge: Callable[[str, str | None], None],
        lose: Callable[[str, Exception], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._set = replica_set
        self._limit = limit
        self._judge = judge
        self._lose = lose
        self._clock = clock
        self._lock = threading.Lock()
        self._due = -inf
        self._vendor: str = connections[replica_set.leader].vendor
        self._verdicts: dict[str, str | None] = {}
        self._progresses = Progresses()
        self._leader_is_lost = False
        self._measurement = Deadline(self._measure)
        self._questions = {
            (alias, server): Deadline(
                partial(self._ask, server, leads=alias == replica_set.leader), most_stuck=2
            )
            for alias in (replica_set.leader, *replica_set.followers)
            for server in servers_behind(alias)
        }

    def keep_measured(self) -> None:
        """Have the followers measured if it is time to; wait for it if that is the first time."""
        with self._lock:
            now = self._clock()
            if now < self._due:
                return
            is_first = self._due == -inf
            # At the latest: so late that this measurement is over, whoever keeps it waiting.
            longest = self._set.check_timeout * (1 + len(self._questions))
            self._due = now + max(self._set.check_interval, longest)
        with suppress(TimeoutError):
            self._measurement.result(self._set.check_timeout if is_first else 0)

    def why_not(self, alias: str) -> str | None:
        """Say why a follower is not read from, None where it is near enough to its leader."""
        return self._verdicts.get(alias, NOT_MEASURED)

    def why_too_far(self, alias: str) -> str | None:
        """Say why a follower is known to be too far behind; None where it is not, or not known."""
        return self._verdicts.get(alias)

    def _measure(self) -> None:
        now = self._clock()
        self._measure_all(now)
        with self._lock:
            self._due = min(self._due, now + self._set.check_interval)

    def _measure_all(self, now: float) -> None:
        try:
            progress = self._leaders_answer()
            problem = None if progress.position else progress.note
        except Exception as error:  # Drivers and settings fail in their own ways; all are told.
            problem = first_line(error)
        if problem is not None:
            self._lost_leader(problem)
            return
        self._leader_is_lost = False
        self._progresses.note(now, progress)
        for alias in self._set.followers:
            self._look_at(alias)

    def _lost_leader(self, problem: str) -> None:
        """Leave all as it was: who sent everybody to a leader that is down would help nobody."""
        for alias in self._set.followers:
            self._verdicts.setdefault(alias, None)
        if not self._leader_is_lost:
            self._leader_is_lost = True
            logger.warning(
                "How far behind %r its followers are cannot be measured, so that those that were "
                "read from still are: %s",
                self._set.leader,
                problem,
            )

    def _look_at(self, alias: str) -> None:
        """Judge a follower by the furthest behind of its servers, those that do not answer aside.

        Which of them a read goes to is not known before.
        """
        found: list[str | None] = []
        for server in servers_behind(alias):
            try:
                found.append(self._why_too_far(alias, server))
            except Exception as problem:  # As above.
                error = problem
        if not found:
            # When it is back it is not read from before it has been measured.
            self._verdicts.pop(alias, None)
            self._lose(alias, error)
            return
        why = next(filter(None, found), None)
        self._verdicts[alias] = why
        self._judge(alias, why)

    def _why_too_far(self, alias: str, server: str) -> str | None:
        if _is_also(server, self._set.leader):
            return None
        follower = self._answer(alias, server)
        why = why_too_far(self._limit, follower, self._lag(follower))
        return why if why is None or server == alias else f"its peer {server!r}: {why}"

    def _leaders_answer(self) -> Progress:
        leader = self._set.leader
        *others, last = servers_behind(leader)
        for server in others:
            with suppress(Exception):  # What the last one says is told.
                return self._answer(leader, server)
        return self._answer(leader, last)

    def _answer(self, alias: str, server: str) -> Progress:
        try:
            progress: Progress = self._questions[alias, server].result(self._set.check_timeout)
        except TimeoutError as error:
            late = f"no answer within {self._set.check_timeout:g} seconds"
            raise TimeoutError(str(error) or late) from error
        return progress

    def _ask(self, server: str, *, leads: bool) -> Progress:
        seconds = self._set.check_timeout
        with connection_of_its_own(server, seconds) as connection:
            connection.ensure_connection()
            with hung_up_after(connection, seconds):
                if leads:
                    return progress_of(connection, leads=True)
                deadline = time.monotonic() + self._patience()
                while True:
                    progress = progress_of(connection, leads=False)
                    is_late = time.monotonic() > deadline
                    if is_late or progress.receives is False or has_all(self._lag(progress)):
                        return progress
                    time.sleep(self._patience() / 10)

    def _patience(self) -> float:
        """For how long a follower may take to show what its leader had when it was asked.

        One that is merely a moment behind is not to be judged by the age of the last write.
        """
        return min(self._limit.seconds or 0, self._set.check_timeout / 2)

    def _lag(self, follower: Progress) -> Lag:
        return self._progresses.lag(self._vendor, follower, self._clock())


def _is_also(server: str, leader: str) -> bool:
    """Tell whether a server is the leader by another name, as in tests and at home."""
    return _place_of(server) in map(_place_of, servers_behind(leader))


def _place_of(server: str) -> tuple[object, ...]:
    return tuple(connections.settings[server][key] for key in ("HOST", "PORT", "NAME"))
