"""The processes that serve a site in one way, and the clients that use them."""

import json
import os
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from servers.folders import folder_for
from servers.process import ServerError, ServerProcess
from servers.waiting import wait_until

from .clients import Client, JobsJudge
from .site.names import VARIABLE, counter_of_jobs
from .verdicts import Verdicts

ROOT = Path(__file__).parents[2]


class Way(NamedTuple):
    """One way to route: which processes it has, and how many clients, who pause so many seconds."""

    name: str
    routing: str
    processes: tuple[str, ...]
    clients: int
    pause: float = 0.0

    @property
    def has_marks(self):
        return self.routing == "marks"

    @property
    def owners(self):
        return [f"{self.routing.replace(' ', '-')}-{number}" for number in range(self.clients)]

    @property
    def counters(self):
        return [*self.owners, *map(counter_of_jobs, self.owners)]


OURS = Way("with marks", "marks", ("wsgi1", "wsgi2", "asgi1", "jobs"), 12)
WITHOUT_MARKS = Way("marks off", "no marks", ("wsgi1", "jobs"), 3, pause=0.05)
NAIVE = Way("naive router", "naive", ("wsgi1",), 2, pause=0.05)
WAYS = (OURS, WITHOUT_MARKS, NAIVE)


class Crew:
    """The processes of one way, running inside the `with` block."""

    def __init__(self, way, databases, replicas, may_lose_leader=False):
        self.way = way
        self.may_lose_leader = may_lose_leader
        self.verdicts = Verdicts(way.name)
        self._databases = databases
        self._replicas = replicas

    def __enter__(self):
        with ExitStack() as undo:
            self._folder, self._held = undo.enter_context(folder_for("crew"))
            self._sockets = [self._folder / f"{name}.socket" for name in self.way.processes]
            self.reply = self._folder / "reply"
            self._processes = []
            undo.callback(self._stop)
            self._processes += [self._start(path) for path in self._sockets]
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *exc):
        self._undo.close()

    def wait_until_ready(self):
        for path, process in zip(self._sockets, self._processes, strict=True):
            wait_until(lambda: is_ready(path, process), f"{path.stem} is ready")  # noqa: B023

    @property
    def sites(self):
        return [path for path in self._sockets if path.stem != "jobs"]

    @property
    def has_jobs(self):
        return "jobs" in self.way.processes

    @property
    def pids(self):
        return [process.pid for process in self._processes]

    def clients(self, seed, survivors, has_ended):
        return [
            Client(owner, seed, self, self.verdicts, survivors, has_ended)
            for owner in self.way.owners
        ]

    def judge_of_jobs(self, survivors):
        return JobsJudge(self, self.verdicts, survivors)

    def last_words(self):
        return "\n".join(process.last_words() for process in self._processes)

    def _start(self, path):
        kind = path.stem.rstrip("0123456789")
        return ServerProcess(
            [sys.executable, "-m", "tests.consistency.serve", kind, str(path)],
            log=path.with_suffix(".log"),
            inherited=[self._held],
            env=self._environment(),
            as_nobody=False,
        )

    def _environment(self):
        given = {
            "databases": self._databases,
            "routing": self.way.routing,
            "jobs_have_marks": self.way.has_marks,
            "queue": str(self._folder / "jobs.socket"),
            "replicas": self._replicas | self._store(),
        }
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        absolute = os.pathsep.join(str(Path(path).absolute()) for path in paths)
        return {**os.environ, VARIABLE: json.dumps(given), "PYTHONPATH": absolute}

    def _store(self):
        if self.way.has_marks:
            return {}
        return {"MARK_STORE": "tests.consistency.site.stores.NoMarks"}

    def _stop(self):
        for process in self._processes:
            process.kill()


def is_ready(path, process):
    if not process.is_running:
        raise ServerError(f"{path.stem} ended instead of starting:\n{process.last_words()}")
    kind = socket.SOCK_DGRAM if path.stem == "jobs" else socket.SOCK_STREAM
    with socket.socket(socket.AF_UNIX, kind) as own:
        return own.connect_ex(str(path)) == 0
