"""Where sessions are kept in tests: files and memory, or real servers with a standby that lags."""

from contextlib import ExitStack, contextmanager

from django.core.management import call_command
from django.test import override_settings

from django_replicas.sessions.process import drain
from servers.memcached import Memcached
from servers.postgres import Cluster

from .test_followers import databases_in_place

LOCMEM = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}


@contextmanager
def files(name):
    """SQLite and a cache in memory; the followers' files are as they were before all tests."""
    caches = {"default": {**LOCMEM, "LOCATION": name}}
    with override_settings(CACHES=caches):
        yield


class Servers:
    """PostgreSQL with one standby, and memcached; started once, emptied for each test."""

    def __init__(self):
        with ExitStack() as undo:
            self.cluster = undo.enter_context(Cluster(standbys=1))
            self.memcached = undo.enter_context(Memcached())
            self._undo = undo.pop_all()
        self.databases = {
            "default": self.cluster.leader.django_database(),
            "replica1": self.cluster.followers[0].django_database(),
        }
        self._is_migrated = False

    def close(self):
        if self._is_migrated:
            self.cluster.followers[0].resume_replay()
        self._undo.close()

    @contextmanager
    def in_place(self):
        """Have them in the place of the tests' own; the standby has replayed no session of any."""
        backend = "django.core.cache.backends.memcached.PyMemcacheCache"
        caches = {"default": {"BACKEND": backend, "LOCATION": self.memcached.location}}
        # Another limit is another queue, whose threads know these databases and no others.
        replicas = {"SETS": {"default": ["replica1"]}, "WRITE_BEHIND_LIMIT": 1001}
        with (
            databases_in_place(self.databases),
            override_settings(CACHES=caches, REPLICAS=replicas),
        ):
            if self._is_migrated:
                self.cluster.leader.execute("TRUNCATE django_session")
            else:
                call_command("migrate", verbosity=0)
                self.cluster.wait_for_replay()
                self.cluster.followers[0].pause_replay()
                self._is_migrated = True
            yield self
            assert drain(10) == 0
