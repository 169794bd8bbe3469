"""The site from outside: its processes, its users, and what is counted."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, closing, suppress

from django.contrib.sessions.serializers import JSONSerializer
from django.core import signing
from psycopg import OperationalError
from pymemcache import Client

from servers.distance import Distance
from servers.memcached import Memcached
from servers.postgres import Cluster

OURS, THEIRS = "django-replicas", "django-distributed 0.3"
ENGINES = {
    OURS: ("django_replicas.sessions.write_behind", ["django_replicas"]),
    THEIRS: ("django_distributed.session_engine", []),
    "cached_db": ("django.contrib.sessions.backends.cached_db", []),
}
# As servers/postgres_home.py configures it.
MOST_CONNECTIONS = 200
AUDIT = [
    "CREATE TABLE audit (id bigserial, key text, data text)",
    """CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN INSERT INTO public.audit (key, data) VALUES (NEW.session_key, NEW.session_data);
    RETURN NEW; END $$""",
    """CREATE TRIGGER note AFTER INSERT OR UPDATE OF session_data ON django_session
    FOR EACH ROW EXECUTE FUNCTION note()""",
]


def number_in(data):
    """Return the number that a session's data holds, as every engine here encodes it."""
    salt = "django.contrib.sessions.SessionStore"
    session = signing.loads(
        data, key="not a secret", salt=salt, serializer=JSONSerializer, fallback_keys=[]
    )
    return session.get("number", 0)


class Process:
    """One process of the site."""

    def __init__(self, environment):
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "tests.races.site"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._local = threading.local()
        self.port = None

    def wait_until_ready(self):
        self.port = int(self._popen.stdout.readline())

    def ask(self, do, **arguments):
        """Return the answer, None if the process ended instead."""
        try:
            if not hasattr(self._local, "file"):
                connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
                self._local.file = connection.makefile("rw")
                connection.close()
            file = self._local.file
            file.write(json.dumps({"do": do, **arguments}) + "\n")
            file.flush()
            return json.loads(file.readline() or "null")
        except OSError:
            return None

    def end(self, how):
        if how == "exit":
            self._popen.stdin.close()
        else:
            self._popen.send_signal(how)
        self._popen.wait(60)
        self._popen.stdout.close()
        with suppress(OSError):
            self._popen.stdin.close()


class Site:
    """The servers, and processes that come and go; each scenario begins with an empty site."""

    def __init__(self, engine, milliseconds, jitter, processes, chance):
        self.engine, self.chance = engine, chance
        self._milliseconds, self._jitter, self._count = milliseconds, jitter, processes
        self.round_trip = milliseconds / 1000
        self.lock = threading.Lock()

    def __enter__(self):
        with ExitStack() as undo:
            self.cluster = undo.enter_context(Cluster(standbys=0))
            self.memcached = undo.enter_context(Memcached())
            far = undo.enter_context(
                Distance(self.cluster.leader.port, self._milliseconds, self._jitter)
            )
            path, apps = ENGINES[self.engine]
            backend = "django.core.cache.backends.memcached.PyMemcacheCache"
            database = self.cluster.leader.django_database()
            site = {
                "DATABASES": {"default": {**database, "PORT": str(far.port)}},
                "CACHES": {"default": {"BACKEND": backend, "LOCATION": self.memcached.location}},
                "ENGINE": path,
                "APPS": apps,
            }
            self.environment = {**os.environ, "DJANGO_REPLICAS_RACES_SITE": json.dumps(site)}
            self.environment.pop("PYTHONDEVMODE", None)
            near = {**site, "DATABASES": {"default": database}}
            self.near = {**os.environ, "DJANGO_REPLICAS_RACES_SITE": json.dumps(near)}
            self.manage("migrate", "--verbosity", "0")
            for statement in AUDIT:
                self.cluster.leader.execute(statement)
            self.processes = []
            undo.callback(self.end_all, signal.SIGKILL)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_):
        self._undo.close()

    def manage(self, *arguments):
        done = subprocess.run(
            [sys.executable, "-m", "tests.races.site", *arguments],
            env=self.near,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def begin(self):
        """Start the processes of a scenario, with nothing left of the one before."""
        self.cluster.leader.start()
        self.cluster.leader.execute("TRUNCATE django_session")
        self.cluster.leader.execute("TRUNCATE audit")
        self.empty_cache()
        self.processes = [Process(self.environment) for _ in range(self._count)]
        for process in self.processes:
            process.wait_until_ready()

    def any(self):
        return self.chance.choice(self.processes)

    def replace(self, how):
        """End one process, and have another one in its place."""
        new = Process(self.environment)
        new.wait_until_ready()
        with self.lock:
            place = self.chance.randrange(len(self.processes))
            old, self.processes[place] = self.processes[place], new
        old.end(how)

    def end_all(self, how="exit"):
        for process in self.processes:
            process.end(how)
        self.processes = []

    def empty_cache(self):
        host, port = self.memcached.location.split(":")
        with closing(Client((host, int(port)))) as client:
            client.flush_all()

    def rows(self):
        """Return what the database has: the number in each session, by key."""
        query = "SELECT session_key, session_data FROM django_session"
        return {key: number_in(data) for key, data in self.cluster.leader.execute(query)}

    def steps_back(self):
        """Return how often a row was given a smaller number than it had."""
        query = "SELECT key, data FROM audit ORDER BY id"
        last = {}
        count = 0
        for key, data in self.cluster.leader.execute(query):
            number = number_in(data)
            # A log-out that finds no row puts an empty one there, and takes it away again.
            count += 0 < number < last.get(key, 0)
            last[key] = number or last.get(key, 0)
        return count

    def connections(self):
        query = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'"
        try:
            return self.cluster.leader.execute(query)[0][0]
        except OperationalError:
            return MOST_CONNECTIONS  # Not one is left to ask with.
