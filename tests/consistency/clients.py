"""Clients: each does what its seed says, remembers what it wrote, and judges what it reads."""

import json
import random
import socket
import threading
import time
from contextlib import ExitStack, suppress

READ, WRITE_AND_FAIL, WRITE, WRITE_AND_QUEUE = KINDS = ("read", "fail", "write", "job")
WEIGHTS = (70, 4, 18, 8)
PATIENCE = 30


class Survivors:
    """What of the writes to a lost leader its successor has; nothing is lost until it is known."""

    def __init__(self):
        self._of_port = {}

    def note(self, port, counters):
        """Say what the counters were when another server took over from the one on *port*."""
        self._of_port[port] = counters

    def of(self, written, owner):
        """Return what must be there of the largest number written to each port."""
        return max(
            (min(number, self._left(port, owner, number)) for port, number in written.items()),
            default=0,
        )

    def lost(self, written, owner):
        return sum(
            max(0, number - self._left(port, owner, number)) for port, number in written.items()
        )

    def _left(self, port, owner, number):
        return self._of_port.get(port, {}).get(owner, number)


class Line:
    """A connection to one process of the site."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("rwb")

    def ask(self, method, path, cookies):
        asked = {"method": method, "path": path, "cookies": cookies}
        self._file.write(json.dumps(asked).encode() + b"\n")
        self._file.flush()
        return json.loads(self._file.readline())

    def close(self):
        self._file.close()
        self._socket.close()


class Client(threading.Thread):
    """One user with one browser, who asks another process each time."""

    def __init__(self, owner, seed, crew, verdicts, survivors, has_ended):
        super().__init__(daemon=True)
        self.owner = owner
        self._random = random.Random(f"{seed}/{owner}")
        self._crew = crew
        self._verdicts = verdicts
        self._survivors = survivors
        self._has_ended = has_ended
        self._cookies = {}
        self._number = 0
        self.written = {}
        self.problem = None

    def run(self):
        try:
            with ExitStack() as undo:
                self._lines = {path: Line(path) for path in self._crew.sites}
                for line in self._lines.values():
                    undo.callback(line.close)
                while not self._has_ended():
                    self._do_something()
        except Exception as error:
            self.problem = error

    def _do_something(self):
        kinds = slice(None if self._crew.has_jobs else -1)
        (kind,) = self._random.choices(KINDS[kinds], WEIGHTS[kinds])
        # Each request to an event loop opens connections of its own, which costs as many others.
        weights = [1 if path.stem.startswith("asgi") else 4 for path in self._crew.sites]
        (path,) = self._random.choices(self._crew.sites, weights)
        time.sleep(self._crew.way.pause)
        prefix = self._random.choice(["", "/async"]) if path.stem.startswith("asgi") else ""
        ask = self._read if kind == READ else self._write
        ask(kind, path, prefix)

    def _read(self, kind, path, prefix):
        times = self._random.randrange(2, 13)
        expected, marks = self._survivors.of(self.written, self.owner), dict(self._cookies)
        began = time.monotonic()
        answer = self._ask(path, "GET", f"{prefix}/read/{self.owner}/{times}")
        if answer["status"] != 200:
            self._verdicts.fail(began, owner=self.owner, kind=kind, process=path.stem)
            return
        # What a leader lost in the meantime is nobody's fault.
        expected = min(expected, self._survivors.of(self.written, self.owner))
        self._verdicts.judge(
            answer["body"], expected, owner=self.owner, process=path.stem, marks=marks
        )

    def _write(self, kind, path, prefix):
        self._number += 1
        began = time.monotonic()
        atomic = self._random.choice(["", "&atomic"])
        answer = self._ask(
            path,
            "POST",
            f"{prefix}/write/{self.owner}/{self._number}?then={kind}{atomic}"
            f"&reply={self._crew.reply}",
        )
        if answer["status"] == 200:
            self._verdicts.count("writes")
            self._note(answer["body"]["port"])
        elif kind == WRITE_AND_FAIL and answer["status"] == 404:
            # It does not say where it was written, which matters where a leader is lost.
            self._verdicts.count("writes")
            if len(self.written) == 1 and not self._crew.may_lose_leader:
                self._note(*self.written)
        else:
            self._verdicts.fail(began, owner=self.owner, kind=kind, process=path.stem)

    def _note(self, port):
        self.written[port] = self._number

    def _ask(self, path, method, target):
        answer = self._lines[path].ask(method, target, self._cookies)
        self._cookies |= answer["cookies"]
        return answer


class JobsJudge(threading.Thread):
    """Hears what the jobs of a crew have read, and judges it."""

    def __init__(self, crew, verdicts, survivors):
        super().__init__(daemon=True)
        self._verdicts = verdicts
        self._survivors = survivors
        self._own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._own.bind(str(crew.reply))
        self._has_ended = threading.Event()

    def run(self):
        while not self._has_ended.is_set():
            with suppress(TimeoutError):
                self._judge(json.loads(self._own.recv(1 << 16)))

    def end(self):
        self._has_ended.set()
        self.join()
        self._own.close()

    def start(self):
        self._own.settimeout(0.1)
        super().start()

    def _judge(self, told):
        if "error" in told:
            self._verdicts.fail(told["began"], error=told["error"])
            return
        self._verdicts.count("jobs")
        expected = self._survivors.of({told["port"]: told["number"]}, told["owner"])
        self._verdicts.judge(told, expected, owner=told["owner"], process="jobs")
