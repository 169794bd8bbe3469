"""What any server that may be started again can be made to do."""

import socket

from servers.process import ServerError, ServerProcess


class Startable:
    """A server that has a process once it was started, and another one each time."""

    port: int
    _process: ServerProcess | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on port {self.port}>"

    @property
    def pid(self) -> int:
        return self._started.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.is_running

    def kill(self) -> None:
        """End the server with SIGKILL: no farewell to its clients, nothing written any more."""
        self._started.kill()

    def freeze(self) -> None:
        """Let the server accept connections and answer nothing."""
        self._started.freeze()

    def thaw(self) -> None:
        """Let the frozen server go on."""
        self._started.thaw()

    @property
    def _started(self) -> ServerProcess:
        if self._process is None:
            raise ServerError(f"{self} was never started.")
        return self._process

    def _see_that_it_runs(self) -> None:
        if not self.is_running:
            raise ServerError(f"{self} ended instead of starting:\n{self._started.last_words()}")


def says(port: int, question: bytes, answer: bytes, host: str = "127.0.0.1") -> bool:
    """Tell whether a server on this port answers the question with these bytes."""
    try:
        with socket.create_connection((host, port), timeout=5) as connection:
            connection.sendall(question)
            return connection.recv(len(answer)) == answer
    except OSError:
        return False
