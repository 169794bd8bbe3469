"""The queue of this process, for the engine, and for servers that end.

Can be imported before there are applications, as the settings of servers are.
"""

from functools import cache
from typing import Any

from django_replicas.conf import get_config

from .queue import Queue


@cache
def _queue(workers: int, limit: int) -> Queue[Any]:
    return Queue(workers, limit)


def get_queue() -> Queue[Any]:
    """Return the queue of this process."""
    config = get_config()
    return _queue(config.write_behind_workers, config.write_behind_limit)


def drain(seconds: float = 10.0) -> int:
    """Write what waits, and return how many sessions are still unwritten after so many seconds.

    For a server's graceful stop; an ordinary end of the interpreter does it by itself.
    """
    return get_queue().drain(seconds)
