"""The backends for ``CACHES``: ``ElastiCache`` on pylibmc, ``PyMemcacheElastiCache`` on pymemcache.

Both are Django's own backends of these libraries, over clients that follow the cluster's nodes.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from itertools import islice
from typing import Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT, InvalidCacheBackendError
from django.core.cache.backends.memcached import BaseMemcachedCache, PyLibMCCache, PyMemcacheCache

from .clients import Clients, Library, RetryingClient, clients_for
from .discovery import Cluster, cluster_of
from .libraries import PyLibMC, PyMemcache
from .options import Options, as_key, mapping_of, read_options

# A moment of 1970: memcached takes what is above 30 days for a time since then, in both protocols.
# Django's own -1 means "never" in the binary one.
LONG_AGO = 60 * 60 * 24 * 30 + 1
# Serverless caches, which have to be single nodes, take 16 KB of a command; a key has 250 bytes.
FEW_KEYS = 16_384 // 251 - 1


def _clients_of(library: type[Library], options: Options) -> Clients:
    """Return new clients of these options, unless the library would refuse them."""
    problems = library.problems(options.of_client)
    if problems:
        raise InvalidCacheBackendError(" ".join(problems))
    made = library(options.of_client, options.node_timeout)
    _try_values(made)
    return Clients(
        cluster_of(options.source),
        made,
        options.retries,
        ejecting=library.ejecting(options.of_client),
    )


def _try_values(library: Library) -> None:
    try:
        # Nothing is connected to before it is used.
        library.connect([("127.0.0.1", 1)]).disconnect_all()
    except Exception as error:  # Each raises what it likes.
        raise InvalidCacheBackendError(f"The client refuses its OPTIONS: {error!r}.") from error


class ClusterCache(BaseMemcachedCache):
    """What both backends share. One object may be used by any number of threads.

    A mistake in its entry raises ``InvalidCacheBackendError`` where it is used first; a system
    check reports it before.
    """

    _lib: Any  # Django's name for the library's module.

    def _follow(self, library: type[Library], server: Any, params: dict[str, Any]) -> None:
        library.module()
        self._entry = library, server, mapping_of(params.get("OPTIONS"))

    @cached_property
    def _clients(self) -> Clients:
        library, server, given = self._entry
        options = read_options(server, given)
        key = (library, options.source, options.retries, options.node_timeout)
        return clients_for(
            (*key, as_key(options.of_client)), partial(_clients_of, library, options)
        )

    @property
    def cluster(self) -> Cluster:
        """The cluster behind this cache, shared by the process."""
        return self._clients.cluster

    @property
    def nodes(self) -> list[str]:
        """The nodes as they are now; asks the endpoint where it never did."""
        return [str(node) for node in self.cluster.view().nodes]

    @cached_property
    def _cache(self) -> RetryingClient:
        return RetryingClient(self._clients)

    def get_backend_timeout(self, timeout: Any = DEFAULT_TIMEOUT) -> int:
        seconds: Any = super().get_backend_timeout(timeout)
        return LONG_AGO if seconds < 0 else seconds

    def close(self, **kwargs: Any) -> None:
        """Keep the connections: they are the process's, not this object's or this request's."""


class ElastiCache(ClusterCache, PyLibMCCache):
    """A cache on the nodes behind one configuration endpoint, through pylibmc."""

    def __init__(self, server: str | Sequence[str], params: dict[str, Any]) -> None:
        self._follow(PyLibMC, server, params)
        super().__init__(server, params)


class PyMemcacheElastiCache(ClusterCache, PyMemcacheCache):
    """A cache on the nodes behind one configuration endpoint, through pymemcache; speaks TLS."""

    def __init__(self, server: str | Sequence[str], params: dict[str, Any]) -> None:
        self._follow(PyMemcache, server, params)
        super().__init__(server, params)

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """Return what is there of the keys; of a single node, by commands that are short enough."""
        if not self.cluster.source.may_be_single:
            return super().get_many(keys, version)
        found: dict[Any, Any] = {}
        remaining = iter(keys)
        while some := list(islice(remaining, FEW_KEYS)):
            found |= super().get_many(some, version)
        return found
