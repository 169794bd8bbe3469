"""Positions compared, and what is asked of servers that this machine may not have."""

import pytest
from django.db import OperationalError, connection

from django_replicas.replication import (
    Lag,
    Progress,
    first_line,
    lag_between,
    lsn_of,
    missing,
    progress_of,
)

ONE = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
TWO = "4e11fa47-71ca-11e1-9e33-c80aa9429562"


@pytest.mark.parametrize(
    ("text", "number"), [("0/0", 0), ("0/3000148", 0x3000148), ("16/B374D848", 0x16B374D848)]
)
def test_lsn(text, number):
    """PostgreSQL writes the halves of a 64-bit number."""
    assert lsn_of(text) == number


@pytest.mark.parametrize(
    ("leader", "follower", "count"),
    [
        ("0-1-42", "0-1-42", 0),
        ("0-1-42", "0-1-40", 2),
        ("0-1-42", "0-2-40", 2),
        ("0-1-40", "0-1-42", 0),
        ("0-1-42,1-1-7", "0-1-42", 7),
        ("0-1-42,1-1-7", "1-1-6,0-1-41", 2),
        (f"{ONE}:1-42", f"{ONE}:1-42", 0),
        (f"{ONE}:1-42", f"{ONE}:1-40", 2),
        (f"{ONE}:1-42", f"{ONE}:1-10:12-40", 3),
        (f"{ONE}:1-42, {TWO}:7", f"{ONE}:1-42", 1),
        (f"{ONE}:1-5:batch:1-3", f"{ONE}:1-5", 3),
        (f"{ONE}:1-5:batch:1-3", f"{ONE}:1-5:batch:1-3", 0),
    ],
)
def test_missing_transactions(leader, follower, count):
    """MariaDB counts by domain, whichever server wrote; MySQL by source, tag and interval."""
    assert missing(leader, follower) == count


def test_lag_on_postgresql():
    """Seconds are told where the positions differ; on an idle leader they would only grow."""
    leader = Progress("0/3000100")
    assert lag_between("postgresql", leader, Progress("0/3000000", 5.0)) == Lag(
        bytes=256, seconds=5.0
    )
    assert lag_between("postgresql", leader, Progress("0/3000100", 5.0)) == Lag(bytes=0, seconds=0)
    # The leader answered before the follower did.
    assert lag_between("postgresql", leader, Progress("0/3000200", 5.0)) == Lag(bytes=0, seconds=0)


def test_lag_by_transactions():
    """Elsewhere it is transactions that are counted, and seconds are only known when it is none."""
    assert lag_between("mariadb", Progress("0-1-9"), Progress("0-1-7")) == Lag(transactions=2)
    assert lag_between("mysql", Progress(f"{ONE}:1-9"), Progress(f"{ONE}:1-9")) == Lag(
        transactions=0, seconds=0.0
    )


def test_lag_without_a_position():
    """Nothing is made up."""
    assert lag_between("sqlite", Progress(), Progress()) == Lag()
    assert lag_between("postgresql", Progress("0/1"), Progress()) == Lag()


def test_sqlite_tells_nothing():
    """A database without replication has no position, and that is nothing to complain of."""
    assert progress_of(connection, leads=True) == Progress()


class Server:
    """A connection that answers one query; it stands for servers that no wheel brings."""

    vendor = "mysql"

    def __init__(self, mariadb, answers):
        self.mysql_is_mariadb = mariadb
        self._answers = answers

    def cursor(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass

    def execute(self, query):
        if query not in self._answers:
            raise OperationalError("(1193, 'Unknown system variable')\nand more")
        answer = self._answers[query]
        self._row = answer if isinstance(answer, tuple) else (answer,)

    def fetchone(self):
        return self._row


BINLOG, SLAVE = "SELECT @@global.gtid_binlog_pos", "SELECT @@global.gtid_slave_pos"
RUNNING = "SHOW GLOBAL STATUS LIKE 'Slave_running'"
EXECUTED = "SELECT @@global.gtid_executed"


@pytest.mark.parametrize(
    ("mariadb", "answers", "leads", "progress"),
    [
        (True, {BINLOG: "0-1-42", SLAVE: ""}, True, Progress("0-1-42")),
        (
            True,
            {BINLOG: "", SLAVE: "0-1-41", RUNNING: ("Slave_running", "ON")},
            False,
            Progress("0-1-41", receives=True),
        ),
        (
            True,
            {SLAVE: "0-1-41", RUNNING: ("Slave_running", "OFF")},
            False,
            Progress("0-1-41", receives=False),
        ),
        (True, {BINLOG: ""}, True, Progress(note="it has no GTID position")),
        (False, {EXECUTED: f"{ONE}:1-5,\n{TWO}:1"}, True, Progress(f"{ONE}:1-5,{TWO}:1")),
        (
            False,
            {},
            False,
            Progress(note="its position cannot be read: (1193, 'Unknown system variable')"),
        ),
    ],
)
def test_gtid(mariadb, answers, leads, progress):
    """Leaders tell what they wrote, followers what they applied; refusals are said in a note."""
    assert progress_of(Server(mariadb, answers), leads=leads) == progress


def test_first_line():
    """An error without words has its type."""
    assert first_line(ValueError(" one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"
