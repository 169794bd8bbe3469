"""Asking a configuration endpoint, or any node, over a socket: whole replies or typed errors."""

import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from ssl import SSLContext
from threading import Thread
from typing import Any, Self

from django_replicas.exceptions import (
    DiscoveryError,
    EndpointUnreachableError,
    MalformedReplyError,
)

from .replies import (
    ENDING,
    Node,
    NodeList,
    address,
    command_for,
    payload_size,
    quoted,
    read_nodes,
)

# A list of a thousand nodes is far below this.
MOST_RECEIVED = 256 * 1024
LONGEST_LINE = 1024

# What getaddrinfo() returns for each address of a name.
Place = tuple[int, int, int, str, Any]


@dataclass(frozen=True)
class Endpoint:
    """Where a cluster is asked for its nodes; with ``tls`` names are verified, so names count."""

    host: str
    port: int
    tls: SSLContext | None = None

    def __str__(self) -> str:
        return address(self.host, self.port)

    def host_of(self, node: Node) -> str:
        """Return what clients connect to: the name where a certificate has to match it."""
        return (node.hostname if self.tls else "") or node.host


def ask(endpoint: Endpoint, timeout: float) -> NodeList:
    """Return the nodes that the endpoint names, within *timeout* seconds after its name resolved.

    Raises a ``DiscoveryError`` that quotes what was received; reads no more than a bounded number
    of bytes, whatever is sent.
    """
    try:
        with Conversation.with_(endpoint.host, endpoint.port, endpoint.tls, timeout) as talk:
            return _ask(talk)
    except DiscoveryError as error:
        raise type(error)(
            f"The configuration endpoint {endpoint} gave no list of nodes: {error}.",
            str(endpoint),
            error.received,
        ) from error


def _ask(talk: "Conversation") -> NodeList:
    talk.send(b"version\r\n")
    talk.send(command_for(talk.line()))
    size = payload_size(talk.line())
    payload = talk.exactly(size)
    if (ending := talk.exactly(len(ENDING))) != ENDING:
        problem = f"{size} bytes of nodes end with {quoted(ending)}"
        raise MalformedReplyError(problem, received=payload + ending)
    return read_nodes(payload)


class Span:
    """Some seconds from now on, for all of what has to be done in them."""

    def __init__(self, seconds: float) -> None:
        self._ends_at = time.monotonic() + seconds

    def left(self) -> float:
        """Return how many are left; raise ``TimeoutError`` where none is."""
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError("it took too long")
        return left


class Conversation:
    """Commands and replies over one connection, all of them within one span of time."""

    def __init__(self, connection: socket.socket, span: Span) -> None:
        self._connection = connection
        self._span = span
        self._received = bytearray()
        self._room = MOST_RECEIVED

    @classmethod
    def with_(cls, host: str, port: int, tls: SSLContext | None, timeout: float) -> Self:
        """Connect, and speak TLS from the start where a context is given."""
        try:
            places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            span = Span(timeout)
            connection = _connected(places, span)
            if tls is not None:
                connection = _secured(connection, tls, host, span)
        # UnicodeError: a name that is none.
        except (OSError, UnicodeError) as error:
            raise EndpointUnreachableError(f"it cannot be connected to ({error})") from error
        return cls(connection, span)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def send(self, command: bytes) -> None:
        try:
            self._connection.settimeout(self._span.left())
            self._connection.sendall(command)
        except OSError as error:
            raise self._unreachable(error) from error

    def line(self) -> bytes:
        """Return the next line without its end."""
        while (end := self._received.find(b"\r\n")) < 0:
            if len(self._received) > LONGEST_LINE:
                problem = f"its line {quoted(bytes(self._received))} does not end"
                raise MalformedReplyError(problem, received=bytes(self._received))
            self._receive()
        return self._taken(end + 2)[:-2]

    def exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            self._receive()
        return self._taken(size)

    def _taken(self, size: int) -> bytes:
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    def _receive(self) -> None:
        try:
            self._connection.settimeout(self._span.left())
            received = self._connection.recv(4096)
            if not received:
                raise ConnectionError("it ended the connection")
        except OSError as error:
            raise self._unreachable(error) from error
        self._received += received
        self._room -= len(received)
        if self._room < 0:
            problem = f"it sent more than {MOST_RECEIVED} bytes, {quoted(bytes(self._received))}"
            raise MalformedReplyError(problem, received=bytes(self._received))

    def _unreachable(self, error: OSError) -> EndpointUnreachableError:
        received = bytes(self._received)
        until_then = f" after {quoted(received)}" if received else ""
        return EndpointUnreachableError(f"{error}{until_then}", received=received)


def _connected(places: Sequence[Place], span: Span) -> socket.socket:
    """Connect to the first place that lets us; none may use up the time of those after it."""
    *others, last = places
    for number, place in enumerate(others):
        with suppress(OSError):
            return _connection(place, span.left() / (len(places) - number))
    return _connection(last, span.left())


def _connection(place: Place, seconds: float) -> socket.socket:
    family, kind, protocol, _, address = place
    connection = socket.socket(family, kind, protocol)
    try:
        connection.settimeout(seconds)
        connection.connect(address)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        connection.close()
        raise
    return connection


def _secured(connection: socket.socket, tls: SSLContext, host: str, span: Span) -> socket.socket:
    try:
        connection.settimeout(span.left())
        return tls.wrap_socket(connection, server_hostname=host)
    except BaseException:
        connection.close()
        raise


def answers(host: str, port: int, tls: SSLContext | None, timeout: float) -> bool:
    """Tell whether a memcached at this place says its version within *timeout* seconds."""
    try:
        with Conversation.with_(host, port, tls, timeout) as talk:
            talk.send(b"version\r\n")
            return talk.line().startswith(b"VERSION")
    except DiscoveryError:
        return False


def silent(endpoint: Endpoint, nodes: Iterable[Node], timeout: float) -> frozenset[Node]:
    """Return those nodes that do not answer, all of them asked at once."""
    answering: set[Node] = set()

    def try_one(node: Node) -> None:
        if answers(endpoint.host_of(node), node.port, endpoint.tls, timeout):
            answering.add(node)

    asked = list(nodes)
    ends_at = time.monotonic() + timeout
    threads = [Thread(target=partial(try_one, node), daemon=True) for node in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, ends_at - time.monotonic()))
    return frozenset(asked) - answering
