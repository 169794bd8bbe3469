"""MariaDB servers, made in a second and gone without a trace.

    with Server() as leader, Server(number=2) as follower:
        follower.follow(leader)
        leader.execute("CREATE TABLE app.album (id INT)")

It needs MariaDB's programs on this machine; an unpacked package will do.
"""

import os
import secrets
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from servers.folders import folder_for
from servers.ports import free_port
from servers.process import ServerError, ServerProcess, hand_over, run
from servers.startable import Startable
from servers.waiting import wait_until

VARIABLE = "DJANGO_REPLICAS_MARIADB_ROOT"
APP = "app"
REPLICATION = "replication"


class MariaDBNotFound(ServerError):
    """There is no MariaDB on this machine."""


def find_root() -> Path:
    """Return the folder with `usr/sbin/mariadbd` in it.

    The environment variable decides alone where it is set, for instance the folder that
    `dpkg --extract` put Debian's packages into; else it is the machine's own.
    """
    root = Path(os.environ.get(VARIABLE, "/"))
    if not (root / "usr/sbin/mariadbd").exists():
        raise MariaDBNotFound(
            "No MariaDB found. Install mariadb-server-core and mariadb-client-core, or unpack them "
            f"with the libraries they need, and name the folder in {VARIABLE}."
        )
    return root


class Server(Startable):
    """One server in a folder of its own. It keeps its port and its data while it is down.

    Those of one replication have different numbers.
    """

    def __init__(self, number: int = 1) -> None:
        self._root = find_root()
        self._number = number
        self._follows = False
        self.port = free_port()
        self.password = secrets.token_urlsafe()

    def __repr__(self) -> str:
        return f"<MariaDB {self._number} on port {self.port}>"

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self.folder, self._held = undo.enter_context(folder_for("mariadb"))
            undo.callback(self._end)
            self._make_data()
            self.start()
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        self._process = ServerProcess(
            [
                str(self._root / "usr/sbin/mariadbd"),
                *self._options(),
                *(f"--port={self.port}", "--bind-address=127.0.0.1", "--skip-name-resolve"),
                *("--innodb-buffer-pool-size=32M", "--performance-schema=OFF"),
                *(f"--server-id={self._number}", "--log-bin=binlog", "--log-slave-updates"),
                *(["--read-only"] if self._follows else []),
                *(f"--socket={self.folder}/socket", f"--pid-file={self.folder}/pid"),
            ],
            log=self.folder / "log",
            inherited=[self._held],
            env=self._environment(),
        )
        wait_until(self._is_ready, "MariaDB is ready")

    def follow(self, leader: "Server") -> None:
        """Replicate what the leader writes and has written, by GTID, and take no writes of others.

        What both have from the beginning is in neither's log.
        """
        leader.execute(
            f"CREATE USER IF NOT EXISTS {REPLICATION}@'127.0.0.1' "
            f"IDENTIFIED BY '{leader.password}'; "
            f"GRANT REPLICATION SLAVE ON *.* TO {REPLICATION}@'127.0.0.1'"
        )
        self._follows = True
        self.execute(
            f"SET GLOBAL read_only = 1; CHANGE MASTER TO MASTER_HOST = '127.0.0.1', "
            f"MASTER_PORT = {leader.port}, MASTER_USER = '{REPLICATION}', "
            f"MASTER_PASSWORD = '{leader.password}', MASTER_CONNECT_RETRY = 1, "
            "MASTER_USE_GTID = slave_pos; START SLAVE"
        )
        self.wait_for(leader)

    def wait_for(self, leader: "Server") -> None:
        """Return when this follower shows all that the leader has written so far."""
        position = leader.position()
        wait_until(lambda: self.position(of="slave") == position, "the follower has caught up")

    def position(self, of: str = "binlog") -> str:
        """Return the GTID position of what this server wrote, or "slave" for what it replayed."""
        return self.execute(f"SELECT @@global.gtid_{of}_pos").strip()

    def pause_replay(self) -> None:
        """Let this follower go on showing what it shows now, until resumed."""
        self.execute("STOP SLAVE SQL_THREAD")

    def resume_replay(self) -> None:
        """Let this follower catch up; `wait_for` returns when it has."""
        self.execute("START SLAVE SQL_THREAD")

    def execute(self, statement: str) -> str:
        """Run statements as superuser and return what MariaDB's own client prints."""
        done = subprocess.run(
            [
                str(self._root / "usr/bin/mariadb"),
                *("--no-defaults", "--batch", "--skip-column-names", "--user=root"),
                *(f"--socket={self.folder}/socket", f"--execute={statement}"),
            ],
            env={**self._environment(), "MYSQL_PWD": self.password},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise ServerError(f"{statement} failed: {done.stderr}")
        return done.stdout

    def django_database(self, **options: object) -> dict[str, Any]:
        """Return an entry for Django's `DATABASES`, as the ordinary user who has `app`."""
        return {
            "ENGINE": "django.db.backends.mysql",
            "NAME": APP,
            "USER": APP,
            "PASSWORD": self.password,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "OPTIONS": {"connect_timeout": 2, **options},
        }

    def _options(self) -> list[str]:
        return [
            "--no-defaults",
            f"--basedir={self._root / 'usr'}",
            f"--datadir={self.folder / 'data'}",
        ]

    def _environment(self) -> Mapping[str, str]:
        libraries = (self._root / "usr/lib").glob("*-linux-gnu")
        return {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, libraries))}

    def _make_data(self) -> None:
        (self.folder / "data").mkdir()
        hand_over(self.folder)
        self._run(
            str(self._root / "usr/bin/mariadb-install-db"),
            *self._options(),
            *("--auth-root-authentication-method=normal", "--skip-test-db"),
        )
        self._run(
            str(self._root / "usr/sbin/mariadbd"),
            *self._options(),
            "--bootstrap",
            feed="FLUSH PRIVILEGES;\n"
            f"ALTER USER root@localhost IDENTIFIED BY '{self.password}';\n"
            f"CREATE USER {APP}@'127.0.0.1' IDENTIFIED BY '{self.password}';\n"
            f"CREATE DATABASE {APP};\n"
            f"GRANT ALL ON {APP}.* TO {APP}@'127.0.0.1';\n",
        )

    def _run(self, *command: str, feed: str = "") -> None:
        run(command, env=self._environment(), inherited=[self._held], feed=feed)

    def _end(self) -> None:
        if self.is_running:
            self.kill()

    def _is_ready(self) -> bool:
        self._see_that_it_runs()
        try:
            return self.execute("SELECT 1") == "1\n"
        except ServerError:
            return False
