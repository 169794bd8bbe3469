"""The module paths of django_replicated."""

from django_replicas.compat import warn_of_removal

warn_of_removal("django_replicated")
