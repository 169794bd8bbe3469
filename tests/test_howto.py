"""What the pages of ``docs/howto`` show is done here, and comes out as they say."""

import json
import logging
import re
import sys
from io import StringIO

import pymysql
import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import connections, transaction
from django.http import HttpResponse
from django.test import Client, RequestFactory

from django_replicas import leader, unit_of_work
from django_replicas.checks import check_databases
from django_replicas.middleware import ReplicasMiddleware
from django_replicas.reasons import Reason
from django_replicas.scopes import current_unit

from .pages import ROOT, blocks_of, python_of, text_of
from .shop.models import Book, Shelf

FOLLOWERS = {"replica1", "replica2"}


def defined_by(code, **names):
    exec(code, names)
    return names


def title():
    return Book.objects.get(pk=1).title


# Several sets


@pytest.fixture
def by_app(settings):
    """The delegate of the page, with the archive being the books' other set."""
    code = python_of("howto/several-sets")[0]
    for there, here in {'label == "archive"': 'label == "shop"', '"archive"': '"other"'}.items():
        code = code.replace(there, here)
    delegate = defined_by(code)["ByApp"]()
    settings.REPLICAS = {**settings.REPLICAS, "DELEGATE_ROUTERS": [delegate]}
    return delegate


def test_each_set_for_itself(by_app):
    """Who wrote to one set reads on from the follower of the other."""
    with unit_of_work():
        assert title() == "other-0"
        assert Group.objects.all().db in FOLLOWERS
        Group.objects.create(name="readers")
        assert Group.objects.all().db == "default"
        assert title() == "other-0"
        Book.objects.filter(pk=1).update(note="written")
        assert title() == "other"


def test_the_delegate_says_what_is_migrated_where(by_app):
    """Its followers are left alone whatever it says."""
    from django.db import router  # noqa: PLC0415 - as it is with these settings

    places = ["default", "replica1", "other", "other-0"]
    assert [each for each in places if router.allow_migrate(each, "shop")] == ["other"]
    assert [each for each in places if router.allow_migrate(each, "auth")] == ["default"]


# Rolling out


def test_marks_travel_before_anybody_reads_a_follower(settings):
    """With an empty set the leader answers, and who wrote is marked when there are followers."""
    writer, stranger = Client(), Client()
    settings.REPLICAS = {"SETS": {"default": []}}
    assert set(writer.get("/sync/title").json()) == {"default"}
    writer.post("/sync/books/one")
    assert "replicas_mark" in writer.cookies
    settings.REPLICAS = {"SETS": {"default": ["replica1", "replica2"]}}
    assert set(writer.get("/sync/title").json()) == {"default"}
    assert set(stranger.get("/sync/title").json()) <= FOLLOWERS


def test_what_would_go_to_followers_is_known_by_its_reason(settings):
    """As the page has it for the step before."""
    settings.REPLICAS = {"SETS": {"default": []}}
    with unit_of_work():
        title()
        assert set(current_unit().counts) == {("default", Reason.NO_FOLLOWER)}


def test_switched_off_nothing_is_marked(settings):
    """All goes to the leader."""
    settings.REPLICAS = {"SETS": {"default": ["replica1", "replica2"]}, "ENABLED": False}
    client = Client()
    client.post("/sync/books/one")
    assert "replicas_mark" not in client.cookies
    assert set(client.get("/sync/title").json()) == {"default"}


@pytest.mark.parametrize(("value", "followers"), [("", []), ("1", ["replica1", "replica2"])])
def test_one_host_in_ten(monkeypatch, value, followers):
    """The environment says whether there are any."""
    monkeypatch.setenv("READ_FOLLOWERS", value)
    code = next(code for code in python_of("howto/rolling-out") if "READ_FOLLOWERS" in code)
    assert defined_by(code)["REPLICAS"]["SETS"] == {"default": followers}


# Reading a trace


@pytest.fixture
def trace_of(settings, caplog):
    """Return what the middleware of the page logs of a view, the follower being the first one."""
    settings.REPLICAS = {"SETS": {"default": ["replica1"]}, "TRACE": True}
    code = next(code for code in python_of("howto/reading-a-trace") if "log_trace" in code)
    middleware = defined_by(code)["log_trace"]

    def trace(view, **cookies):
        def respond(request):
            view()
            return HttpResponse()

        request = RequestFactory().get("/")
        request.COOKIES.update(cookies)
        with caplog.at_level(logging.INFO, logger="trace"):
            caplog.clear()
            response = ReplicasMiddleware(middleware(respond))(request)
        return "".join(f"{line}\n" for line in caplog.messages), response

    return trace


def traces():
    return [block.code for block in blocks_of("howto/reading-a-trace") if block.language == "text"]


def read_shelf():
    return Shelf.objects.get(pk=1).name


def test_a_page_that_begins_well(trace_of):
    """It writes, and reads its leader from there on; not so in a block of the leader's."""

    def view():
        title()
        Book.objects.filter(pk=1).update(note="seen once more")
        title()
        read_shelf()

    def mended():
        title()
        with leader("default"):
            Book.objects.filter(pk=1).update(note="seen once more")
        title()

    assert trace_of(view)[0] == traces()[0]
    assert set(trace_of(mended)[0].splitlines()) == {traces()[0].splitlines()[0]}


def test_a_page_that_never_was_on_a_follower(trace_of):
    """For a transaction around it, or a write before it."""

    def in_a_transaction():
        with transaction.atomic():
            title()
            read_shelf()

    def writes():
        Book.objects.filter(pk=1).update(note="written")

    assert trace_of(in_a_transaction)[0] == traces()[1]
    _, response = trace_of(writes)
    cookie = response.cookies["replicas_mark"].value
    assert trace_of(title, replicas_mark=cookie)[0] == traces()[2]
    assert "replicas_mark" not in trace_of(title)[1].cookies


def test_one_read_among_many(trace_of):
    """An object of the leader's was kept from before."""
    kept = Book.objects.get(pk=1)

    def view():
        title()
        assert kept.shelf.name == "default"
        title()

    assert trace_of(view)[0] == traces()[3]


# Planned work


NONE_LOST, LEADER_LOST, ONE_LOST, BOTH_LOST = (
    (),
    ("default",),
    ("replica1",),
    ("replica1", "replica2"),
)


@pytest.mark.parametrize(
    ("lost", "level"), [(NONE_LOST, 0), (ONE_LOST, 1), (BOTH_LOST, 2), (LEADER_LOST, 2)]
)
def test_how_bad_it_is(lost, level, monkeypatch, tmp_path):
    """What the command tells of lost servers is read as the page says."""
    for alias in lost:
        monkeypatch.setitem(connections.settings[alias], "NAME", str(tmp_path / "gone" / "file"))
    out = StringIO()
    call_command("replicas", "--json", stdout=out)
    assert how_bad(json.loads(out.getvalue())) == level


@pytest.mark.parametrize("key", ["lags", "note"])
def test_a_follower_that_is_not_as_it_should_be(key):
    """It counts as one that is lost."""
    out = StringIO()
    call_command("replicas", "--json", "--database", "default", stdout=out)
    rows = json.loads(out.getvalue())
    rows[1][key] = "it is too far behind"
    assert how_bad(rows) == 1


def how_bad(rows):
    code = next(code for code in python_of("howto/planned-work") if "how_bad" in code)
    return defined_by(code, __name__="alarm")["how_bad"](rows)


RECORD = re.compile(r"\*([^*\n]+)\*")


def test_records_are_worded_as_they_are_logged():
    """Those that the page tells what to do about."""
    logged = " ".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    logged = re.sub(r'"\s+"', "", logged).replace("%r", "%")
    _, table = text_of("howto/planned-work").split("Records of the logger")
    records = RECORD.findall(table.split("Of the signals")[0].replace("   * -", ""))
    assert len(records) == 12
    for record in records:
        worded = re.sub(r"'[^']+'", "%", record).replace("is given up", "is %s")
        for part in filter(None, (each.strip() for each in worded.split("…"))):
            assert part in logged, part


# Settings


@pytest.mark.parametrize("page", ["managed-postgresql", "patroni", "mariadb", "pgbouncer", "asgi"])
def test_nothing_is_wrong_with_the_databases_shown(page, settings, monkeypatch, databases_are):
    """No check of ours has anything to say."""
    monkeypatch.setitem(sys.modules, "MySQLdb", pymysql)
    for code in python_of(f"howto/{page}"):
        shown = defined_by(code) if "DATABASES" in code else {}
        if not shown:
            continue
        databases_are(**shown["DATABASES"])
        followers = [alias for alias in shown["DATABASES"] if alias != "default"]
        settings.REPLICAS = shown.get("REPLICAS", {"SETS": {"default": followers}})
        assert check_databases() == []
