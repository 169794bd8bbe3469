"""A memcached on loopback, ready in a moment and gone with its owner.

with Memcached() as memcached:
    CACHES = {"default": {"LOCATION": memcached.location, ...}}
"""

import os
import shutil
from contextlib import ExitStack
from typing import Self

from servers.folders import folder_for
from servers.ports import free_port
from servers.process import ServerError, ServerProcess
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

    def __init__(self) -> None:
        self._program = find_memcached()
        self.port = free_port()
        self.location = f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self._folder, self._held = undo.enter_context(folder_for("memcached"))
            self.start()
            undo.callback(self.kill)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def start(self) -> None:
        """Start it, empty, and return when it answers."""
        # No UDP, one thread, 16 MB. As root it runs as `nobody` already, and so needs no `-u`.
        options = ["-l", "127.0.0.1", "-p", str(self.port), "-U", "0", "-t", "1", "-m", "16"]
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
        return says(self.port, b"version\r\n", b"VERSION")
