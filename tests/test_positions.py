"""How far servers are: the values alone, and as real servers tell them to an ordinary role."""

import os

import pymysql
import pytest
from django.db import connection as sqlite
from django.db import connections
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from django_replicas.positions import (
    GtidPosition,
    MariaDB,
    PostgreSQL,
    WalPosition,
    end_of_record,
    lsn_of,
    position_from,
    positions_of,
)
from servers.mariadb import MariaDBNotFound, Server
from servers.postgres import Cluster
from servers.postgres_bindir import PostgresNotFound
from servers.waiting import wait_until

unhurried = hypothesis_settings(deadline=None)

wal_positions = st.builds(WalPosition, st.integers(1, 3), st.integers(0, 2**64 - 1))
gtid_positions = st.dictionaries(st.integers(0, 3), st.integers(0, 2**64 - 1), min_size=1).map(
    GtidPosition
)
positions = wal_positions | gtid_positions
pairs = st.tuples(wal_positions, wal_positions) | st.tuples(gtid_positions, gtid_positions)


# Values


@unhurried
@given(positions)
def test_text_comes_back(position):
    """What is written is read again, and a cookie can carry every letter of it."""
    assert position_from(str(position)) == position
    assert set(str(position)) <= set("0123456789ABCDEFpm.+-")


@unhurried
@given(st.text() | st.from_regex("[pm][0-9A-F.+-]*", fullmatch=True))
def test_any_text_is_read_or_not(text):
    """What is no position is none, whatever it is."""
    position = position_from(text)
    assert position is None or position == position_from(str(position))


@pytest.mark.parametrize(
    "text",
    ["", "p", "p1", "p1.", "p1.g", "p.1", "m", "m1", "m1-", "m1-2+", "x1.2", "p1.2 ", "m\u0661-1"],
)
def test_what_is_nearly_a_position_is_none(text):
    """Nothing is guessed."""
    assert position_from(text) is None


@unhurried
@given(pairs)
def test_merged_has_both_in_it(pair):
    """Of one epoch the larger of each part; of two there is none, in either order."""
    one, other = pair
    both = one.merged(other)
    assert both == other.merged(one)
    if one.epoch == other.epoch:
        assert one.is_in(both)
        assert other.is_in(both)
        assert both in {one, other} or isinstance(both, GtidPosition)
    else:
        assert both is None


@unhurried
@given(positions)
def test_a_position_is_in_itself(position):
    """Who has replayed so much has replayed so much."""
    assert position.is_in(position)
    assert position.merged(position) == position


@pytest.mark.parametrize(
    ("sought", "replayed", "is_in"),
    [
        (WalPosition(1, 100), WalPosition(0, 100), True),
        (WalPosition(1, 100), WalPosition(0, 99), False),
        (WalPosition(1, 100), WalPosition(1, 101), True),
        (WalPosition(1, 100), WalPosition(2, 101), False),
        (WalPosition(1, 100), GtidPosition({0: 101}), False),
        (GtidPosition({0: 5}), GtidPosition({0: 5, 1: 1}), True),
        (GtidPosition({0: 5, 1: 2}), GtidPosition({0: 5, 1: 1}), False),
        (GtidPosition({0: 5, 1: 2}), GtidPosition({0: 9}), False),
        (GtidPosition({0: 5}), WalPosition(0, 9), False),
    ],
)
def test_what_a_server_has_replayed(sought, replayed, is_in):
    """Every part must be there; what another vendor tells is never enough."""
    assert sought.is_in(replayed) is is_in


def test_positions_of_two_vendors_do_not_merge():
    """An alias that changed its vendor keeps nothing of before."""
    wal, gtid = WalPosition(1, 100), GtidPosition({0: 5})
    assert wal.merged(gtid) is None
    assert gtid.merged(wal) is None


def test_a_gtid_position_is_a_value():
    """It can be in sets, shows itself, and is equal to nothing else."""
    assert len({GtidPosition({0: 5, 1: 2}), GtidPosition({1: 2, 0: 5})}) == 1
    assert repr(GtidPosition({0: 5, 1: 2})) == "<GtidPosition m0-5+1-2>"
    assert GtidPosition({0: 5}) != "m0-5"


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("0-1-42", GtidPosition({0: 42})),
        ("0-1-42,7-2-5", GtidPosition({0: 42, 7: 5})),
        (" 0-1-42,\n 7-2-5 ", GtidPosition({0: 42, 7: 5})),
        ("", None),
    ],
)
def test_as_mariadb_writes_it(variable, expected):
    """Domain, server, sequence number; nothing where there is no binary log."""
    assert GtidPosition.of(variable) == expected


def test_lsn():
    """PostgreSQL writes the halves of a 64-bit number."""
    assert lsn_of("16/B374D848") == 0x16B374D848


SEGMENT = 16 * 2**20


@pytest.mark.parametrize(
    ("lsn", "end"),
    [
        (5 * 8192 + 24, 5 * 8192),
        (5 * 8192 + 40, 5 * 8192 + 40),
        (5 * 8192 + 32, 5 * 8192 + 32),
        (5 * 8192, 5 * 8192),
        (3 * SEGMENT + 40, 3 * SEGMENT),
        (3 * SEGMENT + 24, 3 * SEGMENT),
        (3 * SEGMENT + 48, 3 * SEGMENT + 48),
    ],
)
def test_an_insert_position_behind_a_header_is_the_end_of_the_record_before(lsn, end):
    """A page's header is 24 bytes, a segment's first one 40; elsewhere 40 is inside a page."""
    assert end_of_record(lsn, SEGMENT) == end


def test_sqlite_has_none():
    """Files do not replicate."""
    assert positions_of(sqlite) is None
    sqlite.ensure_connection()


# PostgreSQL


@pytest.fixture(scope="module", params=[16, 18])
def cluster(request):
    try:
        with Cluster(standbys=1, major=request.param) as cluster:
            cluster.leader.execute("CREATE TABLE note (id int)")
            cluster.leader.execute("GRANT ALL ON note TO app")
            cluster.wait_for_replay()
            yield cluster
    except PostgresNotFound as reason:
        skip(reason)


def skip(reason):
    if os.environ.get("CI") == "true":
        pytest.fail(str(reason))
    pytest.skip(str(reason))


@pytest.fixture
def postgres(cluster, databases_are):
    """Return the leader's connection, the follower's, and how both are asked."""
    databases_are(
        default=cluster.leader.django_database(), replica1=cluster.followers[0].django_database()
    )
    yield connections["default"], connections["replica1"], PostgreSQL()
    cluster.followers[0].resume_replay()


def insert(connection, number):
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO note VALUES (%s)", [number])


def has(connection, number):
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM note WHERE id = %s", [number])
        return cursor.fetchone()[0] > 0


def assert_seen_when_replayed(leader, follower, ask, numbers, **how):
    """Whatever is written is on the follower once it has replayed the leader's position."""
    for number in numbers:
        insert(leader, number)
        sought = ask.written(leader, **how)
        wait_until(lambda: sought.is_in(ask.told(follower).replayed), "it is replayed")  # noqa: B023
        assert has(follower, number)


def test_postgres_is_asked_as_an_ordinary_role(postgres):
    """Positions are of the first timeline on the leader, of an unknown one on its standby."""
    leader, follower, ask = postgres
    insert(leader, 0)
    assert type(positions_of(leader)) is PostgreSQL
    assert ask.written(leader, flushed=True).timeline == 1
    assert ask.told(follower).replayed.timeline == 0
    assert ask.told(follower).server != ask.told(leader).server


def test_a_flushed_position_has_every_commit_before_it(postgres):
    """A follower that has replayed it shows what was written."""
    assert_seen_when_replayed(*postgres, range(1, 300), flushed=True)


def test_an_inserted_position_has_every_commit_before_it(postgres):
    """Also what is not flushed yet."""
    assert_seen_when_replayed(*postgres, range(300, 500), flushed=False)


def test_where_commits_are_not_flushed_the_inserted_position_is_taken(postgres, cluster):
    """A session whose ``synchronous_commit`` is off has its commits in it, and only there."""
    leader, follower, ask = postgres
    leader.settings_dict["OPTIONS"]["options"] = "-c synchronous_commit=off"
    assert_seen_when_replayed(leader, follower, ask, range(500, 506), flushed=True)


def test_a_follower_that_replays_nothing_has_not_replayed(postgres, cluster):
    """It is behind until it goes on."""
    leader, follower, ask = postgres
    cluster.followers[0].pause_replay()
    insert(leader, 600)
    sought = ask.written(leader, flushed=True)
    assert not sought.is_in(ask.told(follower).replayed)
    cluster.followers[0].resume_replay()
    wait_until(lambda: sought.is_in(ask.told(follower).replayed), "it is replayed")
    assert has(follower, 600)


def test_a_promoted_follower_is_on_a_timeline_of_its_own(databases_are):
    """What it shows beyond the old leader is no proof of anything that the old leader wrote."""
    with Cluster(standbys=1) as own:
        own.leader.execute("CREATE TABLE note (id int)")
        own.leader.execute("GRANT ALL ON note TO app")
        own.wait_for_replay()
        databases_are(
            default=own.leader.django_database(), replica1=own.followers[0].django_database()
        )
        leader, promoted, ask = connections["default"], connections["replica1"], PostgreSQL()
        insert(leader, 1)
        before = ask.written(leader, flushed=True)
        own.followers[0].execute("SELECT pg_promote()")
        for number in range(50):
            insert(promoted, number)
        after = ask.written(promoted, flushed=True)
        assert (before.timeline, after.timeline) == (1, 2)
        assert after.lsn > before.lsn
        assert ask.told(promoted).replayed is None
        connections.close_all()


# MariaDB


@pytest.fixture(scope="module")
def mariadb_servers():
    pymysql.install_as_MySQLdb()
    try:
        leader, follower = Server(), Server(number=2)
    except MariaDBNotFound as reason:
        skip(reason)
    with leader, follower:
        follower.follow(leader)
        leader.execute("CREATE TABLE app.note (id INT)")
        yield leader, follower


@pytest.fixture
def mariadb(mariadb_servers, databases_are):
    leader, follower = mariadb_servers
    databases_are(default=leader.django_database(), replica1=follower.django_database())
    yield connections["default"], connections["replica1"], MariaDB()
    follower.resume_replay()


def test_a_gtid_position_has_every_commit_before_it(mariadb):
    """A follower that has replayed it shows what was written."""
    assert type(positions_of(mariadb[0])) is MariaDB
    assert_seen_when_replayed(*mariadb, range(1, 200), flushed=True)


def test_a_mariadb_follower_that_replays_nothing(mariadb, mariadb_servers):
    """It is behind until it goes on."""
    leader, follower, ask = mariadb
    mariadb_servers[1].pause_replay()
    insert(leader, 600)
    sought = ask.written(leader, flushed=True)
    assert not sought.is_in(ask.told(follower).replayed)
    mariadb_servers[1].resume_replay()
    wait_until(lambda: sought.is_in(ask.told(follower).replayed), "it is replayed")
    assert has(follower, 600)


def test_a_follower_that_never_replayed_has_no_position(mariadb):
    """Nor has a leader without a binary log; the leader of this set never follows anybody."""
    assert MariaDB().told(mariadb[0]).replayed is None
