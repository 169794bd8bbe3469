"""A way to a server that can be cut, stalled and slowed down.

    with Faults(server.port) as way:
        connect(port=way.port)
        way.blackhole()

The server itself stays as it is. The proxy is a process of its own, so that whoever connects
through it competes with it for nothing but the processor.
"""

import socket
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from servers.afterwards import Afterwards
from servers.ports import free_port
from servers.process import ServerError, ServerProcess
from servers.waiting import wait_until

PROGRAM = Path(__file__).with_name("faulty_proxy.py")


class Faults:
    """A port of 127.0.0.1 that leads to another, for as long as the `with` block runs."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.port = free_port()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            folder = Path(tempfile.mkdtemp(prefix="django-replicas-faults-"))
            removal = Afterwards('rm -rf -- "$1"', str(folder))
            undo.callback(removal.run_now)
            control = folder / "control"
            self._process = ServerProcess(
                [
                    sys.executable,
                    "-I",
                    str(PROGRAM),
                    str(self.port),
                    str(self._target),
                    str(control),
                ],
                log=folder / "log",
                inherited=[removal.fd],
                as_nobody=False,
            )
            undo.callback(self._stop)
            wait_until(lambda: self._connected(control), f"the way to port {self._target} is open")
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def refuse(self) -> None:
        """Close the listener: connections that are open stay so."""
        self._tell("refuse")

    def reset(self) -> None:
        """Answer every connection, old and new, with RST."""
        self._tell("reset")

    def blackhole(self) -> None:
        """Accept connections and pass nothing on, either way."""
        self._tell("blackhole")

    def delay(self, seconds: float) -> None:
        """Let everything take so much longer, each way."""
        self._tell(f"delay {seconds}")

    def heal(self) -> None:
        """Be a good proxy again; what was stalled goes on."""
        self._tell("heal")

    def lead_to(self, target: int) -> None:
        """Lead those who come from now on to another port."""
        self._tell(f"lead {target}")

    def accepted(self) -> int:
        """Return how many connections were accepted so far."""
        return self._tell("accepted")

    def open(self) -> int:
        """Return how many connections are open to the server."""
        return self._tell("open")

    def _tell(self, command: str) -> int:
        self._control.sendall(f"{command}\n".encode())
        answer = self._control.recv(100)
        if not answer:
            raise ServerError(f"The faulty proxy has ended:\n{self._process.last_words()}")
        return int(answer)

    def _connected(self, control: Path) -> bool:
        if not self._process.is_running:
            raise ServerError(f"The faulty proxy did not start:\n{self._process.last_words()}")
        own = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            own.connect(str(control))
        except OSError:
            own.close()
            return False
        self._control = own
        return True

    def _stop(self) -> None:
        if hasattr(self, "_control"):
            self._control.close()
        self._process.kill()
