"""The middleware of django-pindb."""

from typing import Any

from django_replicas.compat import HALVES, refuse_hooks
from django_replicas.conf import get_config
from django_replicas.middleware import ReplicasMiddleware
from django_replicas.topology import ReplicaSet

__all__ = ["PINNING_COOKIE", "PINNING_SECONDS", "PinDbMiddleware"]

PINNING_COOKIE: str
PINNING_SECONDS: float


class PinDbMiddleware(ReplicasMiddleware):
    """Ours, by the name that it had."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_hooks(PinDbMiddleware, cls, HALVES)


def __getattr__(name: str) -> Any:
    """Return a setting as it is now; theirs was read when the module was imported."""
    config = get_config()
    if name == "PINNING_COOKIE":
        return config.cookie.name
    if name == "PINNING_SECONDS":
        default = ReplicaSet("default", ())
        return config.topology.by_leader.get("default", default).pin_seconds
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
