"""Which follower of a set: one that can be reached, found where the read is about to go."""

import logging
import math
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from django.core.signals import setting_changed
from django.db import Error, InterfaceError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from .conf import SETTINGS
from .hangup import hung_up_after
from .knowledge import Replayed, epochs
from .leaders import has_open_transaction
from .liveness import Liveness
from .measuring import Measurer
from .outages import is_busy
from .own_connections import OVER_A_NETWORK, servers_behind
from .peers import lost_peer, server_behind
from .positions import Position, Told, may_have_positions, positions_of
from .signals import follower_caught_up, follower_down, follower_lags, follower_up
from .sticky import client_here, ranked
from .topology import ReplicaSet

logger = logging.getLogger("django_replicas")


def any_of(count: int) -> int:
    """Return a number below *count*; ``randrange`` takes five times as long to check it."""
    return int(random.random() * count)


class Followers:
    """The followers of one set, as this process knows them; shared by all its threads."""

    def __init__(
        self,
        replica_set: ReplicaSet,
        liveness: Liveness | None = None,
        pick: Callable[[int], int] = any_of,
        clock: Callable[[], float] = time.monotonic,
        replayed: Replayed | None = None,
    ) -> None:
        self._set = replica_set
        self._liveness = liveness or Liveness(replica_set.downtime)
        self._pick = pick
        self._turn = pick(len(replica_set.followers) or 1)
        self._lock = threading.Lock()
        self._replayed = replayed or Replayed(replica_set.check_interval)
        self._lagging: set[str] = set()
        self._mute: set[str] = set()
        self._measurer = self._make_measurer(clock)

    def choose(
        self, first: str | None = None, sought: Position | None = None, fallback: float = math.inf
    ) -> str | None:
        """Return a follower whose connection in this thread is open and healthy, or None.

        *first* is asked before the others, and one that was down and may be tried again before
        those that are up. Those that cannot be reached are left alone for the set's downtime, those
        that are further behind than ``MAX_LAG`` for as long as they are. It has replayed the
        position that is *sought*: it is known to, or says so. Only one is asked. One that refuses
        to say is good from *fallback* on, in seconds since the epoch.
        """
        in_turn = self._in_turn(first)
        if sought is not None:
            in_turn = self._likeliest_first(in_turn, sought)
        for alias in in_turn:
            if self.is_near(alias) and self.opens(alias):
                if sought is None or self.serves(alias, sought, fallback):
                    return alias
                return self._known_to_have(sought, in_turn)
        return None

    def serves(self, alias: str, sought: Position, fallback: float) -> bool:
        """Tell whether a follower has what is *sought*, or will not say and *fallback* is past."""
        if self.has_replayed(alias, sought):
            return True
        return alias in self._mute and time.time() >= fallback

    def _likeliest_first(self, in_turn: list[str], sought: Position) -> list[str]:
        """Put last those that were behind when they were asked, unless they have this position.

        After a while they are asked again, by units that another follower is known to be good for.
        """
        servers = {alias: server_behind(alias) for alias in in_turn}
        known = {alias for alias in in_turn if self._replayed.may_have(servers[alias], sought)}
        misses = self._replayed.misses if known else self._replayed.past_misses
        return sorted(in_turn, key=lambda alias: 0 if alias in known else misses(servers[alias]))

    def _known_to_have(self, sought: Position, aliases: Sequence[str]) -> str | None:
        """Return a follower that need not be asked, because another was asked in vain."""
        for alias in aliases:
            if (
                self._replayed.may_have(server_behind(alias), sought)
                and self.is_near(alias)
                and self.opens(alias)
                and self._is_known(alias, sought)
                and not has_open_transaction(connections[alias])
            ):
                return alias
        return None

    def has_replayed(self, alias: str, sought: Position) -> bool:
        """Tell whether what this thread's open connection to a follower reads has a position."""
        connection = connections[alias]
        if not may_have_positions(connection):
            return False
        if has_open_transaction(connection):
            return False  # It may see only what there was when it began.
        return self._is_known(alias, sought) or self._says_that_it_has_replayed(alias, sought)

    def _is_known(self, alias: str, sought: Position) -> bool:
        return self._replayed.has(server_behind(alias), connections[alias].connection, sought)

    def _says_that_it_has_replayed(self, alias: str, sought: Position, again: bool = True) -> bool:
        connection = connections[alias]
        driver, asked = connection.connection, self._replayed.now()
        try:
            told = self._ask(connection)
        except (OperationalError, InterfaceError) as error:
            was_late = self._replayed.now() - asked >= self._set.check_timeout
            has_others = was_late and lost_peer(alias, error)
            connection.close()
            # Servers close connections that were idle for long, and are well.
            if again and (has_others or not was_late) and self.opens(alias):
                return self._says_that_it_has_replayed(alias, sought, again=False)
            self._went_down(alias, error)
            return False
        except Error as error:
            self._does_not_tell(alias, error)
            told = Told()
        else:
            self._mute.discard(alias)
        return self._replayed.learn(server_behind(alias), driver, told, asked, sought)

    def _ask(self, connection: BaseDatabaseWrapper) -> Told:
        with hung_up_after(connection, self._set.check_timeout):
            positions = positions_of(connection)
            return Told() if positions is None else positions.told(connection)

    def _does_not_tell(self, alias: str, error: Error) -> None:
        if alias in self._mute:
            return
        self._mute.add(alias)
        logger.warning(
            "Follower %r of %r does not tell its position, so that users read the leader for %g "
            "seconds after they wrote: %s",
            alias,
            self._set.leader,
            self._set.pin_seconds,
            error,
        )

    def opens(self, alias: str) -> bool:
        """Tell whether this thread's connection to a follower is open and healthy now."""
        return self._liveness.may_try(alias) and self._opens(alias)

    def name(self) -> str | None:
        """Return a follower that is not known to be down or to lag, without any I/O, or None."""
        return next(filter(self._liveness.is_up, self._in_turn()), None)

    def those_up(self) -> Sequence[str]:
        """Return the followers that are not known to be down or to lag; no I/O, no turn taken."""
        return self._liveness.those_up(self._those_near())

    def is_near(self, alias: str) -> bool:
        """Tell whether a follower was within ``MAX_LAG`` of its leader when it was last measured.

        Has it measured again if it is time to, and waits only if it never was.
        """
        if self._measurer is None:
            return True
        self._measurer.keep_measured()
        return self._measurer.why_not(alias) is None

    def why_too_far(self, alias: str) -> str | None:
        """Say why a follower is passed over as one that lags, None where it is not known to."""
        return None if self._measurer is None else self._measurer.why_too_far(alias)

    def down_for(self, alias: str) -> float | None:
        """Return for how many seconds more *alias* is left alone, None where it is not."""
        return self._liveness.down_for(alias)

    def _in_turn(self, first: str | None = None) -> list[str]:
        near = self._those_near()
        client = client_here() if self._set.balance == "sticky" else None
        if client is not None:
            # One that is down keeps its place: its clients are the ones to try it again.
            return _first(first, ranked(client, near))
        up = self._liveness.those_up(near)
        start = self._start(len(up)) if up else 0
        in_turn = [*up[start:], *up[:start]]
        if up is not near:
            in_turn = [*(alias for alias in near if alias not in up), *in_turn]
        return _first(first, in_turn)

    def _those_near(self) -> Sequence[str]:
        if not self._lagging:
            return self._set.followers
        return [alias for alias in self._set.followers if alias not in self._lagging]

    def _start(self, count: int) -> int:
        if self._set.balance != "round_robin":
            return self._pick(count)
        with self._lock:
            self._turn += 1
            return self._turn % count

    def _opens(self, alias: str) -> bool:
        connection = connections[alias]
        try:
            self._close_if_unusable(connection)
            connection.ensure_connection()
        except Error as error:
            if is_busy(error, connection):
                logger.info("Follower %r is passed over this time: %s", alias, error)
            else:
                self._went_down(alias, error)
            return False
        if self._liveness.mark_up(alias):
            logger.info("Follower %r of %r is back.", alias, self._set.leader)
            follower_up.send_robust(self, alias=alias, leader=self._set.leader)
        return True

    def _close_if_unusable(self, connection: Any) -> None:
        if connection.connection is None or connection.in_atomic_block:
            return
        is_checked = connection.health_check_enabled and not connection.health_check_done
        # After an error outside HTTP nothing else would look at it again.
        if not (is_checked or connection.errors_occurred):
            return
        with hung_up_after(connection, self._set.check_timeout):
            if connection.is_usable():
                connection.errors_occurred, connection.health_check_done = False, True
            else:
                connection.close()

    def _make_measurer(self, clock: Callable[[], float]) -> Measurer | None:
        limit = self._set.max_lag
        if limit is None or connections[self._set.leader].vendor not in OVER_A_NETWORK:
            return None
        return Measurer(self._set, limit, self._judge, self._went_down, clock)

    def _judge(self, alias: str, why: str | None) -> None:
        if (why is not None) is (alias in self._lagging):
            return
        if why is None:
            self._lagging.discard(alias)
            logger.info("Follower %r of %r has caught up.", alias, self._set.leader)
            follower_caught_up.send_robust(self, alias=alias, leader=self._set.leader)
        else:
            self._lagging.add(alias)
            logger.warning("Follower %r of %r is passed over: %s", alias, self._set.leader, why)
            self._tell_if_none_is_left()
            follower_lags.send_robust(self, alias=alias, leader=self._set.leader, why=why)

    def _went_down(self, alias: str, error: Exception) -> None:
        for server in servers_behind(alias):
            self._replayed.forget(server)
        if not self._liveness.mark_down(alias):
            return
        logger.warning(
            "Follower %r of %r cannot be reached and is left alone for %g seconds: %s",
            alias,
            self._set.leader,
            self._set.downtime,
            error,
        )
        self._tell_if_none_is_left()
        follower_down.send_robust(self, alias=alias, leader=self._set.leader, error=error)

    def _tell_if_none_is_left(self) -> None:
        if not self.those_up():
            logger.error(
                "No follower of %r is left: its leader serves all reads.", self._set.leader
            )


def _first(alias: str | None, in_turn: list[str]) -> list[str]:
    return in_turn if alias is None else sorted(in_turn, key=lambda each: each != alias)


_known: dict[str, Followers] = {}


def followers_of(replica_set: ReplicaSet) -> Followers:
    """Return what this process knows of the followers of a set."""
    known = _known.get(replica_set.leader)
    return _known.setdefault(replica_set.leader, Followers(replica_set)) if known is None else known


def forget_followers() -> None:
    """Take every follower for one that was never tried."""
    _known.clear()
    epochs.forget()


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting in {*SETTINGS, "DATABASES"}:
        forget_followers()


setting_changed.connect(_forget, dispatch_uid="django_replicas.followers")
if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no forks
    # Another thread may have held a lock, and workers must not take their turns in step.
    os.register_at_fork(after_in_child=_known.clear)
