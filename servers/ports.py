"""Ports for servers on loopback."""

import secrets
import socket

# Below the range from which Linux takes the ports of outgoing connections: none of them can sit on
# the port of a server that is down and wants it back.
CANDIDATES = range(10_240, 32_768)


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens."""
    while True:
        # Not `random`: test runs seed it, and two of them at once would ask for the same ports.
        port = secrets.choice(CANDIDATES)
        if is_free(port):
            return port


def first_free_port(wanted: int) -> int:
    """Return the port that is wanted, or else the next one on which nobody listens."""
    return next(port for port in range(wanted, 65_536) if is_free(port))


def is_free(port: int) -> bool:
    """Tell whether a server could listen on this port of 127.0.0.1."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
