"""What django-elasticache is called here; its options stay in ``CACHES``."""

from .translation import Dialect, Translation

DIALECT = Dialect(
    "django-elasticache",
    "django_elasticache",
    lambda given: Translation({}),
    paths={
        "django_elasticache.memcached.ElastiCache": "django_replicas.cache.elasticache.ElastiCache"
    },
)
