"""Asking a configuration endpoint for its nodes."""

from typing import Any

from django_replicas.cache.discovery import Source
from django_replicas.cache.endpoint import Endpoint
from django_replicas.exceptions import DiscoveryError

WrongProtocolData = DiscoveryError


def get_cluster_info(
    host: str, port: int | str, ignore_cluster_errors: bool = False
) -> dict[str, Any]:
    """Return ``nodes``, each as ``address:port``, and the ``version`` of their list.

    Raises ``DiscoveryError``. An endpoint that knows no discovery may be allowed to be the only
    node; its list has the version -1.
    """
    source = Source(Endpoint(host, int(port)), may_be_single=ignore_cluster_errors)
    found = source.ask()
    return {"nodes": [str(node) for node in found.nodes], "version": found.version}
