"""The middleware of django-pindb."""

from django_replicas.middleware import ReplicasMiddleware

__all__ = ["PinDbMiddleware"]

PinDbMiddleware = ReplicasMiddleware
