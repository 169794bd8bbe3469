"""``ENGINE``: one alias over equal peers."""

import logging
import time
from collections.abc import Iterator

from django.db import OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_replicas.backends.balanced import base
from django_replicas.outages import Outage
from django_replicas.peers import Peers, peers_of

LOGGER = logging.getLogger("django_replicas")
CHECK_INTERVAL = 30


class PeerState:
    """What is known of an alias's peers, by the names that it had."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self.check_interval = peers.check_interval

    @property
    def peers(self) -> set[str]:
        return set(self._peers.names)

    @property
    def peers_up(self) -> set[str]:
        return set(filter(self._peers.is_up, self._peers.names))

    @property
    def peers_down(self) -> dict[str, float]:
        """Each peer that is left alone, and the time from which it is not."""
        left = {name: self._peers.down_for(name) for name in self._peers.names}
        now = time.time()
        return {name: now + seconds for name, seconds in left.items() if seconds is not None}

    def reset(self) -> None:
        for name in self._peers.names:
            self.mark_peer_up(name)

    def mark_peer_up(self, peer_name: str) -> None:
        self._peers.was_opened(peer_name)

    def mark_peer_down(self, peer_name: str) -> None:
        error = OperationalError("marked down by the project")
        self._peers.could_not_be_opened(peer_name, Outage.REFUSING, error)

    def get_peers(self) -> Iterator[str]:
        return self._peers.in_turn()


class _State:
    """A connection's alias's state; the class's is that of the one alias with peers."""

    def __get__(
        self, wrapper: "DatabaseWrapper | None", owner: type[BaseDatabaseWrapper]
    ) -> PeerState:
        return PeerState(_peers_of_all() if wrapper is None else wrapper._peers())


def _peers_of_all() -> Peers:
    known = {alias: peers for alias in connections.settings if (peers := peers_of(alias))}
    if len(known) != 1:
        raise AttributeError(
            f"DatabaseWrapper.state is the state of the one alias that has peers, and there are "
            f"{len(known)} ({', '.join(known)}). Ask connections[alias].state."
        )
    return next(iter(known.values()))


class DatabaseWrapper(base.DatabaseWrapper):
    """The engine over peers, any that they share, with the interval that it had by default."""

    default_check_interval = CHECK_INTERVAL
    state = _State()
