"""What django-proxysql is called here; ``PEERS`` and ``CHECK_INTERVAL`` stay in ``DATABASES``."""

from .translation import Dialect, Translation

DIALECT = Dialect(
    "django-proxysql",
    "django_proxysql",
    lambda given: Translation({}),
    paths={"django_proxysql.backends.proxysql": "django_replicas.backends.balanced"},
)
