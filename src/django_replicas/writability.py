"""Whether the server behind a connection takes writes, asked in each vendor's way."""

import os
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.db.backends.base.base import BaseDatabaseWrapper


def refuses_writes(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether a server that can be reached is one to read only.

    Of a vendor that is not known here it is enough that it can be reached.
    """
    connection.ensure_connection()
    return _ASK.get(connection.vendor, _says_nothing)(connection)


def _row(connection: BaseDatabaseWrapper, query: str) -> tuple[Any, ...]:
    with connection.cursor() as cursor:
        cursor.execute(query)
        row: tuple[Any, ...] = cursor.fetchone()
        return row


def _postgresql(connection: BaseDatabaseWrapper) -> bool:
    # In autocommit each statement's transaction begins with default_transaction_read_only.
    query = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'"
    return any(_row(connection, query))


def _mysql(connection: BaseDatabaseWrapper) -> bool:
    # Names instead of numbers: MariaDB 12 has more kinds of "on". Aurora's readers set the second.
    row = _row(connection, "SELECT @@global.read_only, @@global.innodb_read_only")
    return any(str(value).upper() not in {"0", "OFF"} for value in row)


def _sqlite(connection: BaseDatabaseWrapper) -> bool:
    if _row(connection, "PRAGMA query_only")[0] or _is_opened_to_read(connection):
        return True
    path = _row(connection, "PRAGMA database_list")[2]
    return bool(path) and not os.access(
        path, os.W_OK, effective_ids=os.access in os.supports_effective_ids
    )


def _is_opened_to_read(connection: BaseDatabaseWrapper) -> bool:
    name = str(connection.settings_dict["NAME"])
    asked = parse_qs(urlsplit(name).query) if name.startswith("file:") else {}
    return asked.get("mode") == ["ro"] or asked.get("immutable") == ["1"]


def _says_nothing(connection: BaseDatabaseWrapper) -> bool:
    return False


_ASK: Mapping[str, Callable[[BaseDatabaseWrapper], bool]] = {
    "postgresql": _postgresql,
    "mysql": _mysql,
    "sqlite": _sqlite,
}
