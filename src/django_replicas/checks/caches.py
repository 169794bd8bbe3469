"""Are the entries of caches on clusters sound, and do they ask for what their endpoints have.

Nothing is connected to.
"""

from collections.abc import Iterator
from typing import Any

from django.core.cache import InvalidCacheBackendError, caches
from django.core.checks import CheckMessage, register

from django_replicas.cache.discovery import Source
from django_replicas.cache.elasticache import ClusterCache

from .messages import error, warning

SERVERLESS = ".serverless."


@register
def check_caches(**kwargs: Any) -> list[CheckMessage]:
    """Report caches on clusters whose first use would raise, or find nothing."""
    return [*_problems()]


def _problems() -> Iterator[CheckMessage]:
    for alias in caches:
        cache = caches[alias]
        if not isinstance(cache, ClusterCache):
            continue
        try:
            source = cache.cluster.source
        except InvalidCacheBackendError as wrong:
            yield error(
                "E031",
                f"The cache {alias!r} cannot be used: {wrong}",
                f"Mend CACHES[{alias!r}]; whoever uses it gets an InvalidCacheBackendError.",
            )
        else:
            yield from _serverless(alias, source)


def _serverless(alias: str, source: Source) -> Iterator[CheckMessage]:
    prepared = source.endpoint.tls is not None and source.may_be_single
    if SERVERLESS in source.endpoint.host and not prepared:
        yield warning(
            "W030",
            f"The cache {alias!r} is serverless, which speaks TLS and knows no discovery.",
            "Use PyMemcacheElastiCache, with tls_context and IGNORE_CLUSTER_ERRORS in OPTIONS.",
        )
