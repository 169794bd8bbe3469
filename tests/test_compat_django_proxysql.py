"""A project that django-proxysql's README configures, with another dotted path.

Its entry for `default` is the one of the page about moving over. The peers are SQLite files, whose
rows tell which one answered; `test_balanced_mariadb` has the engine over real servers.
"""

import json
import shutil
import time
from importlib import import_module
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connections

from django_replicas.backends.balanced.base import DatabaseWrapper
from django_replicas.checks import check_peers
from django_replicas.exceptions import NoPeerError
from django_replicas.own_connections import seconds_to_connect
from django_replicas.peers import has_peers, peers_of
from servers.waiting import wait_until

from .pages import python_of
from .peers import aliases, balanced
from .projects import begun
from .settings import sqlite
from .shop.models import Book

COMPAT = "django_replicas.compat.django_proxysql"
BLOCKS = python_of("moving/django_proxysql")


def entries_of(*blocks):
    """Return the entries of ``DATABASES`` that these blocks of the page make."""
    defined = {}
    for block in blocks:
        exec(block, defined)
    return defined["DATABASES"]


@pytest.fixture
def files(tmp_path):
    """Two databases, each with a row that tells its name."""
    return {
        peer: sqlite(original) | {"NAME": shutil.copy(sqlite(original)["NAME"], tmp_path / peer)}
        for peer, original in {"peer0": "replica1", "peer1": "replica2"}.items()
    }


@pytest.fixture(params=[1, 2], ids=["compat", "without compat"])
def project(request, files):
    """What the page says, at first and in the end, as the alias `many`."""
    with aliases(**files, many=entries_of(*BLOCKS[: request.param])["default"]):
        yield connections["many"]


def answering():
    connections["many"].close()
    return Book.objects.using("many").get(pk=1).title


def leave(peer, files):
    """Let a peer be gone, and return what brings it back."""
    place = Path(files[peer]["NAME"])
    away = place.rename(f"{place}-away")
    place.mkdir()
    return lambda: place.rmdir() or away.rename(place)


def meet(peer):
    while peers_of("many").is_up(peer):
        answering()


# The README


def test_randomly_distributed(project):
    """ "connections will be randomly distributed to the peers"."""
    assert {answering() for _ in range(40)} == {"replica1", "replica2"}


def test_failure_is_transparent(project, files):
    """ "Failure of a peer is transparent to Django"."""
    leave("peer0", files)
    meet("peer0")
    assert {answering() for _ in range(10)} == {"replica2"}


def test_maintenance(project, files):
    """"PROXYSQL PAUSE [...] will start refusing new clients, but allow running queries to complete.
    django-proxysql will detect the "failure" of the node and stop attempting to connect to it".
    """  # fmt: skip
    while answering() != "replica1":
        pass
    leave("peer0", files)
    assert Book.objects.using("many").get(pk=1).title == "replica1"
    meet("peer0")
    assert {answering() for _ in range(10)} == {"replica2"}
    assert not peers_of("many").is_up("peer0")


def test_recovery(files):
    """ "Failed peers will recover after the configured CHECK_INTERVAL"."""
    entry = entries_of(BLOCKS[0])["default"] | {"CHECK_INTERVAL": 0.05}
    with aliases(**files, many=entry):
        back = leave("peer0", files)
        meet("peer0")
        back()
        wait_until(lambda: answering() == "replica1", "the peer is taken back")


@pytest.mark.parametrize(("given", "seconds"), [({}, 30), ({"CHECK_INTERVAL": 7}, 7)])
def test_check_interval(given, seconds, files):
    """``'CHECK_INTERVAL': 30``, which is what it is where it is not given, too."""
    with aliases(
        **files, many={"ENGINE": f"{COMPAT}.backends.proxysql", "PEERS": [*files]} | given
    ):
        answering()
        assert connections["many"].state.check_interval == seconds
        assert peers_of("many").check_interval == seconds


def test_peers_of_mysql():
    """``'PORT': 6033``: the entry is one of MySQL, and the checks ask for a time limit."""
    pytest.importorskip("pymysql").install_as_MySQLdb()
    with aliases(**entries_of(BLOCKS[0])):
        assert connections.create_connection("default").vendor == "mysql"
        assert [each.id for each in check_peers()] == ["django_replicas.W021"] * 2


def test_migrations_need_one_peer(tmp_path):
    """ "all peers must be online in order for migrations to succeed" is better here: one will do.

    The project is the README's, in a process of its own.
    """
    settings = BLOCKS[0] + PROJECT.format(folder=str(tmp_path))
    assert begun(tmp_path, settings, BEGIN) == "peer0 True\n"


PROJECT = """
DATABASES["peer0"] = {{"ENGINE": "django.db.backends.sqlite3", "NAME": {folder!r} + "/here"}}
DATABASES["peer1"] = {{"ENGINE": "django.db.backends.sqlite3", "NAME": {folder!r} + "/no/where"}}
SECRET_KEY = "not a secret"
INSTALLED_APPS = ["django.contrib.contenttypes"]
"""
BEGIN = """
import logging

import django
from django.core.management import call_command
from django.db import connections

django.setup()
# Of the peer that is away it is told, where that comes first.
logging.getLogger("django_replicas").addHandler(logging.NullHandler())
call_command("migrate", verbosity=0)
from django.contrib.contenttypes.models import ContentType

connections.close_all()
print(ContentType.objects.count() and connections["default"].peer, end=" ")
print(ContentType.objects.using("peer0").exists())
connections.close_all()
"""


# The names


def test_what_they_lead_to():
    """The engine is ours, and what it says goes where ours says it."""
    engine = import_module(f"{COMPAT}.backends.proxysql.base")
    assert issubclass(engine.DatabaseWrapper, DatabaseWrapper)
    assert engine.CHECK_INTERVAL == 30
    assert engine.LOGGER.name == "django_replicas"


@pytest.fixture
def state(files):
    with aliases(**files, many=entries_of(BLOCKS[0])["default"]):
        yield connections["many"].state


def test_state(state, files):
    """`connection.state` tells, and changes, what this process knows of the peers."""
    assert isinstance(state, import_module(f"{COMPAT}.backends.proxysql.base").PeerState)
    assert (state.peers, state.peers_up, state.peers_down) == ({*files}, {*files}, {})
    now = time.time()
    state.mark_peer_down("peer0")
    assert (state.peers_up, [*state.peers_down]) == ({"peer1"}, ["peer0"])
    assert now + 29 < state.peers_down["peer0"] <= time.time() + 30
    assert [*state.get_peers()] == ["peer1", "peer0"]
    assert {answering() for _ in range(10)} == {"replica2"}
    state.mark_peer_up("peer0")
    assert state.peers_up == {*files}


def test_reset(state, files):
    """All are taken for alive again."""
    for peer in files:
        state.mark_peer_down(peer)
    state.reset()
    assert (state.peers_up, state.peers_down) == ({*files}, {})


def test_state_of_the_class(files):
    """`DatabaseWrapper.state`, which all aliases had in common, is that of the only one."""
    wrapper = import_module(f"{COMPAT}.backends.proxysql.base").DatabaseWrapper
    entry = entries_of(BLOCKS[0])["default"]
    with aliases(**files, many=entry):
        wrapper.state.mark_peer_down("peer0")
        assert connections["many"].state.peers_up == {"peer1"}
        wrapper.state.reset()
        assert connections["many"].state.peers_up == {*files}
    with aliases(**files, many=entry, more=entry):
        with pytest.raises(AttributeError, match=r"there are 2 \(many, more\)\. Ask connections"):
            _ = wrapper.state
        assert connections["more"].state.peers == {*files}


def test_all_down(project, files):
    """`except DatabaseError` goes on to catch it."""
    for peer in files:
        leave(peer, files)
    with pytest.raises(DatabaseError, match="No peer of 'many' can be connected to") as raised:
        answering()
    assert isinstance(raised.value, NoPeerError)


# An engine that extends ours is known as one with peers


def test_the_command(project):
    """`manage.py replicas` shows the peers."""
    out = StringIO()
    call_command("replicas", "--json", stdout=out)
    shown = [each for each in json.loads(out.getvalue()) if each.get("of") == "many"]
    assert [(each["alias"], each["alive"]) for each in shown] == [("peer0", True), ("peer1", True)]


def test_no_peer_has_peers(project):
    """One is told from the other, whichever of them extends which."""
    with aliases(**connections.settings, more=balanced("many")):
        assert [each.msg for each in check_peers()] == [
            "DATABASES['more'][\"PEERS\"] names 'many', which has peers itself. Name those instead."
        ]
        assert (has_peers("more"), has_peers("many"), has_peers("peer0")) == (True, True, False)
        assert seconds_to_connect("many", 10) == 20


def test_an_engine_that_cannot_be_imported():
    """It has no peers, as far as one can tell."""
    with aliases(one={"ENGINE": "no.such.engine"}):
        assert not has_peers("one")
        assert peers_of("one") is None
