"""Test databases and shells for an alias with peers."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from django.conf import settings
from django.db.backends.base.client import BaseDatabaseClient
from django.db.backends.base.creation import BaseDatabaseCreation


class BalancedCreation(BaseDatabaseCreation):
    """Makes the test database on the first peer, and keeps the alias to it while there is one.

    Servers that are equal because one replicates the other are so a moment later; a test would not
    wait for that moment.
    """

    connection: Any
    _before: Mapping[str, Any] = MappingProxyType({})

    def create_test_db(self, *args: Any, **kwargs: Any) -> str:
        self._before = {key: self._entry[key] for key in ("NAME", "PEERS")}
        self.connection.keep_to_first_peer()
        self._tell()
        return super().create_test_db(*args, **kwargs)

    def destroy_test_db(
        self,
        old_database_name: str | None = None,
        verbosity: int = 1,
        keepdb: bool = False,
        suffix: str | None = None,
    ) -> None:
        super().destroy_test_db(old_database_name, verbosity, keepdb, suffix)
        if suffix is None and old_database_name is not None:
            self._entry.update(self._before)
            self.connection.settings_dict.update(self._before)

    def set_as_test_mirror(self, primary_settings_dict: Any) -> None:
        super().set_as_test_mirror(primary_settings_dict)
        self._tell()

    def setup_worker_connection(self, _worker_id: int) -> None:
        super().setup_worker_connection(_worker_id)
        self._tell()

    @property
    def _entry(self) -> dict[str, Any]:
        entry: dict[str, Any] = settings.DATABASES[self.connection.alias]
        return entry

    def _tell(self) -> None:
        """Have connections of other threads lead where this one does."""
        now = self.connection.settings_dict
        self._entry.update({key: now[key] for key in ("NAME", "PEERS")})


class BalancedClient(BaseDatabaseClient):
    """Runs the shell of a peer that can be connected to."""

    def runshell(self, parameters: Any) -> None:
        self.connection.ensure_connection()
        self.connection.close()
        super().runshell(parameters)
