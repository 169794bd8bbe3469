"""django-elasticache's module paths and names."""

from django_replicas.compat import warn_of_removal

warn_of_removal("django_elasticache")

# Whose names these are.
VERSION = (1, 0, 3)
__version__ = "1.0.3"
