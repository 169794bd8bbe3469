"""Real servers that replicate, and everything that may happen to their followers."""

import time
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

from servers.faults import Faults
from servers.mariadb import Server as MariaDB
from servers.postgres import APP, Cluster
from servers.waiting import wait_until

from .site.names import SHARED, TABLE

CREATE = f"CREATE TABLE {{}}{TABLE} (owner varchar(50) PRIMARY KEY, value bigint NOT NULL)"
INSERT = f"INSERT INTO {{}}{TABLE} VALUES {{}}"
COUNTERS = f"SELECT owner, value FROM {TABLE}"


class Fault(NamedTuple):
    """Something that happens to one follower, and how it ends."""

    name: str
    begin: object
    end: object


def rows(counters):
    return ", ".join(f"('{counter}', 0)" for counter in [SHARED, *counters])


class World:
    """Servers inside a `with` block: a leader, one follower, and one behind a way of faults."""

    def __enter__(self):
        with ExitStack() as undo:
            self._start(undo)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *exc):
        self._undo.close()

    def faults(self):
        """Return for each follower what may happen to it; one thing at a time."""
        return [
            faults
            for server, faults in zip(self.followers, self._faults(), strict=True)
            if server is not self.leader
        ]

    def _faults(self):
        far, way = self.followers[1], self.way
        ways = [
            Fault("reset", way.reset, way.heal),
            Fault("blackhole", way.blackhole, way.heal),
            Fault("delay", partial(way.delay, 0.02), way.heal),
        ]
        return [self._own_faults(self.followers[0]), [*self._own_faults(far), *ways]]

    def _own_faults(self, server):
        return [
            Fault("pause", server.pause_replay, server.resume_replay),
            Fault("kill", server.kill, server.start),
        ]


class PostgresWorld(World):
    """Two standbys of a major of PostgreSQL; the leader too is behind a way, which can move."""

    def __init__(self, major, counters, **options):
        self.name = f"PostgreSQL {major}"
        self._major = major
        self._counters = counters
        self._options = options

    def _start(self, undo):
        self._cluster = undo.enter_context(Cluster(major=self._major))
        self.leader, self.followers = self._cluster.leader, self._cluster.followers
        self.leader.execute(CREATE.format(""))
        self.leader.execute(INSERT.format("", rows(self._counters)))
        self.leader.execute(f"ALTER TABLE {TABLE} OWNER TO {APP}")
        self._cluster.wait_for_replay()
        self.way = undo.enter_context(Faults(self.followers[1].port))
        self.way_to_leader = undo.enter_context(Faults(self.leader.port))

    def databases(self, **settings):
        def entry(server, port):
            return {**server.django_database(**self._options), "PORT": str(port), **settings}

        near, far = self.followers
        return {
            "default": entry(self.leader, self.way_to_leader.port),
            "replica1": entry(near, near.port),
            "replica2": entry(far, self.way.port),
        }

    def fail_over(self, survivors):
        """Lose the leader for good, with its last commits; the best of its followers leads then."""
        lost = self.leader
        told = {follower: cut_off(follower) for follower in self.followers}
        time.sleep(SECONDS_ALONE)
        lost.kill()
        new, other = sorted(self.followers, key=received, reverse=True)
        new.execute("SELECT pg_promote()")
        wait_until(partial(leads, new), f"{new} leads")
        # Nobody has written to it yet: the application still asks for the one that is lost.
        survivors.note(lost.port, dict(new.execute(COUNTERS)))
        self.leader = new
        follow(other, moved(told[other], new.port))
        self.way_to_leader.lead_to(new.port)
        return lost.name


# So long the leader commits what nobody else has.
SECONDS_ALONE = 0.4


def cut_off(follower):
    """Have a standby receive no more; return what led it to its leader."""
    ((told,),) = follower.execute("SHOW primary_conninfo")
    follow(follower, "")
    nobody = "SELECT count(*) = 0 FROM pg_stat_wal_receiver"
    wait_until(lambda: follower.execute(nobody) == [(True,)], f"{follower} receives no more")
    return told


def follow(follower, leader):
    """Have a standby follow another leader, or none."""
    quoted = leader.replace("'", "''")
    follower.execute(f"ALTER SYSTEM SET primary_conninfo = '{quoted}'")
    follower.execute("SELECT pg_reload_conf()")


def moved(told, port):
    parts = (part for part in told.split() if not part.startswith("port="))
    return " ".join([*parts, f"port={port}"])


def received(follower):
    follower.resume_replay()
    query = "SELECT greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0'::pg_lsn"
    return follower.execute(query)[0][0]


def leads(server):
    return server.execute("SELECT NOT pg_is_in_recovery()") == [(True,)]


class MariaDBWorld(World):
    """A leader and two followers by GTID."""

    name = "MariaDB"

    def __init__(self, counters):
        self._counters = counters

    def _start(self, undo):
        self.leader, *self.followers = (undo.enter_context(MariaDB(number)) for number in (1, 2, 3))
        for follower in self.followers:
            follower.follow(self.leader)
        self.leader.execute(CREATE.format("app."))
        self.leader.execute(INSERT.format("app.", rows(self._counters)))
        for follower in self.followers:
            follower.wait_for(self.leader)
        self.way = undo.enter_context(Faults(self.followers[1].port))

    def databases(self, **settings):
        def entry(server, port):
            return {**server.django_database(), "PORT": str(port), **settings}

        near, far = self.followers
        return {
            "default": entry(self.leader, self.leader.port),
            "replica1": entry(near, near.port),
            "replica2": entry(far, self.way.port),
        }
