"""Test databases and shells for an alias with peers."""

from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

from django.db import Error, connections
from django.db.backends.base.client import BaseDatabaseClient
from django.db.backends.base.creation import BaseDatabaseCreation


class BalancedCreation(BaseDatabaseCreation):
    """Makes the test database on the first peer, and keeps the alias to it while there is one.

    Servers that are equal because one replicates the other are so a moment later; a test would not
    wait for that moment.
    """

    connection: Any
    _before: Mapping[str, Any] = MappingProxyType({})

    def _create_test_db(self, verbosity: int, autoclobber: bool, keepdb: bool = False) -> str:
        entry = connections.settings[self.connection.alias]
        self._before = {key: entry[key] for key in ("NAME", "PEERS")}
        self.connection.keep_to_first_peer()
        above: Any = super()
        name: str = above._create_test_db(verbosity, autoclobber, keepdb)
        self._tell_of({"NAME": name, "PEERS": self.connection.settings_dict["PEERS"]})
        return name

    def destroy_test_db(
        self,
        old_database_name: str | None = None,
        verbosity: int = 1,
        keepdb: bool = False,
        suffix: str | None = None,
    ) -> None:
        super().destroy_test_db(old_database_name, verbosity, keepdb, suffix)
        if suffix is None and old_database_name is not None and self._before:
            self._tell_of(self._before)
            self.connection.settings_dict["PEERS"] = self._before["PEERS"]

    def set_as_test_mirror(self, primary_settings_dict: Any) -> None:
        """Have the name of another alias's test database.

        Where it mirrors none, the other alias is its first peer, or has the same one.
        """
        if self.connection.settings_dict["TEST"]["MIRROR"] is None:
            self.connection.keep_to_first_peer()
        super().set_as_test_mirror(primary_settings_dict)
        now = self.connection.settings_dict
        self._tell_of({"NAME": now["NAME"], "PEERS": now["PEERS"]})

    def test_db_signature(self) -> tuple[Any, ...]:
        """Name the test database as it would be on the first peer."""
        self.connection.lead_to_first_peer()
        return super().test_db_signature()

    def setup_worker_connection(self, _worker_id: int) -> None:
        super().setup_worker_connection(_worker_id)
        now = self.connection.settings_dict
        self._tell_of({"NAME": now["NAME"], "PEERS": now["PEERS"]})

    def _tell_of(self, news: Mapping[str, Any]) -> None:
        """Have connections of other threads lead where this one does, unless it is a mere copy."""
        alias = self.connection.alias
        if connections[alias] is self.connection:
            connections.settings[alias].update(news)


class BalancedClient(BaseDatabaseClient):
    """Runs the shell of a peer that can be connected to."""

    def runshell(self, parameters: Any) -> None:
        # Where there is none the shell says so itself, or asks for a password.
        with suppress(Error):
            self.connection.ensure_connection()
        self.connection.close()
        super().runshell(parameters)
