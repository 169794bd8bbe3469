"""A Redis server that keeps nothing, ready in a moment and gone with its owner.

with Redis() as redis:
    Celery(broker=redis.url)
"""

import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from servers.folders import folder_for
from servers.ports import free_port
from servers.process import ServerError, ServerProcess
from servers.startable import Startable, says
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


class Redis(Startable):
    """A server on loopback, running inside the `with` block; `url` is where its data is."""

    def __init__(self) -> None:
        self._program = find_server()
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            folder, held = undo.enter_context(folder_for("redis"))
            # It is what it is called: the tool's program looks at its own name.
            named = folder / "redis-server"
            named.symlink_to(self._program.resolve())
            command, log = self._command(named), folder / "log"
            self._process = ServerProcess(command, log=log, inherited=[held])
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
        self._see_that_it_runs()
        return says(self.port, b"PING\r\n", b"+PONG\r\n")

    def _stop(self) -> None:
        self._started.interrupt()
        self._started.wait()
