"""The engine that all peers of an alias have, and what may be wrong with them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.dummy.base import DatabaseWrapper as DummyWrapper
from django.db.utils import load_backend

from django_replicas.exceptions import ReplicasConfigError
from django_replicas.peers import BALANCES, has_peers

Settings = Mapping[str, Any]


def engine_of(alias: str, settings: Settings) -> type[BaseDatabaseWrapper]:
    """Return the class of the peers' own connections, ``Unusable`` where something is wrong."""
    if any(wrong_peers(alias, settings)):
        return Unusable
    return _engine(settings["PEERS"][0])


class Unusable(DummyWrapper):
    """Cannot be opened, and says why: raises ``ReplicasConfigError`` where it is used.

    It can be made, so that system checks, which look at every alias, come to report the same.
    """

    def _refuse(self, *args: object, **kwargs: object) -> NoReturn:
        raise ReplicasConfigError(next(wrong_peers(self.alias, self.settings_dict)))

    connect = ensure_connection = _cursor = _refuse


def wrong_peers(alias: str, settings: Settings) -> Iterator[str]:
    """Yield what is wrong in the settings of an alias with peers; what cannot be asked is left."""
    where = f"DATABASES[{alias!r}]"
    problems = list(_wrong_names(where, settings.get("PEERS")))
    yield from problems
    if not problems:
        yield from _differences(where, settings["PEERS"])
    interval = settings.get("CHECK_INTERVAL", 1)
    if isinstance(interval, bool) or not isinstance(interval, (int, float)) or not interval > 0:
        yield (f'{where}["CHECK_INTERVAL"] must be a number of seconds above 0, not {interval!r}.')
    balance = settings.get("BALANCE", BALANCES[0])
    if balance not in BALANCES:
        choices = ", ".join(map(repr, BALANCES))
        yield f'{where}["BALANCE"] must be one of {choices}, not {balance!r}.'


def _wrong_names(where: str, names: Any) -> Iterator[str]:
    if not isinstance(names, (list, tuple)) or not all(isinstance(each, str) for each in names):
        yield f'{where}["PEERS"] must be a list of aliases, not {names!r}.'
        return
    if not names:
        yield f'{where}["PEERS"] is empty. Name at least one alias there.'
    for name, times in Counter(names).items():
        if times > 1:
            yield f'{where}["PEERS"] names {name!r} {times} times. Name each peer once.'
        if name not in connections.settings:
            yield (
                f'{where}["PEERS"] names {name!r}, which is not in DATABASES. '
                "Add it there, or remove it here."
            )
        elif has_peers(name):
            yield (f'{where}["PEERS"] names {name!r}, which has peers itself. Name those instead.')


def _differences(where: str, names: list[str]) -> Iterator[str]:
    engines = {name: _engine(name) for name in names}
    if len(set(engines.values())) > 1:
        told = ", ".join(f"{name}: {each.__module__}" for name, each in engines.items())
        yield f'{where}["PEERS"] have different engines ({told}). Give all of them the same.'
    zones = {name: connections.settings[name]["TIME_ZONE"] for name in names}
    if len(set(zones.values())) > 1:
        told = ", ".join(f"{name}: {zone!r}" for name, zone in zones.items())
        yield f'{where}["PEERS"] differ in TIME_ZONE ({told}). Give all of them the same.'


def _engine(alias: str) -> type[BaseDatabaseWrapper]:
    backend = load_backend(connections.settings[alias]["ENGINE"])
    engine: type[BaseDatabaseWrapper] = backend.DatabaseWrapper
    return engine
