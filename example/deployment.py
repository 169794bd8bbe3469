"""The board as a process of its own, over the servers of a cluster."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers.postgres import Cluster
from servers.process import ServerError, ServerProcess, owned
from servers.waiting import wait_until

CHECKOUT = Path(__file__).resolve().parent.parent


class Deployment:
    """What every process of the board needs: databases, settings and a folder for its log."""

    def __init__(self, cluster: Cluster, *, seed: int) -> None:
        servers = [cluster.leader, *cluster.followers]
        aliases = ["default", *(f"replica{n}" for n in range(1, len(servers)))]
        databases = {
            alias: {**server.django_database(), "CONN_MAX_AGE": None}
            for alias, server in zip(aliases, servers, strict=True)
        }
        self._log = cluster.folder / "site.log"
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(CHECKOUT), os.environ.get("PYTHONPATH", "")]),
            "DJANGO_SETTINGS_MODULE": "example.board_site.settings",
            "BOARD_DATABASES": json.dumps(databases),
            "BOARD_SEED": str(seed),
        }

    def manage(self, *arguments: str) -> None:
        """Run one of Django's commands, with no router."""
        command = owned([sys.executable, "-m", "django", *arguments], as_nobody=False)
        done = subprocess.run(
            command, env=self._environment, cwd="/", capture_output=True, text=True
        )
        if done.returncode != 0:
            raise ServerError(f"`{' '.join(arguments)}` failed:\n{done.stdout}{done.stderr}")

    @contextmanager
    def serving(self, router: str, port: int) -> Iterator[ServerProcess]:
        """Serve the site with this router on a port of 127.0.0.1 inside the block."""
        process = ServerProcess(
            [sys.executable, "-m", "example.serve", str(port)],
            log=self._log,
            env={**self._environment, "BOARD_ROUTER": router},
            as_nobody=False,
        )
        try:
            wait_until(lambda: answers(port, process), f"the site listens on {port}")
            yield process
        finally:
            process.kill()


def answers(port: int, process: ServerProcess) -> bool:
    """Tell whether somebody takes connections; raise if nobody ever will."""
    if not process.is_running:
        raise ServerError(f"The site did not start:\n{process.last_words()}")
    with socket.socket() as visitor:
        return visitor.connect_ex(("127.0.0.1", port)) == 0
