"""django-elasticache's module paths and names."""

from django_replicas.compat import warn_of_removal

warn_of_removal("django_elasticache")
