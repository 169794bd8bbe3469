"""An entry of ``CACHES`` for a cluster: its location and OPTIONS, read into plain data."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any

from django.core.cache.backends.base import InvalidCacheBackendError

from .discovery import Source
from .endpoint import Endpoint

DEFAULTS = {
    "CALL_RETRY_COUNT": 0,
    "DISCOVERY_INTERVAL": 60.0,
    "DISCOVERY_TIMEOUT": 2.0,
    "IGNORE_CLUSTER_ERRORS": False,
    "NODE_TIMEOUT": 2.0,
}
SECONDS = ("DISCOVERY_INTERVAL", "DISCOVERY_TIMEOUT", "NODE_TIMEOUT")


@dataclass(frozen=True)
class Options:
    """What one entry says: our part by its names, the client's part as it was given."""

    source: Source
    retries: int
    node_timeout: float
    of_client: Mapping[str, Any]


def mapping_of(given: Any) -> Mapping[str, Any]:
    """Return OPTIONS as they were given; raise ``InvalidCacheBackendError`` if they have no names.

    Django reads them too, and takes for granted that they have.
    """
    if given is not None and not isinstance(given, Mapping):
        raise InvalidCacheBackendError(f"OPTIONS must be a dict, not {given!r}.")
    return given or {}


def read_options(location: Any, given: Mapping[str, Any]) -> Options:
    """Read an entry; raise ``InvalidCacheBackendError`` that says what to do."""
    ours = {name: given.get(name, default) for name, default in DEFAULTS.items()}
    of_client = {name: value for name, value in given.items() if name not in DEFAULTS}
    tls = of_client.get("tls_context")
    _check(ours, tls)
    host, port = read_location(location)
    return Options(
        source=Source(
            Endpoint(host, port, tls),
            interval=ours["DISCOVERY_INTERVAL"],
            timeout=ours["DISCOVERY_TIMEOUT"],
            may_be_single=ours["IGNORE_CLUSTER_ERRORS"],
        ),
        retries=ours["CALL_RETRY_COUNT"],
        node_timeout=ours["NODE_TIMEOUT"],
        of_client=of_client,
    )


def _check(ours: Mapping[str, Any], tls: object) -> None:
    for name in SECONDS:
        value = ours[name]
        # Not a bool, and no NaN.
        if type(value) not in (int, float) or not 0 < value <= 86_400:
            raise _wrong(name, "a number of seconds above 0, a day at most", value)
    if type(ours["CALL_RETRY_COUNT"]) is not int or not 0 <= ours["CALL_RETRY_COUNT"] <= 100:
        raise _wrong("CALL_RETRY_COUNT", "a whole number from 0 to 100", ours["CALL_RETRY_COUNT"])
    if type(ours["IGNORE_CLUSTER_ERRORS"]) is not bool:
        raise _wrong("IGNORE_CLUSTER_ERRORS", "True or False", ours["IGNORE_CLUSTER_ERRORS"])
    if tls is not None and not isinstance(tls, SSLContext):
        raise _wrong("tls_context", "an ssl.SSLContext", tls)


def _wrong(name: str, wanted: str, value: object) -> InvalidCacheBackendError:
    return InvalidCacheBackendError(f"OPTIONS[{name!r}] must be {wanted}, not {value!r}.")


def read_location(location: Any) -> tuple[str, int]:
    """Return host and port of the one endpoint; an IPv6 address stands in brackets."""
    host, port = _split(_only(location))
    if not host or any(character in host for character in "/;, \t"):
        raise InvalidCacheBackendError(
            f"LOCATION {location!r} names no host; write the configuration endpoint, host:port."
        )
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise InvalidCacheBackendError(
            f"LOCATION {location!r} has no port; write {_with_port(host)}."
        )
    return host, int(port)


def _only(location: Any) -> str:
    several = [location] if isinstance(location, str) else location
    if not isinstance(several, Sequence) or not all(isinstance(each, str) for each in several):
        raise InvalidCacheBackendError(f"LOCATION must be host:port, not {location!r}.")
    endpoints = [each.strip() for text in several for each in text.replace(";", ",").split(",")]
    if len(endpoints) != 1:
        raise InvalidCacheBackendError(
            f"LOCATION {location!r} names {len(endpoints)} servers; name one, the cluster's "
            "configuration endpoint, which tells the nodes."
        )
    return endpoints[0]


def _split(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        return host, port.removeprefix(":")
    # Without brackets an IPv6 address cannot be told from its port.
    host, _, port = text.partition(":") if text.count(":") == 1 else (text, "", "")
    return host, port


def _with_port(host: str) -> str:
    return f"'[{host}]:11211'" if ":" in host else f"'{host}:11211'"


def as_key(value: Any) -> Hashable:
    """Return something hashable that is equal for equal settings.

    What cannot be compared counts as itself, and lives on in the key.
    """
    if isinstance(value, Mapping):
        return frozenset((name, as_key(each)) for name, each in value.items())
    if isinstance(value, list | tuple | set):
        return tuple(map(as_key, value))
    return value if isinstance(value, Hashable) else _Same(value)


class _Same:
    """Equal to itself alone, and to others of the same object."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other._value is self._value

    def __hash__(self) -> int:
        return id(self._value)
