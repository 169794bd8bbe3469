"""A PostgreSQL leader and its streaming followers, made in a second and gone without a trace.

    with Cluster(standbys=2) as cluster:
        cluster.followers[0].pause_replay()
        cluster.leader.execute("INSERT ...")

PostgreSQL itself says "primary" and "standby" where we say leader and follower.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Self

import psycopg

from servers.ports import free_port
from servers.postgres_home import SUPERUSER, Home
from servers.startable import Startable
from servers.waiting import wait_until

APP = "app"


class Server(Startable):
    """One PostgreSQL server of a cluster. It keeps its port and its data while it is down."""

    def __init__(self, name: str, home: Home) -> None:
        self.name = name
        self.port = free_port()
        self.data = home.path / name
        self._home = home

    def __repr__(self) -> str:
        return f"<Server {self.name} on port {self.port}>"

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        if not self.is_running:
            self._process = self._home.start_server(self.data, self.port)
            wait_until(self._is_ready, f"{self} is ready")

    def stop(self) -> None:
        """End the server in good order, frozen or not."""
        self.interrupt()
        self._started.wait()

    def interrupt(self) -> None:
        """Ask the server to end; `stop` also waits for the end."""
        self._started.interrupt()

    def pause_replay(self) -> None:
        """Let this follower go on showing what it shows now, until resumed or restarted."""
        self.execute("SELECT pg_wal_replay_pause()")
        wait_until(self._replay_is_paused, f"{self} pauses its replay")

    def resume_replay(self) -> None:
        """Let this follower catch up; `Cluster.wait_for_replay` returns when it has."""
        self.execute("SELECT pg_wal_replay_resume()")

    def delay_replay(self, milliseconds: int) -> None:
        """Let this follower show each commit so long after the leader made it."""
        self.execute(f"ALTER SYSTEM SET recovery_min_apply_delay = {milliseconds:d}")
        self.execute("SELECT pg_reload_conf()")
        wait_until(lambda: self._replay_delay() == milliseconds, f"{self} delays its replay")

    def has_replayed(self, position: str) -> bool:
        """Tell whether this follower shows all that the leader wrote up to this position."""
        rows = self.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", position)
        return rows == [(True,)]

    def execute(self, query: str, *parameters: object, database: str = APP) -> list[Any]:
        """Run one statement as superuser and return its rows, none where it yields none."""
        with self.connect(database) as connection:
            cursor = connection.execute(query.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def connect(self, database: str = APP) -> psycopg.Connection:
        """Open a connection as superuser that commits each statement; the caller closes it."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=SUPERUSER,
            password=self._home.password,
            dbname=database,
            autocommit=True,
        )

    def django_database(self, **options: object) -> dict[str, Any]:
        """Return an entry for Django's `DATABASES`, as the ordinary role that owns `app`."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": APP,
            "USER": APP,
            "PASSWORD": self._home.password,
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "OPTIONS": {"connect_timeout": 2, **options},
        }

    def _is_ready(self) -> bool:
        self._see_that_it_runs()
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return lines[:1] == [str(self.pid)] and lines[7:] == ["ready   "]

    def _replay_is_paused(self) -> bool:
        return self.execute("SELECT pg_get_wal_replay_pause_state()") == [("paused",)]

    def _replay_delay(self) -> int:
        query = "SELECT setting FROM pg_settings WHERE name = 'recovery_min_apply_delay'"
        return int(self.execute(query)[0][0])


class Cluster:
    """A leader and its followers, running inside the `with` block.

    They live in one temporary folder. When the block ends, and when this process dies in whatever
    way, the servers end and the folder goes. Enter it on a thread that stays: the servers end with
    the thread that started them.
    """

    leader: Server
    followers: list[Server]
    folder: Path

    def __init__(
        self, standbys: int = 2, major: int | None = None, apply_delay_ms: Sequence[int] = ()
    ) -> None:
        """Say what to start; `apply_delay_ms` is one delay for each follower, or none at all."""
        self._delays = list(apply_delay_ms) or [0] * standbys
        if len(self._delays) != standbys:
            raise ValueError(f"{len(self._delays)} delays for {standbys} followers.")
        self._major = major

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            home = Home(self._major)
            undo.callback(home.remove)
            self.folder = home.path
            self.leader = Server("leader", home)
            self.followers = []
            undo.callback(self._stop_all)
            self._start_leader(home)
            for number, delay in enumerate(self._delays, start=1):
                self._start_follower(Server(f"follower{number}", home), home, delay)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def position(self) -> str:
        """Return how far the leader has written, commits included that it has not flushed yet."""
        self.leader.execute("SELECT pg_logical_emit_message(true, '', 'flush all before this')")
        position: str = self.leader.execute("SELECT pg_current_wal_flush_lsn()::text")[0][0]
        return position

    def wait_for_replay(self, timeout: float = 30) -> None:
        """Wait until every follower shows what the leader shows now."""
        position = self.position()
        for follower in self.followers:
            replayed = partial(follower.has_replayed, position)
            wait_until(replayed, f"{follower} replays up to {position}", timeout)

    def _start_leader(self, home: Home) -> None:
        home.make_data(self.leader.data)
        self.leader.start()
        role = f"CREATE ROLE {APP} LOGIN CREATEDB PASSWORD '{home.password}'"
        self.leader.execute(role, database=SUPERUSER)
        self.leader.execute(f"CREATE DATABASE {APP} OWNER {APP}", database=SUPERUSER)

    def _start_follower(self, follower: Server, home: Home, delay: int) -> None:
        home.copy_data(follower.data, self.leader.port)
        self.followers.append(follower)
        follower.start()
        if delay:
            follower.delay_replay(delay)

    def _stop_all(self) -> None:
        running = [server for server in [*self.followers, self.leader] if server.is_running]
        for server in running:
            server.interrupt()
        for server in running:
            server.stop()
