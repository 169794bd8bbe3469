"""Every error that this package raises, below one root."""

from collections.abc import Mapping

from django.core.exceptions import ImproperlyConfigured
from django.db.utils import OperationalError


class ReplicasError(Exception):
    """The root of all errors of django-replicas."""


class ReplicasConfigError(ReplicasError, ImproperlyConfigured):
    """A setting is wrong; the message names the key or the alias and says what to do."""


class UnknownSetError(ReplicasError, LookupError):
    """An alias was given where the leader of a replica set is expected."""


class WriteRefusedError(ReplicasError):
    """A write was stopped before anything was executed.

    ``alias`` is the leader that would have been written to.
    """

    def __init__(self, message: str, alias: str) -> None:
        super().__init__(message)
        self.alias = alias


class UnpinnedWriteError(WriteRefusedError):
    """``StrictPinRouter`` met a write to a set that was not pinned before."""


class FollowerRoleWriteError(WriteRefusedError, RuntimeError):
    """``LeaderFollowerRouter`` met a write in a unit of work that asked for followers.

    A ``RuntimeError`` as well, because that is what django_replicated raises.
    """


class StaleSaveError(ReplicasError):
    """An instance whose values came from a follower was about to be saved (``STALE_SAVE``)."""


class DiscoveryError(ReplicasError):
    """A configuration endpoint did not tell the nodes of its cluster.

    ``endpoint`` is its address, ``received`` the beginning of what it sent, empty if nothing came.
    """

    def __init__(self, message: str, endpoint: str = "", received: bytes = b"") -> None:
        super().__init__(message)
        self.endpoint = endpoint
        self.received = received


class EndpointUnreachableError(DiscoveryError):
    """The endpoint could not be connected to, or ended or was late before its reply was whole."""


class MalformedReplyError(DiscoveryError):
    """The endpoint sent something that is no list of nodes, or an empty one."""


class NoDiscoveryError(DiscoveryError):
    """The endpoint knows no discovery: it is a single node, or a serverless cache."""


class NoPeerError(ReplicasError, OperationalError):
    """No peer of an alias could be connected to.

    ``errors`` has what each of them raised, by its alias.
    """

    def __init__(self, alias: str, errors: Mapping[str, Exception]) -> None:
        told = "; ".join(f"{peer}: {' '.join(str(e).split())}" for peer, e in errors.items())
        super().__init__(f"No peer of {alias!r} can be connected to. {told}")
        self.alias = alias
        self.errors = errors

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.alias, self.errors)
