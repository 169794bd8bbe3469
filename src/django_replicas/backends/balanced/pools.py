"""Drivers' own pools of connections: Django knows them by alias, here each peer has its own."""

from typing import Any

from django.db import connections
from django.db.backends.base.base import NO_DB_ALIAS, BaseDatabaseWrapper
from django.db.utils import load_backend


class PoolPerPeer(BaseDatabaseWrapper):
    """Takes connections from the pool of the peer that they lead to.

    It is the very pool that the peer's alias uses, unless the alias has a ``NAME`` of its own.
    """

    _peer: str
    _own_name: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._plain_ones: dict[tuple[str, Any], Any] = {}
        super().__init__(*args, **kwargs)

    @property
    def pool(self) -> Any:
        if self.alias == NO_DB_ALIAS or not self.settings_dict["OPTIONS"].get("pool"):
            return None
        return self._plain(self._peer).pool

    def close_pool(self) -> None:
        """Close the pools of all peers."""
        for peer in self.settings_dict["PEERS"]:
            self._plain(peer).close_pool()

    def give_up_pool(self) -> None:
        """Have the next connection to this peer opened by another pool, and so at once.

        One of psycopg's that has lost its server tries it again by itself, and waits twice as long
        each time: for minutes after the server is back.
        """
        plain = self._plain(self._peer)
        pool = plain._connection_pools.get(plain.alias)
        if hasattr(pool, "reconnect_timeout"):
            plain._connection_pools.pop(plain.alias, None)
            pool.close(timeout=0.1)

    def _plain(self, peer: str) -> Any:
        """Return what would be a connection to *peer* without us; it is never opened."""
        known = self._plain_ones.get((peer, self._own_name))
        return known or self._plain_ones.setdefault((peer, self._own_name), self._made(peer))

    def _made(self, peer: str) -> Any:
        if self._own_name == "":
            return connections.create_connection(peer)
        settings = {**connections.settings[peer], "NAME": self._own_name}
        return load_backend(settings["ENGINE"]).DatabaseWrapper(
            settings, f"{peer}/{self._own_name}"
        )
