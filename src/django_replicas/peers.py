"""Equal servers behind one alias: which of them a new connection goes to, and which are down."""

import logging
import os
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.db import connections
from django.db.utils import load_backend

from .liveness import Liveness
from .outages import Outage
from .signals import peer_down, peer_up

logger = logging.getLogger("django_replicas")

DEFAULT_CHECK_INTERVAL = 10.0
BALANCES = ("random", "round_robin")


class Peers:
    """The peers of one alias, as this process knows them; shared by all its threads."""

    def __init__(
        self,
        alias: str,
        names: Sequence[str],
        check_interval: float = DEFAULT_CHECK_INTERVAL,
        balance: str = "random",
        liveness: Liveness | None = None,
        pick: Callable[[int], int] = random.randrange,
    ) -> None:
        self.alias = alias
        self.names = tuple(names)
        self.check_interval = check_interval
        self._balance = balance
        self._liveness = liveness or Liveness(check_interval)
        self._pick = pick
        self._turn = pick(len(self.names))
        self._lock = threading.Lock()

    def in_turn(self) -> Iterator[str]:
        """Yield the peers in the order in which a new connection tries them.

        First one that was down and may be tried again, by this caller alone; then those that are
        up. Where none of them can be connected to, those that are down are tried all the same, as a
        plain alias would be.
        """
        up = self._liveness.those_up(self.names)
        left_alone = []
        if len(up) < len(self.names):
            for name in self.names:
                if name not in up:
                    if self._liveness.may_try(name):
                        yield name
                    else:
                        left_alone.append(name)
        if up:
            start = self._start(len(up))
            yield from up[start:]
            yield from up[:start]
        yield from left_alone

    def is_up(self, name: str) -> bool:
        return self._liveness.is_up(name)

    def is_better_left(self, name: str) -> bool:
        """Tell whether a peer is down while another is up."""
        return not self.is_up(name) and bool(self._liveness.those_up(self.names))

    def down_for(self, name: str) -> float | None:
        """Return for how many seconds more a peer is left alone, None where it is not."""
        return self._liveness.down_for(name)

    def could_not_be_opened(self, name: str, outage: Outage, error: Exception) -> None:
        """Leave a peer alone for the interval, if that is what the outage asks for."""
        if not outage.lasts:
            logger.info("Peer %r of %r is passed over this time: %s", name, self.alias, error)
            return
        if not self._liveness.mark_down(name):
            return
        logger.warning(
            "Peer %r of %r %s and is left alone for %g seconds: %s",
            *(name, self.alias, outage, self.check_interval, error),
        )
        if not self._liveness.those_up(self.names):
            logger.error("No peer of %r is left.", self.alias)
        peer_down.send_robust(self, alias=self.alias, peer=name, reason=outage, error=error)

    def was_opened(self, name: str) -> None:
        """Let everybody use a peer again."""
        if self._liveness.mark_up(name):
            logger.info("Peer %r of %r is back.", name, self.alias)
            peer_up.send_robust(self, alias=self.alias, peer=name, reason="was connected to again")

    def _start(self, count: int) -> int:
        if self._balance == "random":
            return self._pick(count)
        with self._lock:
            self._turn += 1
            return self._turn % count


_known: dict[tuple[object, ...], Peers] = {}


@cache
def _default_check_interval(engine: str) -> float | None:
    """Return the seconds that an engine over peers names, None for an engine of another kind."""
    try:
        wrapper = load_backend(engine).DatabaseWrapper
    except ImproperlyConfigured:  # Django's own affair.
        return None
    seconds: float | None = getattr(wrapper, "default_check_interval", None)
    return seconds


def has_peers(alias: str) -> bool:
    """Tell whether an alias's engine is the one over peers, or one that extends it."""
    return _default_check_interval(connections.settings[alias]["ENGINE"]) is not None


def peers_in(
    alias: str, settings: Mapping[str, Any], default_check_interval: float = DEFAULT_CHECK_INTERVAL
) -> Peers:
    """Return what this process knows of the peers that an alias's settings name."""
    arguments = (
        alias,
        tuple(settings["PEERS"]),
        settings.get("CHECK_INTERVAL", default_check_interval),
        settings.get("BALANCE", "random"),
    )
    known = _known.get(arguments)
    return _known.setdefault(arguments, Peers(*arguments)) if known is None else known


def peers_of(alias: str) -> Peers | None:
    """Return the peers of an alias, None for one whose engine knows no peers."""
    settings = connections.settings[alias]
    seconds = _default_check_interval(settings["ENGINE"])
    return None if seconds is None else peers_in(alias, settings, seconds)


def server_behind(alias: str) -> str:
    """Return the alias of what this thread's connection is open to: a peer's, where it has any."""
    if not has_peers(alias):
        return alias
    return getattr(connections[alias], "peer", None) or alias


def lost_peer(alias: str, error: Exception) -> bool:
    """Leave the peer alone that this thread's connection is open to; tell whether another is up."""
    peers, peer = peers_of(alias), server_behind(alias)
    if peers is None or peer == alias:
        return False
    peers.could_not_be_opened(peer, Outage.UNREACHABLE, error)
    return peers.is_better_left(peer)


def forget_peers() -> None:
    """Take every peer for one that was never tried."""
    _known.clear()


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting == "DATABASES":
        forget_peers()


setting_changed.connect(_forget, dispatch_uid="django_replicas.peers")
if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no forks
    # Another thread may have held a lock, and workers must not take their turns in step.
    os.register_at_fork(after_in_child=forget_peers)
