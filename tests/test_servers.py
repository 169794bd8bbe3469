"""The servers that the other tests and the demo stand on: PostgreSQL with streaming followers."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest

from servers.postgres import Cluster
from servers.postgres_bindir import VARIABLE, PostgresNotFound, find_bindir, major_version
from servers.process import ServerError
from servers.waiting import wait_until

CHECKOUT = Path(__file__).resolve().parent.parent

HOLD_A_CLUSTER = """
import signal, sys
from servers.postgres import Cluster

signal.signal(signal.SIGINT, signal.default_int_handler)
with Cluster(standbys=1) as cluster:
    cluster.followers[0].freeze()
    print(cluster.folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def cluster():
    with Cluster(standbys=2) as cluster:
        cluster.leader.execute("CREATE TABLE note (text text)")
        cluster.wait_for_replay()
        yield cluster


@pytest.fixture(autouse=True)
def _empty_table(request):
    """Give each test of the shared cluster an empty table on all its servers."""
    if "cluster" in request.fixturenames:
        cluster = request.getfixturevalue("cluster")
        cluster.leader.execute("TRUNCATE note")
        cluster.wait_for_replay()


def write(cluster, text):
    cluster.leader.execute("INSERT INTO note VALUES (%s)", text)


def texts(server):
    return [text for (text,) in server.execute("SELECT text FROM note ORDER BY text")]


def connect_as_app(server):
    django = server.django_database()
    return psycopg.connect(
        host=django["HOST"],
        port=django["PORT"],
        user=django["USER"],
        password=django["PASSWORD"],
        dbname=django["NAME"],
        autocommit=True,
        **django["OPTIONS"],
    )


def test_what_the_leader_writes_reaches_every_follower(cluster):
    """Streaming replication works, and waiting for it is exact."""
    write(cluster, "hello")

    cluster.wait_for_replay()

    assert [texts(server) for server in cluster.followers] == [["hello"], ["hello"]]


def test_a_follower_refuses_to_write(cluster):
    """A follower is a standby, not a second leader."""
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        cluster.followers[0].execute("INSERT INTO note VALUES ('mine')")


def test_a_paused_follower_shows_what_it_showed(cluster):
    """Pausing holds one follower exactly where it is, and resuming lets it catch up."""
    paused, other = cluster.followers
    paused.pause_replay()
    write(cluster, "unseen")
    wait_until(lambda: texts(other) == ["unseen"], "the other follower goes on")
    assert texts(paused) == []

    paused.resume_replay()
    cluster.wait_for_replay()

    assert texts(paused) == ["unseen"]


def test_waiting_for_a_paused_follower_ends_with_an_error(cluster):
    """Nobody waits for ever; the error names the follower."""
    paused, _ = cluster.followers
    paused.pause_replay()
    write(cluster, "unseen")

    with pytest.raises(TimeoutError, match="follower1"):
        cluster.wait_for_replay(timeout=0.05)

    paused.resume_replay()


def test_a_delayed_follower_shows_commits_late(cluster):
    """A delay holds commits back on one follower until it is over, here by its end."""
    late, prompt = cluster.followers
    late.delay_replay(3_600_000)
    write(cluster, "later")
    wait_until(lambda: texts(prompt) == ["later"], "the prompt follower shows it")
    assert texts(late) == []

    late.delay_replay(0)
    cluster.wait_for_replay()

    assert texts(late) == ["later"]


def test_delays_are_given_one_for_each_follower():
    """Two delays for one follower are a mistake, told before anything is started."""
    with pytest.raises(ValueError, match="2 delays for 1 followers"):
        Cluster(standbys=1, apply_delay_ms=[1, 2])


def test_a_killed_follower_comes_back_and_catches_up(cluster):
    """SIGKILL takes the follower away; it returns on its port with its rows and what it missed."""
    victim, _ = cluster.followers
    victim.kill()
    with pytest.raises(psycopg.OperationalError):
        victim.execute("SELECT 1")
    write(cluster, "missed")

    victim.start()
    cluster.wait_for_replay()

    assert texts(victim) == ["missed"]


def test_a_killed_leader_comes_back_and_is_followed(cluster):
    """After SIGKILL and start the leader has its rows, and its followers follow it again."""
    write(cluster, "before")
    family = [cluster.leader.pid, *children_of(cluster.leader.pid)]
    cluster.leader.kill()
    wait_until(lambda: not any(map(is_alive, family)), "the leader and its children are gone")

    cluster.leader.start()
    write(cluster, "after")
    cluster.wait_for_replay()

    assert [texts(server) for server in cluster.followers] == [["after", "before"]] * 2


def test_a_frozen_server_answers_nobody_until_thawed(cluster):
    """Frozen, it neither answers new connections nor old ones; thawed, it goes on."""
    frozen = cluster.followers[0]
    with closing(connect_as_app(frozen)) as old_connection:
        frozen.freeze()
        old_connection.pgconn.send_query(b"SELECT 1")
        old_connection.pgconn.flush()
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            connect_as_app(frozen)
        assert not is_readable(old_connection)

        frozen.thaw()

        wait_until(lambda: is_readable(old_connection), "the old connection gets its answer")
        connect_as_app(frozen).close()


def is_readable(connection):
    connection.pgconn.consume_input()
    return not connection.pgconn.is_busy()


def test_a_frozen_server_can_be_stopped_and_killed(cluster):
    """Neither end waits for a thaw, and both allow a new start."""
    server = cluster.followers[1]
    for end in (server.stop, server.kill):
        server.freeze()
        end()
        assert not server.is_running
        server.start()


def test_a_server_whose_port_was_taken_says_so(cluster):
    """A server that cannot start is an error with the end of its log, and may start later."""
    server = cluster.followers[1]
    server.stop()
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", server.port))
        squatter.listen()
        with pytest.raises(ServerError, match="Address already in use"):
            server.start()

    server.start()

    assert server.is_running


def test_django_connects_as_an_ordinary_role_that_owns_its_database(cluster):
    """Django's role may create tables but is no superuser."""
    with connect_as_app(cluster.leader) as connection:
        connection.execute("CREATE TABLE mine (id int)")
        connection.execute("DROP TABLE mine")
        superuser = connection.execute("SELECT usesuper FROM pg_user WHERE usename = current_user")
        assert superuser.fetchone() == (False,)


def test_the_servers_want_a_password(cluster):
    """Other people on the machine cannot walk in."""
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(host="127.0.0.1", port=cluster.leader.port, user="postgres", password="?")


def test_the_program_folder_is_chosen_by_major():
    """The wheel brings two majors; the newest is taken when none is asked for."""
    assert major_version(find_bindir(16)) == 16
    assert major_version(find_bindir(18)) == 18
    assert find_bindir() == find_bindir(18)


def test_the_environment_alone_chooses_the_program_folder(monkeypatch):
    """The variable beats every other place, also when the version asked for is elsewhere."""
    monkeypatch.setenv(VARIABLE, str(find_bindir(16)))

    assert major_version(find_bindir()) == 16
    with pytest.raises(PostgresNotFound, match=r"No PostgreSQL 18 found.*pip install"):
        find_bindir(18)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's programs can be closed to the server")
def test_programs_that_only_root_can_read_are_copied(tmp_path, monkeypatch):
    """A virtual environment in root's private home serves all the same."""
    installed = find_bindir().parent.parent
    tmp_path.chmod(0o700)
    for folder in (installed, installed.with_name(f"{installed.name}.libs")):
        shutil.copytree(folder, tmp_path / folder.name, symlinks=True)
    private = tmp_path / find_bindir().relative_to(installed.parent)
    monkeypatch.setenv(VARIABLE, str(private))

    with Cluster(standbys=0) as cluster:
        assert cluster.leader.execute("SELECT 1") == [(1,)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_nothing_remains_when_the_block_ends(error):
    """However the block ends, and whatever was done to the servers, no trace is left."""
    with suppress(error), Cluster(standbys=2) as cluster:
        traces = Traces(cluster.folder)
        cluster.followers[0].kill()
        cluster.followers[1].freeze()
        raise error

    assert traces.left() == []


def test_nothing_remains_when_the_start_fails(monkeypatch):
    """A follower that cannot be copied takes the leader and the folder with it."""
    begun = []

    class Hopeless(Cluster):
        def _start_follower(self, follower, home, delay):
            begun.append(Traces(home.path))
            self.leader.kill()
            super()._start_follower(follower, home, delay)

    with pytest.raises(ServerError, match="pg_basebackup failed"), Hopeless(standbys=1):
        pass

    assert begun[0].left() == []


@pytest.mark.parametrize(
    ("user", "number"),
    [
        ("as we are", signal.SIGKILL),
        ("as we are", signal.SIGTERM),
        ("as we are", signal.SIGINT),
        ("ordinary", signal.SIGKILL),
    ],
)
def test_nothing_remains_when_the_owner_dies(user, number):
    """The kernel sees to it, even for a frozen server and an owner who had no time to clean up."""
    command = [sys.executable, "-c", HOLD_A_CLUSTER]
    with subprocess.Popen(
        as_ordinary_user(command) if user == "ordinary" else command,
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as owner:
        traces = Traces(Path(owner.stdout.readline().strip()))
        owner.send_signal(number)
        owner.wait(60)

    wait_until(lambda: traces.left() == [], "everything goes")


def as_ordinary_user(command):
    """Return the command without root's rights.

    A user namespace rather than another uid: this user can read the files of ours, however
    private the folder of the interpreter is.
    """
    if os.geteuid() != 0:
        return command
    return ["unshare", "--user", "--map-user=65534", "--map-group=65534", *command]


class Traces:
    """What a cluster that runs now could leave behind: processes, shared memory, its folder."""

    def __init__(self, folder):
        self._folder = folder
        lock_files = [path.read_text().splitlines() for path in folder.glob("*/postmaster.pid")]
        assert lock_files
        servers = [int(lines[0]) for lines in lock_files]
        self._pids = [pid for server in servers for pid in [server, *children_of(server)]]
        self._memory = [int(lines[6].split()[1]) for lines in lock_files]

    def left(self):
        segments = [line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()]
        return [
            *(f"process {pid}" for pid in self._pids if is_alive(pid)),
            *(f"shared memory {id_}" for id_ in self._memory if str(id_) in segments),
            *(str(folder) for folder in [self._folder] if folder.exists()),
        ]


def children_of(pid):
    return map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def is_alive(pid):
    """Tell a process from none and from a zombie that its new parent has not buried yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
