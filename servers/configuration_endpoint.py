"""A configuration endpoint on loopback that names the nodes it is told to, or misbehaves.

with ConfigurationEndpoint() as endpoint, Memcached() as node:
    endpoint.name([node.location])
    CACHES = {"default": {"LOCATION": endpoint.location, ...}}
"""

import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from ssl import SSLContext
from typing import Self

# What it sends for a command: bytes one after another, for as long as somebody takes them.
Reply = Callable[[bytes], Iterable[bytes]]

UNKNOWN = b"ERROR\r\n"


def entry(location: str, hostname: str = "") -> str:
    """Return how a list names the node at a location: hostname, address and port."""
    host, _, port = location.rpartition(":")
    return f"{hostname or 'node-' + port}|{host.strip('[]')}|{port}"


def listing(version: int, entries: Sequence[str], header: str = "CONFIG cluster 0") -> bytes:
    """Return a whole reply as the real ones are, a payload of so many bytes and its ending."""
    payload = f"{version}\n{' '.join(entries)}\n".encode()
    return f"{header} {len(payload)}\r\n".encode() + payload + b"\r\nEND\r\n"


class ConfigurationEndpoint:
    """An endpoint inside the `with` block, on threads of this process; `location` is where.

    `reply` answers all but `version`, and may be anything; `commands` are those that came.
    """

    def __init__(
        self, engine: bytes = b"1.6.12", tls: SSLContext | None = None, family: str = "127.0.0.1"
    ) -> None:
        self.engine = engine
        self.reply: Reply = lambda command: [UNKNOWN]
        self.commands: list[bytes] = []
        self.version = 0
        self._tls = tls
        self._host = family
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._connections: set[socket.socket] = set()

    def __enter__(self) -> Self:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        self._listener = socket.create_server((self._host, 0), family=family)
        self.port: int = self._listener.getsockname()[1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.location = f"{host}:{self.port}"
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def name(self, locations: Iterable[str]) -> None:
        """Name these nodes from now on, in a list of the next version."""
        self.version += 1
        self.say(listing(self.version, [entry(location) for location in locations]))

    def say(self, *parts: bytes) -> None:
        """Answer with these bytes from now on."""
        self.reply = lambda command: parts

    def hang(self) -> None:
        """Answer nothing from now on, and keep the connections."""
        self.reply = self._nothing

    def _nothing(self, command: bytes) -> Iterable[bytes]:
        self._ended.wait()
        return []

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        # Whoever leaves early, or does not trust us, is no concern of ours.
        with connection, suppress(OSError):
            served = connection
            if self._tls is not None:
                served = self._tls.wrap_socket(connection, server_side=True)
            with served:
                self._connections.add(served)
                try:
                    self._converse(served)
                finally:
                    self._connections.discard(served)

    def _converse(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as commands:
            for line in commands:
                command = line.strip()
                self.commands.append(command)
                if command == b"version":
                    connection.sendall(b"VERSION " + self.engine + b"\r\n")
                    continue
                for part in self.reply(command):
                    connection.sendall(part)
                    if self._ended.is_set():
                        return
                # What is not a whole reply is all there will be.
                if self.reply == self._nothing:
                    return
