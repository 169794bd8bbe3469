"""Why a server cannot be connected to: it is away, or it refuses this user, which is no outage.

The driver's class of error tells, and within it the SQLSTATE, MySQL's and SQLite's numbers being
their own. A text is never looked at: servers write it in their administrators' language.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from django.db import Error, InterfaceError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from .refusals import Refusal, ask_for_refusal


class Outage(StrEnum):
    """Why new connections go elsewhere; the value is what logs and pages show."""

    UNREACHABLE = "cannot be reached"
    REFUSING = "takes no new connections"
    BUSY = "has no connection left in its pool"

    @property
    def lasts(self) -> bool:
        """Whether to leave the server alone for a while; a pool may have room at once."""
        return self is not Outage.BUSY


def outage_of(error: Exception, connection: BaseDatabaseWrapper) -> Outage | None:
    """Return why connecting failed, None where the server answered and means this user.

    *connection* is the one that failed to open, its settings being those it failed with. Asks the
    server once more where PostgreSQL's driver does not hand on what the server answered.
    """
    raised = _of_the_driver(error)
    read = _READERS.get(connection.vendor, _by_class)
    return read(raised, connection)


def is_busy(error: Exception, connection: BaseDatabaseWrapper) -> bool:
    """Tell whether a connection failed to open only because a pool had none to give.

    Asks the server nothing where no pool was waited for.
    """
    is_of_a_pool = type(_of_the_driver(error)).__name__ in {_POOL_TIMEOUT, *_OF_THE_POOL_ALONE}
    return is_of_a_pool and outage_of(error, connection) is Outage.BUSY


def _of_the_driver(error: Exception) -> Any:
    """Return what the driver raised: Django's wrappers keep it as their cause."""
    return error.__cause__ if isinstance(error, Error) and error.__cause__ else error


def _by_class(error: Any, connection: Any) -> Outage | None:
    driver = connection.Database
    about_connecting = (OperationalError, InterfaceError)
    if isinstance(error, (*about_connecting, driver.OperationalError, driver.InterfaceError)):
        return Outage.UNREACHABLE
    return None


# PostgreSQL. Classes and codes are those of its manual's appendix "PostgreSQL Error Codes".

_CONNECTION_EXCEPTION = "08"
_INSUFFICIENT_RESOURCES = "53"
# admin_shutdown, crash_shutdown, cannot_connect_now
_NOT_NOW = frozenset({"57P01", "57P02", "57P03"})

# By name, because psycopg's pool need not be installed. A full queue and a pool that somebody has
# just closed say nothing of the server; who waited in vain may have waited for a dead one.
_POOL_TIMEOUT = "PoolTimeout"
_OF_THE_POOL_ALONE = frozenset({"TooManyRequests", "PoolClosed"})


def _postgresql(error: Any, connection: Any) -> Outage | None:
    if _by_class(error, connection) is None:
        return None
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if state is None:
        return _unexplained(error, connection)
    return _of_state(state)


def _of_state(state: str) -> Outage | None:
    refusing = state in _NOT_NOW or state[:2] in (_CONNECTION_EXCEPTION, _INSUFFICIENT_RESOURCES)
    return Outage.REFUSING if refusing else None


def _unexplained(error: Any, connection: Any) -> Outage | None:
    name = type(error).__name__
    if name in _OF_THE_POOL_ALONE:
        return Outage.BUSY
    if name == "ConnectionTimeout":
        return Outage.UNREACHABLE
    answer = ask_for_refusal(connection)
    if answer is Refusal.NONE and name == _POOL_TIMEOUT:
        return Outage.BUSY
    return _of_state(answer) if isinstance(answer, str) else Outage.UNREACHABLE


# MySQL and MariaDB. The client's own errors begin at 2000; the server's are those of its manual
# whose SQLSTATE has class 08, and those that say that it is full or that it blocks this machine.

_CLIENTS_OWN = range(2000, 3000)
_REFUSED_BY_MYSQL = frozenset(
    {
        *(1040, 1042, 1043, 1047, 1080, 1081, 1152, 1158, 1159, 1160, 1161, 1184),
        *(1053, 1129, 1203, 1226),
    }
)


def _mysql(error: Any, connection: Any) -> Outage | None:
    number = error.args[0] if error.args else None
    if not isinstance(number, int):
        return _by_class(error, connection)
    if number in _CLIENTS_OWN:
        return Outage.UNREACHABLE
    return Outage.REFUSING if number in _REFUSED_BY_MYSQL else None


# SQLite: a disk error, and a file that cannot be opened.

_PRIMARY_CODE = 0xFF
_AWAY = frozenset({10, 14})


def _sqlite(error: Any, connection: Any) -> Outage | None:
    code = getattr(error, "sqlite_errorcode", 0)
    return Outage.UNREACHABLE if code & _PRIMARY_CODE in _AWAY else None


_READERS: Mapping[str, Callable[[Any, Any], Outage | None]] = {
    "postgresql": _postgresql,
    "mysql": _mysql,
    "sqlite": _sqlite,
}
