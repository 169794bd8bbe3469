"""The exceptions of django-pindb."""

from django_replicas.exceptions import ReplicasConfigError, ReplicasError, UnpinnedWriteError

__all__ = ["PinDbConfigError", "PinDbException", "UnpinnedWriteException"]

PinDbException = ReplicasError
PinDbConfigError = ReplicasConfigError
UnpinnedWriteException = UnpinnedWriteError


class ConfigValueError(ReplicasConfigError, ValueError):
    """What this package raises itself; a ``ValueError`` too, because PinDbConfigError was one."""
