"""``SESSION_ENGINE``: sessions behind the cache."""

from django_replicas.sessions.write_behind import SessionStore

__all__ = ["SessionStore"]
