"""Shell commands that run once everybody who holds their pipe is gone."""

import os
import subprocess


class Afterwards:
    """Run a shell script when this process, and all who inherited `fd`, have ended.

    The kernel closes a pipe however its holders end, so that SIGKILL is no exception. The script
    sees `arguments` as `$1`, `$2` and so on.
    """

    def __init__(self, script: str, *arguments: str) -> None:
        read_end, self.fd = os.pipe()
        self._shell = subprocess.Popen(
            ["sh", "-c", f"read -r _\n{script}", "sh", *arguments],
            stdin=read_end,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            # Ctrl-C goes to the whole group of the terminal; this one has to outlive it.
            start_new_session=True,
        )
        os.close(read_end)

    def run_now(self, timeout: float = 30) -> None:
        """Let go of the pipe and wait for the script, which waits for the other holders."""
        os.close(self.fd)
        self._shell.wait(timeout)

    def cancel(self) -> None:
        """End without running the script."""
        self._shell.kill()
        self._shell.wait()
        os.close(self.fd)
