"""Do caches on clusters ask for what their endpoints have, seen offline.

Entries that are wrong in themselves raise when Django's own check of caches makes them.
"""

from collections.abc import Iterator
from typing import Any

from django.core.cache import caches
from django.core.checks import CheckMessage, register

from django_replicas.cache.elasticache import ClusterCache

from .messages import warning

SERVERLESS = ".serverless."


@register
def check_caches(**kwargs: Any) -> list[CheckMessage]:
    """Report caches on serverless endpoints that could not be used; nothing is connected to."""
    return list(_serverless())


def _serverless() -> Iterator[CheckMessage]:
    for alias in caches:
        cache = caches[alias]
        if not isinstance(cache, ClusterCache):
            continue
        source = cache.cluster.source
        prepared = source.endpoint.tls is not None and source.may_be_single
        if SERVERLESS in source.endpoint.host and not prepared:
            yield warning(
                "W030",
                f"The cache {alias!r} is serverless, which speaks TLS and knows no discovery.",
                "Use PyMemcacheElastiCache, with tls_context and IGNORE_CLUSTER_ERRORS in OPTIONS.",
            )
