"""Which alias leads, which aliases follow it: plain data, and the settings made from it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .exceptions import ReplicasConfigError

DatabaseSettings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MaxLag:
    """How far behind its leader a follower may be: so many seconds, or so many bytes."""

    seconds: float | None = None
    bytes: int | None = None

    def __str__(self) -> str:
        return f"{self.bytes} bytes" if self.seconds is None else f"{self.seconds:g} s"


@dataclass(frozen=True, slots=True)
class ReplicaSet:
    """One leader, its followers, and what is configured for the set alone.

    ``pin_seconds``, ``mark_seconds``, ``downtime``, ``check_interval``, ``check_timeout`` and
    ``replication_lag`` are seconds.
    """

    leader: str
    followers: tuple[str, ...]
    balance: str = "random"
    pin_seconds: float = 15.0
    mark_seconds: float = 3600.0
    mark_position: str = "flushed"
    downtime: float = 10.0
    check_interval: float = 10.0
    check_timeout: float = 1.0
    replication_lag: float | None = None
    max_lag: MaxLag | None = None

    @property
    def recency_seconds(self) -> float:
        """How long after a write a follower may lack it."""
        return self.pin_seconds if self.replication_lag is None else self.replication_lag


class Topology:
    """All replica sets of a project; immutable, safe to share between threads."""

    def __init__(self, sets: Iterable[ReplicaSet] = ()) -> None:
        self.sets = tuple(sets)
        self.by_leader: Mapping[str, ReplicaSet] = {each.leader: each for each in self.sets}
        self._by_follower = {alias: each for each in self.sets for alias in each.followers}

    def set_of(self, alias: str | None) -> ReplicaSet | None:
        """Return the set that *alias* leads or follows in, if there is one."""
        if alias is None:
            return None
        return self.by_leader.get(alias) or self._by_follower.get(alias)

    def leader_of(self, alias: str) -> str:
        """Return the leader that *alias* follows; any other alias is its own."""
        replica_set = self._by_follower.get(alias)
        return alias if replica_set is None else replica_set.leader

    def is_follower(self, alias: str | None) -> bool:
        return alias in self._by_follower


def populate_replicas(
    masters: Mapping[str, DatabaseSettings],
    sets: Mapping[str, Sequence[DatabaseSettings]],
    unmanaged_default: bool = False,
) -> dict[str, dict[str, Any]]:
    """Make the entries of ``DATABASES`` for leaders and for the followers that differ from them.

    The followers of ``NAME`` are ``NAME-0``, ``NAME-1`` and so on: the leader's settings, updated
    with the follower's own, mirrored onto the leader in tests, and without the leader's
    ``ATOMIC_REQUESTS``. The arguments are not changed.

    Raises ``ReplicasConfigError`` when no leader is called ``default`` (unless
    *unmanaged_default* says that ``DATABASES`` has one of another kind), when a leader has no
    entry in *sets* (an empty list is one), or when two aliases would get one name.
    """
    if "default" not in masters and not unmanaged_default:
        raise ReplicasConfigError(
            'No leader is called "default". Name one so, or pass unmanaged_default=True '
            'when DATABASES["default"] is a database without followers.'
        )
    for alias in sets:
        if alias not in masters:
            raise ReplicasConfigError(
                f"Followers are given for {alias!r}, which is not among the leaders "
                f"({', '.join(map(repr, masters))}). Add it to them, or remove its followers."
            )
    databases = {alias: dict(settings) for alias, settings in masters.items()}
    for leader, settings in masters.items():
        for alias, follower in _followers(leader, settings, sets):
            if alias in databases:
                raise ReplicasConfigError(
                    f"A follower of {leader!r} would be called {alias!r}, but that alias is taken. "
                    "Rename the leader that has it."
                )
            databases[alias] = follower
    return databases


def _followers(
    leader: str, settings: DatabaseSettings, sets: Mapping[str, Sequence[DatabaseSettings]]
) -> Iterable[tuple[str, dict[str, Any]]]:
    if leader not in sets:
        raise ReplicasConfigError(
            f"The leader {leader!r} has no entry among the replica sets. "
            f"Add its followers, or an empty list: {{{leader!r}: []}}."
        )
    for number, own in enumerate(sets[leader]):
        merged = {**settings, **own}
        if "ATOMIC_REQUESTS" not in own:
            # A transaction per request would open a connection to every follower each time.
            merged.pop("ATOMIC_REQUESTS", None)
        merged["TEST"] = {**merged.get("TEST", {}), "MIRROR": leader}
        yield f"{leader}-{number}", merged
