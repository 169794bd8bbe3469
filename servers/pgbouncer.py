"""A pgbouncer in front of one PostgreSQL server, pooling by transaction.

with PgBouncer(cluster.leader) as bouncer:
    bouncer.command("DISABLE app")
"""

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import psycopg

from servers.afterwards import Afterwards
from servers.ports import free_port
from servers.postgres import APP, Server
from servers.process import ServerError, ServerProcess, hand_over
from servers.waiting import wait_until

ADMIN = "pgbouncer"


class PgBouncerNotFound(ServerError):
    """There is no pgbouncer on this machine."""


def find_pgbouncer() -> str:
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if found is None:
        raise PgBouncerNotFound(
            "No pgbouncer found. Install it (on Debian: apt-get install pgbouncer)."
        )
    return found


class PgBouncer:
    """A pooler on loopback; clients keep nothing of a session between two transactions."""

    def __init__(self, server: Server, pool_size: int = 20) -> None:
        self._program = find_pgbouncer()
        self._database = server.django_database()
        self._pool_size = pool_size
        self.port = free_port()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self._folder = Path(tempfile.mkdtemp(prefix="django-replicas-pgbouncer-"))
            self._removal = Afterwards('rm -rf -- "$1"', str(self._folder))
            undo.callback(self._removal.run_now)
            self._configure()
            self.start()
            undo.callback(self._stop)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def start(self) -> None:
        """Start the pooler and wait until it takes connections."""
        self._process = ServerProcess(
            [self._program, str(self._folder / "ini")],
            log=self._folder / "log",
            inherited=[self._removal.fd],
        )
        wait_until(self._is_ready, f"pgbouncer is ready on port {self.port}")

    def kill(self) -> None:
        """End the pooler with SIGKILL."""
        self._process.kill()

    def command(self, command: str) -> list[Any]:
        """Run a command of pgbouncer's console, such as `DISABLE app`."""
        with psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=ADMIN,
            password=self._database["PASSWORD"],
            dbname="pgbouncer",
            autocommit=True,
            cursor_factory=psycopg.ClientCursor,
        ) as connection:
            cursor = connection.execute(command.encode())
            return cursor.fetchall() if cursor.description else []

    def django_database(self, **own: object) -> dict[str, Any]:
        """Return an entry for Django's `DATABASES` that leads through the pooler."""
        return {
            **self._database,
            "PORT": str(self.port),
            "DISABLE_SERVER_SIDE_CURSORS": True,
            **own,
        }

    def _configure(self) -> None:
        password = self._database["PASSWORD"]
        users = "".join(f'"{user}" "{password}"\n' for user in (APP, ADMIN))
        (self._folder / "users").write_text(users)
        (self._folder / "ini").write_text(
            f"""\
[databases]
{APP} = host=127.0.0.1 port={self._database["PORT"]} password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {self._folder}/users
admin_users = {ADMIN}
pool_mode = transaction
default_pool_size = {self._pool_size}
server_connect_timeout = 2
server_login_retry = 1
query_wait_timeout = 2
"""
        )
        (self._folder / "ini").chmod(0o600)
        hand_over(self._folder)

    def _is_ready(self) -> bool:
        if not self._process.is_running:
            raise ServerError(f"pgbouncer did not start:\n{self._process.last_words()}")
        try:
            return bool(self.command("SHOW VERSION"))
        except psycopg.OperationalError:
            return False

    def _stop(self) -> None:
        if self._process.is_running:
            self._process.kill()
