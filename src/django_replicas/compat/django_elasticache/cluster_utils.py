"""Asking a configuration endpoint for its nodes."""

from typing import Any

from django_replicas.cache.discovery import Source
from django_replicas.cache.endpoint import Endpoint
from django_replicas.exceptions import DiscoveryError, EndpointUnreachableError

WrongProtocolData = DiscoveryError


class ReplyValueError(DiscoveryError, ValueError):
    """An endpoint's answer is no list of nodes; a ``ValueError`` too, as WrongProtocolData was."""


class NoReplyError(EndpointUnreachableError, ConnectionError):
    """An endpoint is not reached, or silent; an ``OSError`` too, as ``socket.error`` is."""


def get_cluster_info(
    host: str, port: int | str, ignore_cluster_errors: bool = False
) -> dict[str, Any]:
    """Return ``nodes``, each as ``address:port``, and the ``version`` of their list.

    Raises ``DiscoveryError``, which for a wrong answer is a ``ValueError``, and for none a
    ``ConnectionError``. An endpoint that knows no discovery may be allowed to be the only
    node; its list has the version -1.
    """
    source = Source(Endpoint(host, int(port)), may_be_single=ignore_cluster_errors)
    try:
        found = source.ask()
    except EndpointUnreachableError as error:
        raise NoReplyError(str(error), error.endpoint, error.received) from error
    except DiscoveryError as error:
        raise ReplyValueError(str(error), error.endpoint, error.received) from error
    return {"nodes": [str(node) for node in found.nodes], "version": found.version}
