"""``manage.py replicas``, as people and scripts call it."""

import io
import json
import os
import re
import subprocess
import sys
import time

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from django_replicas.exceptions import ReplicasConfigError
from django_replicas.outages import Outage
from django_replicas.peer_status import examine_peers
from django_replicas.peers import peers_of

from .peers import aliases, balanced
from .settings import sqlite

HEADER = "set      alias     role      alive  position  behind"


def said(*arguments, **options):
    """Call the command and return what it wrote."""
    out = io.StringIO()
    call_command("replicas", *arguments, stdout=out, **options)
    return out.getvalue()


class Terminal(io.StringIO):
    """What the command takes for a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def pauses(monkeypatch):
    """Have the command watch for two rounds; the second wait is a Ctrl-C."""
    waited = []

    def sleep(seconds):
        waited.append(seconds)
        if len(waited) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    return waited


def test_table():
    """Every set, one row for each alias."""
    lines = said().splitlines()
    assert lines[0] == HEADER
    assert [line.split()[-4 if "follower" not in line else 0] for line in lines[1:]] == [
        "default",
        "replica1",
        "replica2",
        "other",
        "other-0",
    ]


def test_no_sets(settings):
    """Without sets there is nothing to show, and it says so."""
    settings.REPLICAS = {}
    assert said().startswith('REPLICAS["SETS"] is empty')
    assert json.loads(said("--json")) == []


@pytest.mark.parametrize("alias", ["other", "other-0"])
def test_one_set(alias):
    """Any alias of a set names it."""
    statuses = json.loads(said("--json", "--database", alias))
    assert [each["alias"] for each in statuses] == ["other", "other-0"]


def test_alias_of_no_set():
    """An alias outside all sets is a mistake."""
    with pytest.raises(CommandError, match=r"'lonely' belongs to no set of REPLICAS\."):
        said("--database", "lonely")


def test_wrong_settings(settings):
    """Mistakes in REPLICAS end the command with the same words as everywhere."""
    settings.REPLICAS = {"SET": {}}
    with pytest.raises(CommandError, match=r'REPLICAS\["SET"\] is not a setting'):
        said()


def test_dead_follower(monkeypatch, tmp_path):
    """A dead follower is a row like any other, with the error below."""
    path = tmp_path / "gone" / "file"
    monkeypatch.setitem(connections.settings["replica1"], "NAME", str(path))
    assert said("--database", "default").splitlines()[-1] == f"replica1: there is no file {path}"
    assert not path.exists()


def test_colours():
    """A terminal shows life and death in colours, where it has them."""
    assert "\x1b[" in said(force_color=True)
    assert "\x1b[" not in said(no_color=True)


def test_watch_on_a_terminal(pauses):
    """The table is drawn over the one before, and Ctrl-C ends it like any command."""
    out = Terminal()
    call_command("replicas", "--watch", "0.5", stdout=out)
    screen = out.getvalue()
    assert pauses == [0.5, 0.5]
    assert screen.startswith("\x1b[2J\x1b[H\x1b[?7lEvery 0.5 s, last at ")
    assert screen.count("\x1b[H") == 2
    assert screen.endswith("\x1b[J\n")
    assert screen.count("\x1b[?7l") == screen.count("\x1b[?7h") == 2
    assert f"{HEADER}\x1b[K\n" in screen


def test_watch_into_a_file(pauses):
    """Elsewhere the tables follow each other."""
    text = said("--watch")
    assert pauses == [2, 2]
    assert text.count(HEADER) == 2
    assert "\x1b" not in text


def test_watch_by_somebody_who_has_seen_enough():
    """As `head` does; the command ends without a word."""
    command = [sys.executable, "-m", "django", "replicas", "--watch", "0.01"]
    settings = {"DJANGO_SETTINGS_MODULE": "tests.settings"}
    with subprocess.Popen(
        command, env={**os.environ, **settings}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as watching:
        assert watching.stdout.readline()
        watching.stdout.close()
        complaints = watching.stderr.read()
    assert (watching.returncode, complaints) == (0, b"")


def test_watch_as_json(pauses):
    """One line of JSON for each round."""
    out = Terminal()
    call_command("replicas", "--watch", "--json", stdout=out)
    rounds = [json.loads(line) for line in out.getvalue().splitlines() if line]
    assert [len(each) for each in rounds] == [5, 5]


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "often"])
def test_watch_needs_a_pause(seconds):
    """What is no pause is refused."""
    with pytest.raises(CommandError, match=f"'{seconds}' is not a number of seconds above 0"):
        said(f"--watch={seconds}")


def test_explain():
    """The verdicts of the routers, as text."""
    assert said("explain", "shop.Book").startswith("A read of shop.Book, now:\n")


@pytest.mark.parametrize("arguments", [["--json", "explain"], ["explain", "--json"]])
def test_explain_as_json(arguments):
    """``--json`` may stand before the word and after it."""
    assert json.loads(said(*arguments, "shop.book"))["model"] == "shop.Book"


@pytest.mark.parametrize("label", ["Book", "shop.Nothing", "nothing.Book"])
def test_explain_an_unknown_model(label):
    """What is no model is said to be none, with the form of one."""
    with pytest.raises(CommandError, match=f"'{label}' is no installed model; name one as app"):
        said("explain", label)


def test_peers(tmp_path):
    """Below the sets: each alias with peers, who of them is alive, and what this process met."""
    gone = {**sqlite("gone"), "NAME": str(tmp_path / "gone.sqlite3")}
    with aliases(gone=gone, many=balanced("replica1", "gone")):
        peers_of("many").could_not_be_opened("gone", Outage.UNREACHABLE, OSError("no such thing"))
        text = said()
        rows = json.loads(said("--json"))[-2:]
        assert not peers_of("many").is_up("gone")
    _, _, table = text.partition("alias  peer")
    assert re.search(r"^many   replica1  yes$", table, re.MULTILINE)
    assert re.search(r"^many   gone      no     \d\d:\d\d:\d\d$", table, re.MULTILINE)
    assert f"gone: there is no file {gone['NAME']}" in table
    assert [(row["role"], row["of"], row["alias"], row["alive"]) for row in rows] == [
        ("peer", "many", "replica1", True),
        ("peer", "many", "gone", False),
    ]
    assert rows[0]["down_until"] is None
    assert rows[1]["down_until"].endswith("+00:00")


def test_peers_of_one_set(settings, tmp_path):
    """With ``--database`` only those of its members are shown; a member is alive if a peer is."""
    settings.REPLICAS = {"SETS": {"default": ["many"]}}
    gone = {**sqlite("gone"), "NAME": str(tmp_path / "gone.sqlite3")}
    with aliases(gone=gone, many=balanced("gone", "replica1"), few=balanced("lonely")):
        text = said("--database=many")
        assert "few" not in text
        assert re.search(r"many +follower +yes", text)
        assert re.search(r"few +lonely", said())


def test_peers_without_sets(settings):
    """They need none."""
    settings.REPLICAS = {}
    with aliases(many=balanced("replica1")):
        assert said().startswith('REPLICAS["SETS"] is empty')
        assert re.search(r"many +replica1 +yes", said())


def test_an_alias_without_peers():
    """It cannot be examined as if it had some."""
    with pytest.raises(ReplicasConfigError, match="'default' has no peers"):
        examine_peers(["default"])
