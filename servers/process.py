"""A server process that we own: started by us, known by its pid, unable to outlive us."""

import os
import select
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from servers.afterwards import Afterwards

NOBODY = 65534
AS_NOBODY = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
DYING_WITH_US = ("--pdeathsig=INT",)


class ServerError(RuntimeError):
    """A server, or a tool of it, did not do what it was started for."""


def owned(command: Sequence[str], *, as_nobody: bool = True) -> list[str]:
    """Return the command so that it ends with us, and runs as `nobody` where we are root.

    The kernel interrupts it when the *thread* that started it ends: servers are started on one that
    stays. Where there is no `setpriv`, which is Linux's, ordinary users go without this.
    """
    options = [*AS_NOBODY] if as_nobody and os.geteuid() == 0 else []
    if shutil.which("setpriv"):
        # In the same call: a later change of user would make the kernel forget the signal.
        options += DYING_WITH_US
    return ["setpriv", *options, *command] if options else [*command]


def hand_over(folder: Path) -> None:
    """Make the folder and all in it belong to the user who runs the servers."""
    if os.geteuid() == 0:
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def run(
    command: Sequence[str], *, env: Mapping[str, str], inherited: Sequence[int], feed: str = ""
) -> None:
    """Run a tool of a server to its end, as the user who runs the servers."""
    done = subprocess.run(
        owned(command),
        env=env,
        cwd="/",
        input=feed,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        pass_fds=[*inherited],
        start_new_session=True,
    )
    if done.returncode != 0:
        raise ServerError(f"{command[0]} failed:\n{done.stdout}")


def _start(command: Sequence[str], **options: Any) -> "subprocess.Popen[Any]":
    """Start a program on a thread that ends when we do, whoever asks for it."""
    return _starter(os.getpid()).submit(lambda: subprocess.Popen(command, **options)).result()


@cache
def _starter(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, f"starts servers of {process}")


class ServerProcess:
    """A running server and the children that it forks.

    They share two kinds of pipe: `inherited` belongs to whoever waits for the end of them all, and
    one of our own tells us when nobody of the family holds files or memory any more.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        inherited: Sequence[int] = (),
        env: Mapping[str, str] | None = None,
        as_nobody: bool = True,
    ) -> None:
        self._log = log
        self._thaw_after_us: Afterwards | None = None
        self._family, held_by_family = os.pipe()
        try:
            with log.open("ab") as output:
                self._popen = _start(
                    owned(command, as_nobody=as_nobody),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=[held_by_family, *inherited],
                    env=env,
                    cwd="/",
                    # Ctrl-C in a terminal is for us; we then stop the server in our own time.
                    start_new_session=True,
                )
        finally:
            os.close(held_by_family)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        return self._popen.poll() is None

    def last_words(self, lines: int = 20) -> str:
        """Return the end of the server's log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def interrupt(self) -> None:
        """Ask the server to end, without waiting for it."""
        self.thaw()
        self._popen.send_signal(signal.SIGINT)

    def wait(self, timeout: float = 10) -> None:
        """Return when the server and its children are gone; kill them if it takes too long."""
        try:
            self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
        else:
            self._wait_for_family()

    def wait_for_end(self) -> None:
        """Wait, for as long as it takes, until the server ends by itself."""
        self._popen.wait()

    def kill(self) -> None:
        """End the server and its children with SIGKILL, as a machine that loses power."""
        for pid in self._stopped_family():
            _signal(pid, signal.SIGKILL)
        self._popen.wait()
        self._wait_for_family()
        self._forget_thawing()

    def freeze(self) -> None:
        """Stop the server in its tracks: it accepts connections and never answers."""
        frozen = self._stopped_family()
        self._forget_thawing()
        # A stopped process cannot die of the signal that our own death sends it.
        self._thaw_after_us = Afterwards('kill -CONT "$@"', *map(str, frozen))

    def thaw(self) -> None:
        """Let a frozen server go on."""
        if self._thaw_after_us is not None:
            for pid in [*self._children(), self.pid]:
                _signal(pid, signal.SIGCONT)
            self._forget_thawing()

    def _stopped_family(self) -> list[int]:
        """Stop the server, so that it forks no more, then its children; return all the pids."""
        if not self.is_running:
            return []
        self._popen.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        children = self._children()
        for child in children:
            _signal(child, signal.SIGSTOP)
        return [self.pid, *children]

    def _children(self) -> list[int]:
        try:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        except FileNotFoundError:
            return []
        return [int(pid) for pid in children.split()]

    def _wait_for_family(self, timeout: float = 10) -> None:
        if self._family < 0:
            return
        gone, _, _ = select.select([self._family], [], [], timeout)
        if not gone:
            raise ServerError(f"Children of server process {self.pid} outlived it.")
        os.close(self._family)
        self._family = -1

    def _forget_thawing(self) -> None:
        if self._thaw_after_us is not None:
            self._thaw_after_us.cancel()
            self._thaw_after_us = None


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
