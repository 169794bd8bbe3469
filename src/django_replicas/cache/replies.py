"""What a configuration endpoint says, read from bytes: its protocol without its socket.

https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/AutoDiscovery.AddingToYourClientLibrary.html
describes the protocol. Nothing here does I/O.
"""

import re
from collections.abc import Iterator
from ipaddress import ip_address
from typing import NamedTuple

from django_replicas.exceptions import MalformedReplyError, NoDiscoveryError

DEFAULT_PORT = 11211

# Engines before this one keep the list under a key of their own.
FIRST_WITH_COMMAND = (1, 4, 14)
COMMAND = b"config get cluster\r\n"
OLDER_COMMAND = b"get AmazonElastiCache:cluster\r\n"

VERSION = re.compile(rb"VERSION (\d+)\.(\d+)\.(\d+)")
HEADER = re.compile(rb"(?:CONFIG cluster|VALUE AmazonElastiCache:cluster) \d+ (\d{1,9})(?: \d+)?")
REFUSAL = re.compile(rb"(ERROR|CLIENT_ERROR|SERVER_ERROR)\b|END$")
HOSTNAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9_.])?")
ENDING = b"\r\nEND\r\n"
MOST_QUOTED = 200


class Node(NamedTuple):
    """Where one memcached listens, as its cluster tells; one of the first two may be empty."""

    hostname: str
    ip: str
    port: int

    @property
    def host(self) -> str:
        """What to connect to: the address, because a name may still lead to a replaced node."""
        return self.ip or self.hostname

    def __str__(self) -> str:
        return address(self.host, self.port)


class NodeList(NamedTuple):
    """The nodes of a cluster, in an order that never depends on the reply's."""

    version: int
    nodes: tuple[Node, ...]


def address(host: str, port: int) -> str:
    """Return the two as one text, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def command_for(version_line: bytes) -> bytes:
    """Return the command that an engine of this version knows; unknown versions are new ones."""
    found = VERSION.match(version_line)
    older = found is not None and tuple(map(int, found.groups())) < FIRST_WITH_COMMAND
    return OLDER_COMMAND if older else COMMAND


def payload_size(header: bytes) -> int:
    """Return how many bytes follow the header's line.

    Raises ``NoDiscoveryError`` where the command is refused, ``MalformedReplyError`` for all else.
    """
    if REFUSAL.match(header):
        raise NoDiscoveryError(f"it knows no discovery; it said {quoted(header)}", received=header)
    found = HEADER.fullmatch(header)
    if found is None:
        raise MalformedReplyError(f"it said {quoted(header)}, no list of nodes", received=header)
    return int(found[1])


def read_nodes(payload: bytes) -> NodeList:
    """Return the list in a payload; raise ``MalformedReplyError`` unless all of it makes sense."""
    try:
        first, _, entries = payload.decode("ascii").strip().partition("\n")
        version = _number(first.strip(), 10**18)
        nodes = tuple(sorted(set(_nodes(entries))))
        if not nodes:
            raise ValueError("it names no node")
        return NodeList(version, nodes)
    except ValueError as error:
        problem = f"its list of nodes is {quoted(payload)}: {error}"
        raise MalformedReplyError(problem, received=payload) from error


def _nodes(entries: str) -> Iterator[Node]:
    for entry in entries.split():
        match entry.split("|"):
            case [hostname, ip, port]:
                yield _node(hostname, ip, port)
            case [hostname, ip]:
                yield _node(hostname, ip, "")
            case _:
                raise ValueError(f"{entry!r} is not hostname|ip|port")


def _node(hostname: str, ip: str, port: str) -> Node:
    ip = str(ip_address(ip.removeprefix("[").removesuffix("]"))) if ip else ""
    if not (hostname or ip):
        raise ValueError("a node has neither name nor address")
    if hostname and not HOSTNAME.fullmatch(hostname):
        hostname = str(ip_address(hostname.removeprefix("[").removesuffix("]")))
    return Node(hostname, ip, _number(port, 65_535) if port else DEFAULT_PORT)


def _number(text: str, largest: int) -> int:
    # Not int() alone, which also takes "1_0", " 1" and "-1".
    if not re.fullmatch(r"\d{1,19}", text) or int(text) > largest:
        raise ValueError(f"{text!r} is not a number up to {largest}")
    return int(text)


def quoted(received: bytes) -> str:
    """Return the beginning of what was received, in a form that is safe in a message."""
    return repr(received[:MOST_QUOTED]) + ("..." if len(received) > MOST_QUOTED else "")
