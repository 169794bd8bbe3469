"""What the pages of ``docs/howto`` show is done here, and comes out as they say."""

import logging
import sys

import pymysql
import pytest
from django.contrib.auth.models import Group
from django.db import connections, transaction
from django.http import HttpResponse
from django.test import Client, RequestFactory

from django_replicas import leader, unit_of_work
from django_replicas.checks import check_databases
from django_replicas.middleware import ReplicasMiddleware
from django_replicas.reasons import Reason
from django_replicas.units import current_unit

from .pages import blocks_of, python_of
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


# Settings


@pytest.mark.parametrize("page", ["managed-postgresql", "patroni", "mariadb", "pgbouncer", "asgi"])
def test_nothing_is_wrong_with_the_databases_shown(page, settings, monkeypatch):
    """No check of ours has anything to say."""
    monkeypatch.setitem(sys.modules, "MySQLdb", pymysql)
    for code in python_of(f"howto/{page}"):
        shown = defined_by(code) if "DATABASES" in code else {}
        if not shown:
            continue
        configured = connections.configure_settings(shown["DATABASES"])
        for alias, entry in configured.items():
            monkeypatch.setitem(connections.settings, alias, entry)
        followers = [alias for alias in configured if alias != "default"]
        settings.REPLICAS = shown.get("REPLICAS", {"SETS": {"default": followers}})
        for each in configured:
            monkeypatch.delattr(connections._connections, each, raising=False)
        assert check_databases() == []
