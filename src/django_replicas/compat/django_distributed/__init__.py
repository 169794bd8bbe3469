"""django-distributed's module paths and names."""

from django_replicas.compat import warn_of_removal

from .router import SessionCachedRouter

__all__ = ["SessionCachedRouter"]

warn_of_removal("django_distributed")
