"""A memcached on loopback, ready in a moment and gone with its owner.

with Memcached() as memcached:
    CACHES = {"default": {"LOCATION": memcached.location, ...}}
"""

import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from servers.folders import folder_for
from servers.ports import free_port
from servers.process import ServerError, ServerProcess, hand_over
from servers.startable import Startable, says
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


class Memcached(Startable):
    """A memcached that runs inside the `with` block; `location` is where.

    When it is killed and started again it is empty.
    """

    def __init__(self, host: str = "127.0.0.1", tls: tuple[Path, Path] | None = None) -> None:
        """Listen on one address of loopback, with TLS where certificate and key are given."""
        self._program = find_memcached()
        self.port = free_port()
        self._host = host
        self._tls = tls
        self.location = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self._folder, self._held = undo.enter_context(folder_for("memcached"))
            # Copies that the user who runs it may read.
            self._own = [shutil.copy(file, self._folder) for file in self._tls or ()]
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
        options = ["-l", self._host, "-p", str(self.port), "-U", "0", "-t", "1", "-m", "16"]
        if self._tls is not None:
            options += ["-Z", "-o", f"ssl_chain_cert={self._own[0]},ssl_key={self._own[1]}"]
        self._process = ServerProcess(
            [self._program, *options], log=self._folder / "log", inherited=[self._held]
        )
        try:
            wait_until(self._answers, "memcached answers")
        except BaseException:
            self.kill()
            raise

    def _answers(self) -> bool:
        self._see_that_it_runs()
        if self._tls is None:
            return says(self.port, b"version\r\n", b"VERSION", self._host)
        return says(self.port, b"", b"", self._host)  # Who it is, its users will ask.
