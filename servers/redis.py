"""A Redis server that keeps nothing, ready in a moment and gone with its owner.

with Redis() as redis:
    Celery(broker=redis.url)
"""

import os
import shutil
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from servers.afterwards import Afterwards
from servers.ports import free_port
from servers.process import ServerError, ServerProcess, hand_over
from servers.waiting import wait_until

VARIABLE = "DJANGO_REPLICAS_REDIS_SERVER"
HOW_TO_INSTALL = (
    f"Install it (on Debian: apt-get install redis-tools), or name the program in {VARIABLE}."
)


class RedisNotFound(ServerError):
    """No Redis server is on this machine."""


def find_server() -> Path:
    """Return the server's program.

    The environment variable decides alone where it is set. Debian's redis-tools has the server too,
    under the name of a tool, without the service that its redis-server starts.
    """
    if VARIABLE in os.environ:
        return Path(os.environ[VARIABLE])
    found = shutil.which("redis-server") or shutil.which("redis-check-rdb")
    if found is None:
        raise RedisNotFound(f"No Redis server found. {HOW_TO_INSTALL}")
    return Path(found)


class Redis:
    """A server on loopback, running inside the `with` block; `url` is where its data is."""

    def __init__(self) -> None:
        self._program = find_server()
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            folder = Path(tempfile.mkdtemp(prefix="django-replicas-redis-"))
            removal = Afterwards('rm -rf -- "$1"', str(folder))
            undo.callback(removal.run_now)
            # It is what it is called: the tool's program looks at its own name.
            named = folder / "redis-server"
            named.symlink_to(self._program.resolve())
            hand_over(folder)
            command, log = self._command(named), folder / "log"
            self._process = ServerProcess(command, log=log, inherited=[removal.fd])
            undo.callback(self._stop)
            wait_until(self._is_ready, f"Redis is ready on port {self.port}")
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _command(self, program: Path) -> list[str]:
        options = {"bind": "127.0.0.1", "port": str(self.port), "save": "", "appendonly": "no"}
        return [str(program), *(part for key in options for part in (f"--{key}", options[key]))]

    def _is_ready(self) -> bool:
        if not self._process.is_running:
            raise ServerError(f"Redis ended instead of starting:\n{self._process.last_words()}")
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
        except OSError:
            return False

    def _stop(self) -> None:
        self._process.interrupt()
        self._process.wait()
