"""The system checks that connect: to servers that run, that are dead, and that do not answer."""

import re
import threading
from urllib.parse import quote

import pytest
from django.core.management import call_command
from django.db import connections

from django_replicas.checks import check_servers, servers
from django_replicas.checks.messages import CHECKS_PAGE
from servers.postgres import Cluster

from .projects import check

ALL = ["default", "replica1", "replica2"]


@pytest.fixture(scope="module")
def cluster():
    with Cluster(standbys=2) as cluster:
        yield cluster


@pytest.fixture
def members(cluster):
    """The servers by alias, all of them running."""
    running = dict(zip(ALL, [cluster.leader, *cluster.followers], strict=True))
    for server in running.values():
        server.start()
    yield running
    for server in running.values():
        server.thaw()


def entry(server, **own):
    return {**server.django_database(), "TEST": {"MIRROR": "default"}, **own}


@pytest.fixture
def in_place(members, databases_are):
    """Have the cluster behind the aliases of these tests."""
    databases_are(**{alias: entry(server) for alias, server in members.items()})
    return members


def found(databases):
    """Return the ids and aliases of what the checks of these databases tell."""
    pattern = re.compile(r"(?:leader|follower) '([\w-]+)'")
    return [
        (each.id.removeprefix("django_replicas."), pattern.search(each.msg)[1])
        for each in check_servers(databases=databases)
    ]


# Servers that run


def test_a_cluster_that_is_right(in_place):
    """A leader that writes and followers that follow it need no words."""
    assert found(ALL) == []


def test_the_connections_of_the_project_are_left_alone(in_place):
    """The checks ask on connections of their own, and close them."""
    check_servers(databases=ALL)
    assert [connections[alias].connection for alias in ALL] == [None, None, None]


def test_leader_and_follower_exchanged(members, databases_are):
    """Each is told what it is not: the one takes writes, the other takes none."""
    databases_are(
        default=entry(members["replica1"]),
        replica1=entry(members["default"]),
        replica2=entry(members["replica2"]),
    )
    assert found(ALL) == [("W014", "default"), ("W013", "replica1")]


def test_only_the_databases_asked_for_are_asked(members, databases_are):
    """Neither the leader of a follower nor its fellows are met beside it."""
    databases_are(
        default=entry(members["replica1"]),
        replica1=entry(members["default"]),
        replica2=entry(members["replica2"]),
    )
    assert found(["default"]) == [("W014", "default")]
    assert found(["replica1"]) == [("W013", "replica1")]
    assert found(["replica2", "lonely"]) == []
    assert found([]) == []
    assert found(None) == []


def test_nothing_is_asked_while_routing_is_disabled(members, databases_are, settings):
    """With ``ENABLED`` off it does not matter what a follower is."""
    databases_are(replica1=entry(members["default"]))
    settings.REPLICAS = {**settings.REPLICAS, "ENABLED": False}
    assert check_servers(databases=["replica1"]) == []


def test_a_follower_that_is_read_only_for_us(members, databases_are):
    """Who replicates logically is not in recovery, and may still refuse writes."""
    options = {"connect_timeout": 2, "options": "-c default_transaction_read_only=on"}
    databases_are(
        default=entry(members["replica1"]), replica1=entry(members["default"], OPTIONS=options)
    )
    assert found(["replica1"]) == []


def test_a_follower_that_is_its_leader(members, databases_are):
    """In tests and at home there is one server, and everybody knows it."""
    databases_are(default=entry(members["default"]), replica1=entry(members["default"]))
    assert found(["default", "replica1"]) == []


def test_databases_are_asked_when_they_are_named(in_place, databases_are, capsys):
    """As all checks that connect; ``check`` alone asks no server."""
    databases_are(default=entry(in_place["replica1"]))
    call_command("check")
    assert "django_replicas" not in capsys.readouterr().err
    call_command("check", databases=["default"])
    assert "django_replicas.W014" in capsys.readouterr().err


# Servers that do not


def test_a_leader_that_is_down(in_place):
    """It is reported like a follower, while these are asked all the same."""
    in_place["default"].kill()
    assert check_ids(ALL) == ["W012"]


def check_ids(databases):
    return [each.id.removeprefix("django_replicas.") for each in check_servers(databases=databases)]


def test_what_the_driver_says_is_told(in_place):
    """One line of it, without a word of the password."""
    in_place["replica1"].kill()
    (message,) = check_servers(databases=["replica1"])
    assert message.msg.startswith("The follower 'replica1' cannot be reached: ")
    assert "refused" in message.msg
    assert "\n" not in message.msg
    assert connections.settings["replica1"]["PASSWORD"] not in message.msg


def test_pools_are_passed_by(members, databases_are):
    """A pool would go on trying for half a minute; one attempt is made without it."""
    members["replica1"].kill()
    options = {"connect_timeout": 2, "pool": True}
    databases_are(replica1=entry(members["replica1"], OPTIONS=options))
    (message,) = check_servers(databases=["replica1"])
    assert "refused" in message.msg


@pytest.mark.parametrize("end", ["kill", "freeze"])
def test_the_command_with_every_follower_dead(members, tmp_path, end):
    """``check --database`` reports each of them and succeeds, whether they refuse or are silent."""
    for alias in ("replica1", "replica2"):
        getattr(members[alias], end)()
    entries = {alias: entry(server) for alias, server in members.items()}
    changes = f'DATABASES = {entries!r}\nREPLICAS = {{"SETS": {{"default": {ALL[1:]}}}}}\n'
    assert check(tmp_path, changes).ids == []
    checked = check(tmp_path, changes, databases=ALL)
    assert (checked.succeeded, checked.ids) == (True, ["W012", "W012"]), checked.text
    assert f"{CHECKS_PAGE}#django-replicas-w012" in checked.text


def test_a_silent_server_without_a_limit(members, databases_are, monkeypatch):
    """Where the settings set none, the check brings its own."""
    members["replica1"].freeze()
    monkeypatch.setattr(servers, "SECONDS_TO_CONNECT", 2)
    databases_are(replica1=entry(members["replica1"], OPTIONS={}))
    (message,) = check_servers(databases=["replica1"])
    assert message.id == "django_replicas.W012"
    assert "no answer within" not in message.msg


SILENT = """
import threading
from django.db.backends.sqlite3 import base

may_answer = threading.Event()
answered = threading.Event()


class DatabaseWrapper(base.DatabaseWrapper):
    def connect(self):
        may_answer.wait()
        super().connect()

    def close(self):
        super().close()
        answered.set()
"""


def test_a_server_that_takes_the_connection_and_no_more(tmp_path, databases_are, monkeypatch):
    """Nobody waits for ever, not even for a proxy that knows no time limit."""
    (tmp_path / "silent").mkdir()
    (tmp_path / "silent" / "base.py").write_text(SILENT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(servers, "SECONDS_TO_ANSWER", 0.1)
    (tmp_path / "file").touch()
    databases_are(
        replica1={
            "ENGINE": "silent",
            "NAME": tmp_path / "file",
            "HOST": "one,two",
            "OPTIONS": {"connect_timeout": 0.1},
            "TEST": {"MIRROR": "default"},
        }
    )
    assert [each.msg for each in check_servers(databases=["replica1"])] == [
        "The follower 'replica1' cannot be reached: no answer within 0.3 seconds"
    ]
    let_go(connections["replica1"])


def let_go(connection):
    """Let the thread that waits for the silent engine end."""
    engine = __import__(type(connection).__module__, fromlist=["may_answer"])
    engine.may_answer.set()
    assert engine.answered.wait(30)
    for thread in threading.enumerate():
        if "replica1" in thread.name:
            thread.join(30)


ANOTHER = """
from django.db.backends.sqlite3 import base


class DatabaseWrapper(base.DatabaseWrapper):
    vendor = "another"
"""


def test_a_vendor_that_cannot_be_asked(tmp_path, databases_are, monkeypatch):
    """It is enough that it can be reached."""
    (tmp_path / "another").mkdir()
    (tmp_path / "another" / "base.py").write_text(ANOTHER)
    monkeypatch.syspath_prepend(tmp_path)
    databases_are(replica1={**sqlite(tmp_path / "file"), "ENGINE": "another"})
    assert found(ALL) == []
    databases_are(replica1={**sqlite(tmp_path / "gone" / "file"), "ENGINE": "another"})
    assert found(ALL) == [("W012", "replica1")]


# SQLite


def sqlite(path):
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        "TEST": {"MIRROR": "default"},
    }


def test_files_that_are_there():
    """Who can open the file can read it; nothing is asked about leaders."""
    assert found(ALL) == []


@pytest.mark.parametrize("path", ["gone", "gone/file"])
def test_files_that_are_gone(tmp_path, databases_are, path):
    """A follower without a file is reported, and does not get an empty one by that."""
    databases_are(replica1=sqlite(tmp_path / path))
    assert found(ALL) == [("W012", "replica1")]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("query", ["", "?mode=rwc", "?cache=shared"])
def test_files_that_are_named_by_address(tmp_path, databases_are, query):
    """As those that are named by path: there, or gone and left so."""
    connection = connections["replica1"]
    databases_are(replica1=sqlite(f"file:{connection.settings_dict['NAME']}{query}"))
    assert found(ALL) == []
    databases_are(replica1=sqlite(f"file:{quote(str(tmp_path / 'a gone one'))}{query}"))
    assert found(ALL) == [("W012", "replica1")]
    assert list(tmp_path.iterdir()) == []


def test_a_leader_without_a_file(tmp_path, databases_are):
    """The first ``migrate`` of a project makes it, and needs no warning of that."""
    databases_are(default=sqlite(tmp_path / "new"))
    assert found(ALL) == []
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_cannot_be_opened(tmp_path, databases_are):
    """It is there, and SQLite says what is wrong with it."""
    databases_are(replica1=sqlite(tmp_path))
    assert found(ALL) == [("W012", "replica1")]


def test_a_database_in_memory_needs_no_file(databases_are):
    """None of the ways to name one looks like a path."""
    databases_are(replica1=sqlite(":memory:"), replica2=sqlite("file:x?mode=memory&cache=shared"))
    assert found(ALL) == []
    databases_are(replica1=sqlite("file::memory:?cache=shared"))
    assert found(ALL) == []


def test_the_command_with_every_file_gone(tmp_path):
    """``check --database`` reports the follower that has no file, and succeeds."""
    path = tmp_path / "gone" / "follower"
    changes = f"""
for alias in DATABASES:
    DATABASES[alias].update(ENGINE="django.db.backends.sqlite3", NAME={str(path)!r}, OPTIONS={{}})
"""
    checked = check(tmp_path, changes, databases=["replica1"])
    assert (checked.succeeded, checked.ids) == (True, ["W012"]), checked.text
