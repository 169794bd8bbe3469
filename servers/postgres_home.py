"""The temporary folder in which the servers of one cluster live, and the programs they run."""

import os
import secrets
import tempfile
from pathlib import Path

from servers.afterwards import Afterwards
from servers.postgres_bindir import find_bindir, made_executable
from servers.process import ServerProcess, hand_over, run

SUPERUSER = "postgres"

# Durability is for data that somebody will miss; small segments keep three servers under 100 MB.
CONFIGURATION = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
shared_buffers = 16MB
dynamic_shared_memory_type = mmap
fsync = off
full_page_writes = off
wal_level = replica
hot_standby = on
wal_keep_size = 256MB
min_wal_size = 2MB
max_wal_size = 64MB
wal_retrieve_retry_interval = 200ms
wal_receiver_status_interval = 1
"""

# A killed server leaves its shared memory behind: the last word of the seventh line names it.
REMOVE_HOME = """
for pidfile in "$1"/*/postmaster.pid; do
    [ -e "$pidfile" ] && ipcrm -m "$(sed -n '7s/.* //p' "$pidfile")"
done
rm -rf -- "$1"
"""


class Home:
    """A folder that is removed when its owner and all the servers in it are gone."""

    def __init__(self, major: int | None) -> None:
        found = find_bindir(major)
        self.path = Path(tempfile.mkdtemp(prefix="django-replicas-pg-"))
        self._removal = Afterwards(REMOVE_HOME, str(self.path))
        hand_over(self.path)
        self.password = secrets.token_urlsafe()
        self._bindir = made_executable(found, self.path / "programs")
        inherited = {name: value for name, value in os.environ.items() if name[:2] != "PG"}
        self._environment = inherited | {"LC_ALL": "C", "PGPASSWORD": self.password}

    def remove(self) -> None:
        """Remove the folder as soon as no server is left in it."""
        self._removal.run_now()

    def make_data(self, data: Path) -> None:
        """Create the data folder of a leader."""
        password_file = self.path / "password"
        password_file.write_text(self.password)
        hand_over(password_file)
        self._run(
            "initdb",
            *("-D", str(data), "-U", SUPERUSER, "-E", "UTF8", "--locale=C", "--no-sync"),
            *("--auth=scram-sha-256", f"--pwfile={password_file}", "--wal-segsize=1"),
        )
        with (data / "postgresql.conf").open("a") as configuration:
            configuration.write(CONFIGURATION)

    def copy_data(self, data: Path, leader_port: int) -> None:
        """Create the data folder of a follower of the leader that listens on this port."""
        leader = f"host=127.0.0.1 port={leader_port} user={SUPERUSER} application_name={data.name}"
        self._run(
            "pg_basebackup",
            *("-D", str(data), "-d", leader, "-R", "-X", "stream", "-c", "fast", "--no-sync"),
        )

    def start_server(self, data: Path, port: int) -> ServerProcess:
        """Start the server over this data folder, without waiting for it."""
        return ServerProcess(
            [str(self._bindir / "postgres"), "-D", str(data), "-p", str(port)],
            log=data.with_suffix(".log"),
            inherited=[self._removal.fd],
            env=self._environment,
        )

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._bindir / program), *arguments]
        run(command, env=self._environment, inherited=[self._removal.fd])
