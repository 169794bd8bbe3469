"""What PostgreSQL answers to an attempt to connect: its SQLSTATE, which its drivers do not tell.

libpq fails with a text alone, in the language of the server. But it can write down the messages it
exchanges, in a form made for machines (``PQtrace``), and there the error has its code.
"""

import os
import re
import select
import time
from enum import Enum
from typing import Any

DEFAULT_SECONDS = 5.0
# What libpq knows nothing of: it is psycopg that takes it.
_NOT_FOR_LIBPQ = frozenset({"autocommit", "context", "cursor_factory", "prepare_threshold"})
_ERROR = re.compile(rb'\tErrorResponse\t.*? C "([0-9A-Z]{5})"')
_LONGEST = 1 << 20
# invalid_password: the server asks for one, and the client has none to send.
_NO_PASSWORD = "28P01"


class Refusal(Enum):
    """An answer that is no SQLSTATE."""

    NONE = "the server accepts the connection"
    UNKNOWN = "the server did not answer, or this driver cannot tell"


def ask_for_refusal(connection: Any) -> str | Refusal:
    """Try to connect as *connection* would, and return the SQLSTATE of what the server objects to.

    Takes no longer than the ``connect_timeout`` of its settings, 5 seconds where there is none.
    """
    if not hasattr(connection.Database, "pq") or not hasattr(os, "memfd_create"):
        return Refusal.UNKNOWN
    given = connection.get_connection_params()
    parameters = {key: value for key, value in given.items() if key not in _NOT_FOR_LIBPQ}
    try:
        seconds = float(parameters.get("connect_timeout") or DEFAULT_SECONDS)
        conninfo = connection.Database.conninfo.make_conninfo(**parameters)
        return _attempt(connection.Database.pq, conninfo.encode(), seconds)
    except (ValueError, OSError, connection.Database.Error):
        return Refusal.UNKNOWN


def _attempt(pq: Any, conninfo: bytes, seconds: float) -> str | Refusal:
    # In memory, because passwords may be among what is written down.
    notes = os.memfd_create("refusal")
    try:
        attempt = pq.PGconn.connect_start(conninfo)
        try:
            attempt.trace(notes)
            connected = _is_connected(pq, attempt, time.monotonic() + seconds)
            attempt.untrace()
            if connected:
                return Refusal.NONE
            error = _ERROR.search(os.pread(notes, _LONGEST, 0))
            if error is not None:
                return error[1].decode()
            return _NO_PASSWORD if attempt.needs_password else Refusal.UNKNOWN
        finally:
            attempt.finish()
    finally:
        os.close(notes)


def _is_connected(pq: Any, attempt: Any, deadline: float) -> bool:
    while attempt.status != pq.ConnStatus.BAD:
        status = attempt.connect_poll()
        if status not in (pq.PollingStatus.READING, pq.PollingStatus.WRITING):
            return bool(status == pq.PollingStatus.OK)
        socket = [attempt.socket]
        waiting = (socket, []) if status == pq.PollingStatus.READING else ([], socket)
        if not any(select.select(*waiting, [], max(0.0, deadline - time.monotonic()))):
            return False
    return False
