"""One alias over equal peers: here they are SQLite files, whose rows tell which one answered."""

import copy
import os
import pickle
import random
import shutil
import sqlite3
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.signals import setting_changed
from django.db import NotSupportedError, OperationalError, connections
from django.db.backends.base.base import RAN_DB_VERSION_CHECK
from django.db.backends.signals import connection_created
from django.db.backends.sqlite3.base import DatabaseWrapper as SQLiteWrapper
from django.db.backends.sqlite3.client import DatabaseClient
from django.db.backends.sqlite3.features import DatabaseFeatures

from django_replicas import unit_of_work
from django_replicas.backends.balanced.base import DatabaseWrapper
from django_replicas.exceptions import NoPeerError, ReplicasConfigError
from django_replicas.peers import Peers, peers_in, peers_of
from django_replicas.signals import peer_down, peer_up

from .peers import aliases, balanced
from .settings import sqlite
from .shop.models import Book

PEERS = ("replica1", "replica2", "lonely")


@pytest.fixture
def many():
    """The alias over three files; it is new in each test."""
    with aliases(many=balanced(*PEERS)):
        yield connections["many"]


@pytest.fixture
def lose(monkeypatch, tmp_path):
    """Have connecting to an alias fail, and return what brings it back."""

    def lose(*lost):
        before = {alias: connections.settings[alias]["NAME"] for alias in lost}
        for alias in lost:
            gone = str(tmp_path / "gone" / "file.sqlite3")
            monkeypatch.setitem(connections.settings[alias], "NAME", gone)
        return lambda: [
            monkeypatch.setitem(connections.settings[alias], "NAME", name)
            for alias, name in before.items()
        ]

    return lose


@pytest.fixture
def heard():
    """What the signals told, in its order."""
    heard = []

    def listen(signal, sender, **told):
        heard.append((signal, told))

    for signal in (peer_down, peer_up):
        signal.connect(listen)
    yield heard
    for signal in (peer_down, peer_up):
        signal.disconnect(listen)


def answering(alias="many"):
    """Return the peer that a new connection reaches, which its rows tell."""
    connections[alias].close()
    return Book.objects.using(alias).get(pk=1).title


def all_answering(times):
    return [answering() for _ in range(times)]


def test_rows_are_those_of_a_peer(many):
    """A new connection reads what one of the peers has, and knows which."""
    title = answering()
    assert title in PEERS
    assert many.peer == title


def test_no_peer_without_a_connection(many):
    """What is not open leads nowhere yet."""
    assert many.peer is None
    answering()
    many.close()
    assert many.peer is None


def test_every_peer_has_its_turn(many):
    """Over many connections none is left out."""
    assert {answering() for _ in range(60)} == set(PEERS)


def test_a_connection_stays_where_it_is(many):
    """Peers are chosen when a connection is opened, not by query."""
    title = answering()
    titles = {Book.objects.using("many").get(pk=1).title for _ in range(50)}
    assert titles == {title}


def test_it_is_what_the_peers_are(many):
    """Everything that Django asks of a connection is answered by the peers' own engine."""
    assert isinstance(many, SQLiteWrapper)
    assert isinstance(many, DatabaseWrapper)
    assert (many.vendor, many.display_name) == ("sqlite", "SQLite")
    assert type(many.features) is DatabaseFeatures
    assert isinstance(many.client, DatabaseClient)
    assert repr(many) == "<DatabaseWrapper vendor='sqlite' alias='many'>"


def test_one_class_for_one_engine():
    """The class is made once, and belongs to this engine."""
    with aliases(many=balanced(*PEERS), few=balanced("other")):
        assert type(connections["many"]) is type(connections["few"])
        assert type(connections["many"]).__module__ == "django_replicas.backends.balanced.base"


def test_a_subclass_is_made_over_the_engine_as_well(many):
    """Packages that extend engines by inheritance find a class here."""

    class Counting(DatabaseWrapper):
        opened = 0

        def connect(self):
            self.opened += 1
            super().connect()

    counting = Counting(connections.settings["many"], "many")
    counting.ensure_connection()
    assert isinstance(counting, SQLiteWrapper)
    assert counting.opened == 1
    counting.close()


def test_what_the_alias_says_of_itself_counts():
    """How a connection is used is the alias's own, where it leads to is the peer's."""
    own = {"CONN_MAX_AGE": 7, "CONN_HEALTH_CHECKS": True, "ATOMIC_REQUESTS": True}
    with aliases(many=balanced("replica1", OPTIONS={"timeout": 1}, **own)):
        connection = connections["many"]
        connection.ensure_connection()
        assert {key: connection.settings_dict[key] for key in own} == own
        assert connection.settings_dict["NAME"] == connections.settings["replica1"]["NAME"]
        assert connection.settings_dict["OPTIONS"] == {}
        assert connection.settings_dict["ENGINE"] == "django.db.backends.sqlite3"


def test_no_settings_are_edited(many):
    """Neither those of the peers nor the alias's own, whatever the connection does."""
    before = copy.deepcopy({alias: connections.settings[alias] for alias in ("many", *PEERS)})
    for _ in range(10):
        answering()
    assert {alias: connections.settings[alias] for alias in before} == before


def test_what_is_set_on_the_connection_lasts(many):
    """As on a plain alias, where the dict is edited in place."""
    many.settings_dict["CONN_MAX_AGE"] = None
    answering()
    assert many.settings_dict["CONN_MAX_AGE"] is None
    assert many.close_at is None


def test_options_that_are_set_on_the_connection_are_its_own(many):
    """They last, on whichever peer, and no other connection has them."""
    many.settings_dict["OPTIONS"]["timeout"] = 9
    for _ in range(20):
        answering()
        assert many.settings_dict["OPTIONS"] == {"timeout": 9}
    assert all(connections.settings[peer]["OPTIONS"] == {} for peer in PEERS)


def test_what_is_set_in_a_peers_entry_is_looked_at_anew(many, monkeypatch):
    """Tests put other databases there; also by editing what is in it."""
    answering()
    for peer in PEERS:
        monkeypatch.setitem(connections.settings[peer]["OPTIONS"], "timeout", 8)
        monkeypatch.setitem(
            connections.settings[peer], "NAME", connections.settings["other"]["NAME"]
        )
    for _ in range(5):
        assert answering() == "other"
        assert many.settings_dict["OPTIONS"] == {"timeout": 8}


def test_a_name_of_its_own_is_asked_of_every_peer(tmp_path):
    """So test databases work: the alias's ``NAME`` is the database on whichever peer."""
    name = str(tmp_path / "own.sqlite3")
    shutil.copy(connections.settings["other"]["NAME"], name)
    with aliases(many=balanced(*PEERS, NAME=name)):
        assert {answering() for _ in range(20)} == {"other"}


def test_a_copy_chooses_for_itself(many):
    """Also when it was made while its model was at some peer."""
    answering()
    connection = many.copy()
    reached = set()
    for _ in range(40):
        connection.ensure_connection()
        reached.add(connection.peer)
        connection.close()
    assert reached == set(PEERS)
    assert many.copy("elsewhere").alias == "elsewhere"


def test_round_robin():
    """One after the other."""
    with aliases(many=balanced(*PEERS, BALANCE="round_robin")):
        first = [answering() for _ in range(3)]
        assert sorted(first) == sorted(PEERS)
        assert [answering() for _ in range(6)] == first * 2


# A peer that is down


def test_a_dead_peer_is_nobodys_error(many, lose, heard):
    """Whoever meets it goes on to the next, and afterwards it is left alone."""
    lose("replica1")
    assert {answering() for _ in range(40)} == {"replica2", "lonely"}
    (told,) = heard
    assert told[0] is peer_down
    assert (told[1]["alias"], told[1]["peer"]) == ("many", "replica1")
    assert told[1]["reason"] == "cannot be reached"
    assert isinstance(told[1]["error"], OperationalError | sqlite3.OperationalError)


def test_a_dead_peer_is_in_the_log(many, lose, caplog):
    """Once, with what the driver said."""
    lose("replica1")
    for _ in range(40):
        answering()
    assert [record.getMessage() for record in caplog.records] == [
        "Peer 'replica1' of 'many' cannot be reached and is left alone for 10 seconds: "
        "unable to open database file"
    ]


def test_it_comes_back(many, lose, heard, monkeypatch):
    """After the interval one new connection tries it, and then everybody may."""
    clock = [1000.0]
    known = peers_of("many")
    monkeypatch.setattr(known._liveness, "_clock", lambda: clock[0])
    bring_back = lose("replica1")
    for _ in range(40):
        answering()
    bring_back()
    clock[0] += 9.9
    assert {answering() for _ in range(20)} == {"replica2", "lonely"}
    clock[0] += 0.2
    assert answering() == "replica1"
    assert {answering() for _ in range(40)} == set(PEERS)
    assert [(signal, told["peer"]) for signal, told in heard] == [
        (peer_down, "replica1"),
        (peer_up, "replica1"),
    ]
    assert heard[-1][1]["reason"] == "was connected to again"


def test_all_down(many, lose, heard, caplog):
    """The error names every peer, and what each of them raised."""
    lose(*PEERS)
    with pytest.raises(OperationalError) as raised:
        answering()
    assert isinstance(raised.value, NoPeerError)
    text = str(raised.value)
    assert text.startswith("No peer of 'many' can be connected to. ")
    assert all(f"{peer}: unable to open database file" in text for peer in PEERS)
    assert set(raised.value.errors) == set(PEERS)
    assert isinstance(raised.value.__cause__, sqlite3.OperationalError)
    assert len(heard) == 3
    assert caplog.records[-1].getMessage() == "No peer of 'many' is left."
    assert many.connection is None
    assert str(pickle.loads(pickle.dumps(raised.value))) == text


def test_where_none_is_left_all_are_tried(many, lose):
    """A peer that is back serves at once: nobody else could."""
    bring_back = lose(*PEERS)
    for _ in range(2):
        with pytest.raises(NoPeerError):
            answering()
    bring_back()
    assert answering() in PEERS


@contextmanager
def failing_once(code):
    """Have one connection of the alias fail while it is set up, as SQLite would say it."""
    broken = []

    def disturb(connection, **kwargs):
        if connection.alias == "many" and not broken:
            broken.append(connection.connection)
            error = sqlite3.OperationalError("broken on purpose")
            error.sqlite_errorcode = code
            raise error

    connection_created.connect(disturb)
    try:
        yield broken
    finally:
        connection_created.disconnect(disturb)


def test_what_is_no_outage_is_raised(many, heard):
    """A file that is no database is a mistake of somebody's, and no reason to go elsewhere."""
    with failing_once(sqlite3.SQLITE_NOTADB), pytest.raises(OperationalError, match="on purpose"):
        answering()
    assert heard == []


def test_what_fails_after_connecting_is_an_outage_too(many, heard):
    """A connection that breaks while it is set up leaves nothing behind."""
    with failing_once(sqlite3.SQLITE_IOERR_READ) as broken:
        assert answering() in PEERS
    assert many.connection is not broken[0]
    with pytest.raises(sqlite3.ProgrammingError):
        broken[0].execute("SELECT 1")
    assert [signal for signal, _ in heard] == [peer_down]


def test_each_alias_has_its_own_state(lose):
    """What one alias met is not known to another with the same peers."""
    with aliases(many=balanced(*PEERS), few=balanced(*PEERS[:2])):
        lose("replica1")
        for _ in range(40):
            answering("many")
        assert not peers_of("many").is_up("replica1")
        assert peers_of("few").is_up("replica1")


def test_threads_share_what_is_known(many, lose, heard):
    """One of them meets the dead peer first, or several at once; it is told once."""
    lose("replica1")
    together = threading.Barrier(8)

    def work():
        together.wait()
        try:
            return [answering() for _ in range(20)]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(work) for _ in range(8)]
        titles = Counter(title for future in futures for title in future.result())
    assert set(titles) == {"replica2", "lonely"}
    assert len(heard) == 1


# Persistent connections


def test_a_persistent_connection_leaves_a_peer_that_is_down(lose):
    """Between requests, when others have found that it takes no new connections."""
    with aliases(many=balanced(*PEERS, CONN_MAX_AGE=None)):
        connection = connections["many"]
        connection.ensure_connection()
        here = connection.peer
        connection.close_if_unusable_or_obsolete()
        assert connection.peer == here
        lose(here)
        another = connection.copy()
        while peers_of("many").is_up(here):
            another.ensure_connection()
            another.close()
        connection.close_if_unusable_or_obsolete()
        assert connection.peer is None
        connection.ensure_connection()
        assert connection.peer != here


def test_a_persistent_connection_stays_where_no_other_is_up(lose):
    """It works, while nothing could be opened in its place."""
    with aliases(many=balanced(*PEERS, CONN_MAX_AGE=None)):
        connection = connections["many"]
        connection.ensure_connection()
        lose(*PEERS)
        with pytest.raises(NoPeerError):
            connection.copy().ensure_connection()
        connection.close_if_unusable_or_obsolete()
        assert connection.peer is not None


# What is known of a server


def test_facts_are_each_peers_own(many):
    """Versions and what follows from them are asked of each server once, and not of another."""
    first = answering()
    connection = connections["many"]
    vars(connection.features)["supports_json_field"] = first
    connection.timezone  # noqa: B018 - to have it kept
    while answering() == first:
        pass
    assert "supports_json_field" not in vars(connection.features)
    assert "timezone" not in vars(connection)
    while answering() != first:
        pass
    assert connection.features.supports_json_field == first
    assert "timezone" in vars(connection)


def test_each_peers_version_is_looked_at(many, monkeypatch):
    """An old server among new ones is told, as it would be on an alias of its own."""
    RAN_DB_VERSION_CHECK.update(PEERS)
    while answering() != "replica1":
        pass
    monkeypatch.setattr(DatabaseFeatures, "minimum_database_version", (99,))
    assert {answering() for _ in range(20)} == set(PEERS)
    RAN_DB_VERSION_CHECK.discard("replica2")
    with pytest.raises(NotSupportedError, match=r"SQLite 99 or later is required"):
        all_answering(60)


# Settings


@pytest.mark.parametrize(
    ("own", "problem"),
    [
        ({"PEERS": "replica1"}, "[\"PEERS\"] must be a list of aliases, not 'replica1'."),
        ({"PEERS": None}, '["PEERS"] must be a list of aliases, not None.'),
        ({"PEERS": [1]}, '["PEERS"] must be a list of aliases, not [1].'),
        ({"PEERS": []}, '["PEERS"] is empty. Name at least one alias there.'),
        (
            {"PEERS": ["lonely", "lonely"]},
            "[\"PEERS\"] names 'lonely' 2 times. Name each peer once.",
        ),
        (
            {"PEERS": ["nobody"]},
            "[\"PEERS\"] names 'nobody', which is not in DATABASES. "
            "Add it there, or remove it here.",
        ),
        (
            {"PEERS": ["many"]},
            "[\"PEERS\"] names 'many', which has peers itself. Name those instead.",
        ),
        (
            {"PEERS": ["lonely", "dummy"]},
            '["PEERS"] have different engines (lonely: django.db.backends.sqlite3.base, '
            "dummy: django.db.backends.dummy.base). Give all of them the same.",
        ),
        (
            {"PEERS": ["lonely", "elsewhere"]},
            "[\"PEERS\"] differ in TIME_ZONE (lonely: None, elsewhere: 'Asia/Tokyo'). "
            "Give all of them the same.",
        ),
        (
            {"CHECK_INTERVAL": 0},
            '["CHECK_INTERVAL"] must be a number of seconds above 0, not 0.',
        ),
        (
            {"CHECK_INTERVAL": True},
            '["CHECK_INTERVAL"] must be a number of seconds above 0, not True.',
        ),
        (
            {"CHECK_INTERVAL": "10"},
            "[\"CHECK_INTERVAL\"] must be a number of seconds above 0, not '10'.",
        ),
        (
            {"BALANCE": "fair"},
            "[\"BALANCE\"] must be one of 'random', 'round_robin', not 'fair'.",
        ),
    ],
)
def test_wrong_settings(own, problem):
    """Whatever is wrong is told before anything is connected to."""
    entries = {
        "many": {**balanced("lonely"), **own},
        "dummy": {"ENGINE": "django.db.backends.dummy"},
        "elsewhere": {**sqlite("other"), "TIME_ZONE": "Asia/Tokyo"},
    }
    with aliases(**entries), pytest.raises(ImproperlyConfigured) as raised:
        connections["many"].ensure_connection()
    assert isinstance(raised.value, ReplicasConfigError)
    assert str(raised.value) == f"DATABASES['many']{problem}"


def test_no_peers_at_all():
    """The key is missing."""
    with aliases(many={"ENGINE": balanced()["ENGINE"]}), pytest.raises(ReplicasConfigError):
        connections["many"].ensure_connection()


# Whose turn it is


def test_the_turn_is_uniform():
    """Over a fixed seed, by Pearson's chi-squared: 5.99 is passed by 1 of 20 who are fair."""
    peers = Peers("many", PEERS, pick=random.Random(20).randrange)
    counts = Counter(next(peers.in_turn()) for _ in range(3000))
    assert chi_squared(counts.values()) < 5.99


def test_the_turn_is_uniform_over_those_that_are_up(many, lose):
    """The load of a dead peer falls on all others alike; 3.84 is the limit for two."""
    lose("lonely")
    while peers_of("many").is_up("lonely"):
        answering()
    random.seed(20)
    assert chi_squared(Counter(answering() for _ in range(300)).values()) < 3.84


def chi_squared(counts):
    expected = sum(counts) / len(counts)
    return sum((count - expected) ** 2 / expected for count in counts)


def test_the_registry_knows_settings_apart():
    """Another interval is another memory; the same settings have the same."""
    with aliases(many=balanced(*PEERS)):
        settings = connections.settings["many"]
        assert peers_in("many", settings) is peers_of("many")
        assert peers_in("many", {**settings, "CHECK_INTERVAL": 3}) is not peers_of("many")
        assert peers_in("many", settings).check_interval == 10
    assert peers_of("default") is None


def test_what_is_known_is_forgotten_with_the_settings(settings, lose):
    """Tests that change ``DATABASES`` begin with peers that nobody has tried."""
    with aliases(many=balanced(*PEERS)):
        known = peers_of("many")
        settings.CACHES = {}
        assert peers_of("many") is known
        setting_changed.send(None, setting="DATABASES", value=None, enter=False)
        assert peers_of("many") is not known


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_finds_out_for_itself(many, lose):
    """Its peers are new to it: another thread may have held a lock of those that were known."""
    lose("replica1")
    while peers_of("many").is_up("replica1"):
        answering()
    child = os.fork()
    if not child:
        os._exit(0 if peers_of("many").is_up("replica1") else 1)
    assert os.waitpid(child, 0)[1] == 0


# Commands


def test_dbshell_goes_to_a_peer_that_answers(many, lose, monkeypatch):
    """The shell is that of the peers' engine."""
    ran = []
    monkeypatch.setattr("subprocess.run", lambda args, **kwargs: ran.append(args))
    lose("replica1", "replica2")
    call_command("dbshell", database="many")
    assert ran == [["sqlite3", connections.settings["lonely"]["NAME"]]]


def test_dbshell_where_no_peer_can_be_connected_to(many, lose, monkeypatch):
    """The shell says itself what is wrong, as on a plain alias."""
    ran = []
    monkeypatch.setattr("subprocess.run", lambda args, **kwargs: ran.append(args))
    lose(*PEERS)
    call_command("dbshell", database="many")
    assert ran == [["sqlite3", many.settings_dict["NAME"]]]


def test_inspectdb(many, capsys):
    """The tables of a peer."""
    call_command("inspectdb", "shop_shelf", database="many")
    assert "class ShopShelf(models.Model):" in capsys.readouterr().out


def test_migrate(tmp_path, capsys):
    """Tables are made on the peer that the command reached, which replicates them."""
    entry = {**sqlite("x"), "NAME": str(tmp_path / "new.sqlite3")}
    with aliases(new=entry, many=balanced("new")):
        call_command("migrate", database="many", run_syncdb=True, verbosity=0)
        assert "shop_book" in connections["many"].introspection.table_names()


def test_check(many):
    """``check --database`` asks the peers' engine."""
    call_command("check", databases=["many"])


# As a follower of a set


def test_as_a_follower(settings):
    """The router's reads go to a peer; where none is left, to the leader."""
    settings.REPLICAS = {"SETS": {"default": ["many"]}}
    with aliases(many=balanced(*PEERS)), unit_of_work():
        book = Book.objects.get(pk=1)
        assert book._state.db == "many"
        assert book.title == connections["many"].peer


def test_as_a_follower_without_a_peer(settings, lose):
    """Nobody fails: the leader has every row."""
    settings.REPLICAS = {"SETS": {"default": ["many"]}}
    lose(*PEERS)
    with aliases(many=balanced(*PEERS)), unit_of_work():
        assert Book.objects.get(pk=1).title == "default"


# Tests of projects that have such an alias


def test_its_test_database_is_the_first_peers(many):
    """Wherever the connection was before: else both would make it."""
    signature = connections["replica1"].creation.test_db_signature()
    while answering() == "replica1":
        pass
    assert many.creation.test_db_signature()[0] == signature[0]


def test_another_alias_makes_its_test_database(many):
    """As the first peer does that stands before it in ``DATABASES``: it keeps to that peer."""
    many.creation.set_as_test_mirror({"NAME": connections.settings["replica1"]["NAME"]})
    assert connections.settings["many"]["PEERS"] == ["replica1"]
    assert {answering() for _ in range(20)} == {"replica1"}


def test_a_mirror_has_all_its_peers():
    """They replicate the test database that it mirrors."""
    with aliases(many=balanced(*PEERS, TEST={"MIRROR": "default"})):
        name = connections.settings["default"]["NAME"]
        connections["many"].creation.set_as_test_mirror({"NAME": name})
        assert connections.settings["many"]["PEERS"] == list(PEERS)
        assert {answering() for _ in range(5)} == {"default"}


def test_a_copy_of_an_alias_tells_nobody_of_its_test_database(many):
    """Other threads go on with the alias itself."""
    before = connections.settings["many"]["NAME"]
    many.copy("many").creation._tell_of({"NAME": "elsewhere"})
    assert connections.settings["many"]["NAME"] == before
