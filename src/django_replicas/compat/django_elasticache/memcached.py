"""``BACKEND``: a cache that follows its cluster, through pylibmc."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from django_replicas.cache import elasticache
from django_replicas.cache.libraries import PyLibMC
from django_replicas.exceptions import DiscoveryError

P = ParamSpec("P")
T = TypeVar("T")


class ElastiCache(elasticache.ElastiCache):
    """Ours, with entries as they were written for it: behaviors and ``BINARY`` where they stood."""

    def __init__(self, server: str | Sequence[str], params: dict[str, Any]) -> None:
        own = dict(params)
        self.update_params(own)
        super().__init__(server, own)

    def update_params(self, params: dict[str, Any]) -> None:
        """Put into OPTIONS what was read elsewhere; *params* is a copy of the entry."""
        given = params.get("OPTIONS", {})
        if not isinstance(given, Mapping) or not isinstance(given.get("behaviors", {}), Mapping):
            return
        astray = PyLibMC.behaviors() & given.keys()
        options = {name: value for name, value in given.items() if name not in astray}
        if astray:
            behaviors = {name: given[name] for name in astray}
            options["behaviors"] = {**behaviors, **given.get("behaviors", {})}
        if "BINARY" in params:
            options.setdefault("binary", bool(params["BINARY"]))
        params["OPTIONS"] = options

    def get_cluster_nodes(self) -> list[str]:
        """Return the nodes, each as ``address:port``; raises ``DiscoveryError``."""
        return self.nodes

    def clear_cluster_nodes_cache(self) -> None:
        """Look at the nodes and their list now; those that are known are kept if that fails."""
        with suppress(DiscoveryError):
            self.cluster.suspect(self.cluster.view(), wait=True)


def invalidate_cache_after_error(
    call: Callable[Concatenate[ElastiCache, P], T],
) -> Callable[Concatenate[ElastiCache, P], T]:
    """Have the cluster looked at when a method fails that does not go through the client."""

    @wraps(call)
    def wrapper(self: ElastiCache, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(self, *args, **kwargs)
        except Exception:
            self.clear_cluster_nodes_cache()
            raise

    return wrapper
