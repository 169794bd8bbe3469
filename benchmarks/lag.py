"""Followers that lag by a known law, and what their lag was found to be.

A relay between leader and follower holds what the leader sends and lets all of it go at certain
moments. The wait until the next such moment, seen from an arbitrary one, has the density
``(1 - F(x)) / mean``, ``F`` being the distribution of the pauses between them. It is lognormal, but
for its first fraction of a millisecond, if ``1 - F`` is proportional to the lognormal's density
from its mode on; and that is a Rayleigh distribution of the pause's logarithm. So a commit waits
as long as it should, whenever it is made, while commits stay in order and arrive in bursts, as they
do where a follower replays behind a slow disk or a long transaction.
"""

import math
import socket
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from random import Random
from types import TracebackType
from typing import Any, NamedTuple, Self

from psycopg.conninfo import make_conninfo

from servers.postgres import Cluster, Server
from servers.waiting import wait_until

MEDIAN = 0.005
PERCENTILE_99 = 0.200
SIGMA = math.log(PERCENTILE_99 / MEDIAN) / statistics.NormalDist().inv_cdf(0.99)

BUFFER = 1 << 16
COMMIT_EVERY = 0.1


def pause(random: Random) -> float:
    """Draw the seconds between two moments at which a relay lets go of what it holds."""
    log_of_mode = math.log(MEDIAN) - SIGMA**2
    return math.exp(log_of_mode + SIGMA * math.sqrt(-2 * math.log(1 - random.random())))


class Relay:
    """A port of 127.0.0.1 that leads to a server, and holds what this one sends."""

    def __init__(self, port: int, random: Random) -> None:
        self._server = ("127.0.0.1", port)
        self._random = random
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._next = time.monotonic()
        self._in_thread(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Closed alone it would go on accepting, because a thread waits in it.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _in_thread(self, work: Any, *arguments: Any) -> None:
        threading.Thread(target=work, args=arguments, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                follower, _ = self._listener.accept()
                leader = socket.create_connection(self._server)
                for each in (follower, leader):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._in_thread(self._hand_over, follower, leader, False)
                self._in_thread(self._hand_over, leader, follower, True)

    def _hand_over(self, source: socket.socket, target: socket.socket, holds: bool) -> None:
        with suppress(OSError), source, target:
            while data := source.recv(BUFFER):
                if holds:
                    time.sleep(self._seconds_to_hold())
                    data += _there_already(source)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def _seconds_to_hold(self) -> float:
        now = time.monotonic()
        while self._next <= now:
            self._next += pause(self._random)
        return self._next - now


def _there_already(source: socket.socket) -> bytes:
    parts = []
    with suppress(BlockingIOError):
        while part := source.recv(BUFFER, socket.MSG_DONTWAIT):
            parts.append(part)
    return b"".join(parts)


@contextmanager
def lagging(cluster: Cluster, seed: int) -> Iterator[None]:
    """Let the followers of a cluster lag, each by draws of its own."""
    with ExitStack() as stack:
        for follower in cluster.followers:
            random = Random(f"{seed} {follower.name}")
            relay = stack.enter_context(Relay(cluster.leader.port, random))
            _follow_through(follower, relay.port)
        yield


def _follow_through(follower: Server, port: int) -> None:
    [[conninfo]] = follower.execute("SHOW primary_conninfo")
    changed = make_conninfo(conninfo, port=port).replace("'", "''")
    follower.execute(f"ALTER SYSTEM SET primary_conninfo = '{changed}'")
    # Else what a follower replays after a minute at rest cancels whatever is asked of it then.
    follower.execute("ALTER SYSTEM SET max_standby_streaming_delay = -1")
    follower.execute("SELECT pg_reload_conf()")
    sender = "SELECT sender_port FROM pg_stat_wal_receiver WHERE status = 'streaming'"
    wait_until(lambda: follower.execute(sender) == [(port,)], f"{follower} follows through a relay")


class Observer:
    """Makes commits of its own at arbitrary moments, and sees when each follower has replayed them.

    ``lags`` has the seconds, by follower. It goes on committing while followers are behind: who
    waited for each commit before making the next would hardly ever make one in a long lag.
    """

    def __init__(self, leader: Server, followers: Sequence[Server], random: Random) -> None:
        self.lags: dict[str, list[float]] = {follower.name: [] for follower in followers}
        self._servers = (leader, *followers)
        self._random = random

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Observe inside the block, in a thread."""
        ends = threading.Event()
        watch = threading.Thread(target=self._watch, args=(ends,), daemon=True)
        watch.start()
        try:
            yield
        finally:
            ends.set()
            watch.join()

    def _watch(self, ends: threading.Event) -> None:
        with ExitStack() as stack:
            leader, *followers = (stack.enter_context(server.connect()) for server in self._servers)
            waiting: list[list[Commit]] = [[] for _ in followers]
            next_commit = time.monotonic()
            rest = 0.0
            while not ends.wait(rest):
                if time.monotonic() >= next_commit:
                    commit = _commit(leader)
                    for commits in waiting:
                        commits.append(commit)
                    next_commit += self._random.expovariate(1 / COMMIT_EVERY)
                for lags, follower, commits in zip(
                    self.lags.values(), followers, waiting, strict=True
                ):
                    lags.extend(_replayed_by_now(follower, commits))
                rest = _rest([commits[-1] for commits in waiting if commits], next_commit)


class Commit(NamedTuple):
    position: int
    moment: float


def _commit(leader: Any) -> Commit:
    leader.execute("SELECT pg_logical_emit_message(true, 'benchmark', '')")
    moment = time.monotonic()
    return Commit(_position(leader, "pg_current_wal_flush_lsn()"), moment)


def _replayed_by_now(follower: Any, commits: list[Commit]) -> Iterator[float]:
    """Take away the commits that a follower has, and yield how long each took."""
    if commits:
        position, now = _position(follower, "pg_last_wal_replay_lsn()"), time.monotonic()
        while commits and commits[0].position <= position:
            yield now - commits.pop(0).moment


def _position(connection: Any, function: str) -> int:
    [position] = connection.execute(f"SELECT pg_wal_lsn_diff({function}, '0/0')").fetchone()
    return int(position)


def _rest(latest: list[Commit], next_commit: float) -> float:
    """Return for how long to look away: a twentieth of what is being measured."""
    now = time.monotonic()
    rest = max(0.0, next_commit - now)
    for commit in latest:
        rest = min(rest, max(0.0003, (now - commit.moment) / 20))
    return rest


def summary(lags: Sequence[float]) -> str:
    """Tell median, 90th and 99th percentile, and the longest lag."""
    ordered = sorted(lags)
    shown = [ordered[min(len(ordered) - 1, int(len(ordered) * part))] for part in (0.5, 0.9, 0.99)]
    return " / ".join(f"{each * 1000:.1f}" for each in [*shown, ordered[-1]]) + " ms"
