"""The database engine over equal peers.

Django looks for ``DatabaseWrapper`` here; the class that it gets is made from the peers' own.
"""

import copy
import time
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple, Self, cast

from django.db import DEFAULT_DB_ALIAS, Error, OperationalError, connections
from django.db.backends.base.base import RAN_DB_VERSION_CHECK, BaseDatabaseWrapper

from django_replicas.exceptions import NoPeerError
from django_replicas.hangup import hung_up_after
from django_replicas.outages import Outage, outage_of
from django_replicas.own_connections import connect_timeout_of
from django_replicas.peers import DEFAULT_CHECK_INTERVAL, Peers, peers_in

from .creation import BalancedClient, BalancedCreation
from .engines import Unusable, engine_of
from .facts import Facts, facts_taken_from, give_back
from .pools import PoolPerPeer

# How Django uses the connection is the alias's own affair; where it leads to is the peer's.
OWN = frozenset(
    {"ATOMIC_REQUESTS", "AUTOCOMMIT", "CONN_MAX_AGE", "CONN_HEALTH_CHECKS", "TEST"}
    | {"PEERS", "CHECK_INTERVAL", "BALANCE"}
)

# Seconds, where no option says how long connecting may take.
LONGEST_LOOK = 5.0

Settings = dict[str, Any]


class DatabaseWrapper(BaseDatabaseWrapper):
    """A connection to one of several equal peers, and in all else one of the peers' own engine.

    Each time it is opened a peer is chosen anew, and ``settings_dict`` is what that peer's alias
    says of where it is. A thread's, like every connection of Django's; what is known of the peers
    is the process's. Raises ``NoPeerError`` where no peer can be connected to.
    """

    # What CHECK_INTERVAL is where it is not given; by having it an engine is known as one of these.
    default_check_interval = DEFAULT_CHECK_INTERVAL
    # The driver's module, as the peers' engine names it.
    Database: Any

    def __new__(cls, settings_dict: Settings, alias: str = DEFAULT_DB_ALIAS) -> Self:
        kind: Any = cls
        engine: Any = engine_of(alias, settings_dict)
        wrapper: Any
        if engine is Unusable:
            wrapper = engine(settings_dict, alias)
        else:
            wrapper = super().__new__(_made_over(kind, engine))
        return cast(Self, wrapper)

    def __init__(self, settings_dict: Settings, alias: str = DEFAULT_DB_ALIAS) -> None:
        self._given = dict(settings_dict)
        self._facts: dict[str, Facts] = {}
        self._peer: str = settings_dict["PEERS"][0]
        # Of what an alias with peers says of where it leads, only a NAME counts.
        self._filled_in: Settings = {"NAME": ""}
        self._as_merged: Settings = {}
        self._merged: dict[str, _Merged] = {}
        self.settings_dict = settings_dict
        self._turn_to(self._peer)
        super().__init__(self.settings_dict, alias)

    @property
    def peer(self) -> str | None:
        """The alias of the peer that this connection is open to, None where it is not open."""
        return None if self.connection is None else self._peer

    def connect(self) -> None:
        """Open a connection to the peer whose turn it is, or to the next one that can be."""
        peers = self._peers()
        errors: dict[str, Exception] = {}
        for peer in peers.in_turn():
            self._turn_to(peer)
            try:
                super().connect()
            except (Error, self.Database.Error) as error:
                outage = outage_of(error, self)
                if outage is None:
                    raise
                self._drop()
                if outage.lasts and isinstance(self, PoolPerPeer):
                    self.give_up_pool()
                peers.could_not_be_opened(peer, outage, error)
                errors[peer] = error
            else:
                peers.was_opened(peer)
                return
        raise NoPeerError(self.alias, errors) from errors[peer]

    def init_connection_state(self) -> None:
        """Look at each peer's version once, as is done for the alias that it is."""
        super().init_connection_state()
        if self._peer not in RAN_DB_VERSION_CHECK:
            self.check_database_version_supported()
            RAN_DB_VERSION_CHECK.add(self._peer)

    def is_usable(self) -> bool:
        """Look for no longer than connecting may take, and leave a peer alone that takes longer.

        Nothing else ends the wait for a server that hangs.
        """
        seconds, began = connect_timeout_of(self._peer) or LONGEST_LOOK, time.monotonic()
        try:
            with hung_up_after(self, seconds):
                is_usable: bool = super().is_usable()
        except Error:
            is_usable = False
        if not is_usable and time.monotonic() - began >= seconds:
            error = OperationalError(f"no answer within {seconds:g} seconds")
            self._peers().could_not_be_opened(self._peer, Outage.UNREACHABLE, error)
        return is_usable

    def close_if_unusable_or_obsolete(self) -> None:
        """Between requests, leave a peer that takes no new connections while others do."""
        if self._is_better_left():
            self.close()
        else:
            super().close_if_unusable_or_obsolete()

    def lead_to_first_peer(self) -> None:
        """Have the settings of the first peer, until another one is connected to."""
        first = self.settings_dict["PEERS"][0]
        if self._peer != first:
            self.close()
            self._turn_to(first)

    def keep_to_first_peer(self) -> None:
        """Connect to no other peer from now on, as test databases need it that are made on one."""
        self.close()
        self.lead_to_first_peer()
        self.settings_dict["PEERS"] = self.settings_dict["PEERS"][:1]

    def copy(self, alias: str | None = None) -> Self:
        """Return another connection that chooses its peers itself."""
        settings = {**self._given, **self._own_settings(), **self._set_here()}
        return type(self)(copy.deepcopy(settings), self.alias if alias is None else alias)

    def _peers(self) -> Peers:
        return peers_in(self.alias, self.settings_dict, self.default_check_interval)

    def _is_better_left(self) -> bool:
        return self.connection is not None and self._peers().is_better_left(self._peer)

    def _drop(self: Any) -> None:
        """Be without a connection, whatever state a failed attempt has left it in."""
        with suppress(Error, self.Database.Error):
            self._close()
        self.connection = None

    def _turn_to(self, peer: str) -> None:
        if peer != self._peer:
            self._facts[self._peer] = facts_taken_from(self)
            give_back(self, self._facts.pop(peer, {}))
            self._peer = peer
        merged = self._merged_with(peer)
        self._filled_in, self._as_merged = merged.where, merged.settings
        self.settings_dict = _with_own_options(merged.settings)

    def _merged_with(self, peer: str) -> "_Merged":
        """Return the settings with a peer's, put together anew only where something has changed."""
        if self.settings_dict != self._as_merged:
            self._merged.clear()
        merged = self._merged.get(peer)
        if merged is None or merged.theirs != connections.settings[peer]:
            theirs = _with_own_options(connections.settings[peer])
            where = {key: value for key, value in theirs.items() if key not in OWN}
            own = {**self._own_settings(), **self._set_here()}
            merged = _Merged(theirs, where, {**self._given, **where, **own})
            self._merged[peer] = merged
        return merged

    @property
    def _own_name(self) -> Any:
        """The alias's own ``NAME``, empty where it is only the peer's; None for no database."""
        name = self.settings_dict["NAME"]
        return "" if name == self._filled_in["NAME"] else name

    def _set_here(self) -> Settings:
        """Return what leads elsewhere than to the peer, because somebody has set it so."""
        now, before = self.settings_dict, self._filled_in
        return {key: now[key] for key, value in before.items() if now.get(key) != value}

    def _own_settings(self) -> Settings:
        return {key: value for key, value in self.settings_dict.items() if key in OWN}


class _Merged(NamedTuple):
    theirs: Settings
    where: Settings
    settings: Settings


def _with_own_options(settings: Settings) -> Settings:
    """Return a copy whose options may be edited."""
    return {**settings, "OPTIONS": dict(settings["OPTIONS"])}


@cache
def _made_over(balanced: Any, engine: Any) -> Any:
    pooled = (PoolPerPeer,) if hasattr(engine, "pool") else ()
    own = {
        "__module__": balanced.__module__,
        "__doc__": balanced.__doc__,
        # Also without arguments, as copy.copy() does it.
        "__new__": lambda made, *args, **kwargs: object.__new__(made),
        "client_class": type("DatabaseClient", (BalancedClient, engine.client_class), {}),
        "creation_class": type("DatabaseCreation", (BalancedCreation, engine.creation_class), {}),
    }
    return type(balanced.__name__, (balanced, *pooled, engine), own)
