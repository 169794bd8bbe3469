"""A memcached on loopback, ready in a moment and gone with its owner.

with Memcached() as memcached:
    CACHES = {"default": {"LOCATION": memcached.location, ...}}
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

VARIABLE = "DJANGO_REPLICAS_MEMCACHED"


class MemcachedNotFound(ServerError):
    """No memcached is on this machine."""


def find_memcached() -> str:
    """Return the program's path; the environment variable decides alone where it is set."""
    found = os.environ.get(VARIABLE) or shutil.which("memcached", path=_path())
    if found is None:
        raise MemcachedNotFound(
            "No memcached found. Install it with `apt-get install memcached` (Debian), "
            f"or name its program in {VARIABLE}."
        )
    return found


def _path() -> str:
    # Debian's ordinary users have the folder of servers nowhere on their paths.
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])


class Memcached:
    """A memcached that runs inside the `with` block; `location` is where."""

    def __init__(self) -> None:
        self._program = find_memcached()
        self._port = free_port()
        self.location = f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self._folder = Path(tempfile.mkdtemp(prefix="django-replicas-memcached-"))
            self._removal = Afterwards('rm -rf -- "$1"', str(self._folder))
            undo.callback(self._removal.run_now)
            hand_over(self._folder)
            self.start()
            undo.callback(self.kill)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def start(self) -> None:
        """Start it, empty, and return when it answers."""
        # No UDP, one thread, 16 MB. As root it runs as `nobody` already, and so needs no `-u`.
        options = ["-l", "127.0.0.1", "-p", str(self._port), "-U", "0", "-t", "1", "-m", "16"]
        self._process = ServerProcess(
            [self._program, *options], log=self._folder / "log", inherited=[self._removal.fd]
        )
        try:
            wait_until(self._answers, "memcached answers")
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """End it at once; what it held is gone, as it would be anyhow."""
        self._process.kill()

    def _answers(self) -> bool:
        if not self._process.is_running:
            raise ServerError(f"memcached ended by itself: {self._process.last_words()}")
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1) as connection:
                connection.sendall(b"version\r\n")
                return connection.recv(7) == b"VERSION"
        except OSError:
            return False
