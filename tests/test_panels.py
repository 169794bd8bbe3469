"""The panel, through the toolbar's own middleware and views, WSGI and ASGI."""

import re
import time

import pytest
from asgiref.sync import async_to_sync
from django.core.checks.registry import registry
from django.db import connections
from django.template.loader import render_to_string
from django.test import AsyncClient, Client
from django.urls import clear_url_caches
from django.utils.module_loading import import_string

from django_replicas import unit_of_work
from django_replicas.conf import get_config
from django_replicas.followers import followers_of
from django_replicas.marking import take_marks
from django_replicas.marks import Mark
from django_replicas.pinning import UnitOfWork
from django_replicas.positions import WalPosition
from django_replicas.scopes import current_unit
from django_replicas.units import Unit

from .shop.models import Book, Shelf

OURS = "django_replicas.middleware.ReplicasMiddleware"
THEIRS = "debug_toolbar.middleware.DebugToolbarMiddleware"


def shown_to_all(request):
    return True


# The toolbar can only be imported once it is installed, so it is when a test asks for it.


def of_the_panel(name):
    return import_string(f"django_replicas.panels.{name}")


def the_toolbar():
    return import_string("debug_toolbar.toolbar.DebugToolbar")


def the_store():
    return import_string("debug_toolbar.store.get_store")()


@pytest.fixture(autouse=True)
def toolbar(settings):
    """Have the toolbar, with our panel alone, on every page."""
    checks = set(registry.registered_checks)
    settings.STATIC_URL = "static/"
    # First: where its settings were imported before, they import its models as they change.
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "debug_toolbar"]
    settings.MIDDLEWARE = [OURS, THEIRS]
    settings.DEBUG_TOOLBAR_CONFIG = {"SHOW_TOOLBAR_CALLBACK": f"{__name__}.shown_to_all"}
    settings.DEBUG_TOOLBAR_PANELS = ["django_replicas.panels.ReplicasPanel"]
    settings.ROOT_URLCONF = "tests.toolbar_urls"
    settings.TEMPLATES = [
        {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}
    ]
    clear_url_caches()
    the_toolbar()._panel_classes = None
    # The toolbar registers checks that fail where it is not installed.
    registry.registered_checks = checks
    yield
    the_toolbar()._panel_classes = None
    the_store().clear()


@pytest.fixture(params=["wsgi", "asgi"])
def visit(request):
    """Visit a page through one of the project's two doors."""
    client = Client() if request.param == "wsgi" else AsyncClient()

    def visit(path, method="get"):
        go = getattr(client, method)
        response = go(path) if request.param == "wsgi" else async_to_sync(go)(path)
        assert response.status_code == 200
        return response.content.decode()

    return visit


def panel():
    """Fetch the latest request's panel from the toolbar's store, as its pages do."""
    (request_id,) = list(the_store().request_ids())[-1:]
    return the_toolbar().fetch(request_id).get_panel_by_id("ReplicasPanel")


def shown():
    """Return the panel's text, as a browser's user reads it."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", str(panel().content))).strip()


@pytest.mark.parametrize("path", ["read", "read-async"])
def test_reads(visit, path):
    """The panel counts reads by alias and reason, under both kinds of server."""
    content = visit(f"/{path}?times=1")
    alias = re.search(r"replica\d", content)[0]
    assert "ReplicasPanel" in content
    assert "1 of 1 reads by followers" in content
    assert f"1 {alias} follower the unit" in shown()
    assert "Role: follower . Followers answered 1 of 1 read." in shown()
    assert "The request came without marks, and its response carries none." in shown()


def test_panel_page(visit):
    """The toolbar's own view serves the panel from the template inside the package."""
    visit("/read")
    (request_id,) = list(the_store().request_ids())[-1:]
    answer = Client().get(
        "/__debug__/render_panel/", {"request_id": request_id, "panel_id": "ReplicasPanel"}
    )
    assert "Followers answered" in answer.json()["content"]


@pytest.mark.parametrize("path", ["write", "write-async"])
def test_writes_and_marks(visit, path):
    """A request that writes shows its set as written, and the mark that goes out."""
    visit(f"/{path}", "post")
    text = shown()
    assert "1 default leader inside a transaction on the leader" in text
    assert "default none was needed yes no" in text
    assert re.search(r"out, with the response default 1[45]\.\d s more", text)
    assert "in, with the request" not in text


def test_mark_that_came_in(visit):
    """The user's next request shows the mark that it came with."""
    visit("/write", "post")
    visit("/read")
    assert re.search(r"in, with the request default 1\d\.\d s more", shown())
    assert "3 default leader an earlier unit wrote" in shown()
    assert "out, with the response" not in shown()


def test_trace(visit, traced):
    """With a trace, each read stands in its order."""
    visit("/read?times=2")
    alias = re.search(r"replica\d", shown())[0]
    assert f"1 shop.book {alias} the unit&#x27;s follower 2 shop.book {alias}" in shown()


def test_long_trace(visit, traced):
    """A long trace is cut, and says so."""
    longest = of_the_panel("LONGEST_TRACE")
    visit(f"/read?times={longest + 2}")
    assert f"{longest} shop.book" in shown()
    assert f"{longest + 1} shop.book" not in shown()
    assert "2 more reads not shown." in shown()


def test_no_reads(visit, traced):
    """A page that read nothing says so."""
    visit("/nothing")
    assert "Followers answered 0 of 0 reads." in shown()
    assert "Nothing was read." in shown()


def test_trace_that_is_off(visit):
    """Without a trace the panel says how to have one."""
    visit("/read")
    assert 'Set REPLICAS["TRACE"] to True to see each read in its order.' in shown()


def test_followers_left_alone(visit, monkeypatch, tmp_path):
    """What this process knows to be down stands in the panel."""
    monkeypatch.setitem(connections.settings["replica1"], "NAME", str(tmp_path / "gone" / "file"))
    followers_of(get_config().topology.by_leader["default"]).choose("replica1")
    visit("/read")
    assert re.search(r"replica1 default \d+\.\d s more", shown())
    assert "default replica2 no no" in shown()


def test_no_follower_left(visit, settings):
    """A set whose followers were all asked in vain says so."""
    settings.REPLICAS = {"SETS": {"default": []}}
    visit("/read")
    assert "3 default leader no follower left" in shown()
    assert "default none was left no no" in shown()


@pytest.mark.parametrize("middleware", [[THEIRS], [THEIRS, OURS]])
def test_no_unit_around_the_toolbar(visit, settings, middleware):
    """Where the toolbar stands outside of any unit, the panel says where to put it."""
    settings.MIDDLEWARE = middleware
    assert "no unit of work" in visit("/read")
    assert shown().startswith("No unit of work was open around the toolbar.")


def test_marks_stay_readable_on_the_unit():
    """What was handed on is still known when nothing is owed any more."""
    marks_out = of_the_panel("marks_out")
    with unit_of_work():
        unit = current_unit()
        assert marks_out(unit) == {}
        Shelf.objects.create(name="new")
        assert unit.owed == ["default"]
        taken = take_marks(unit)
        assert unit.owed == []
        assert unit.taken == taken == marks_out(unit)
        assert take_marks(unit) == {}
        assert unit.taken == taken


def test_past_marks(settings):
    """A mark that has run out is shown as past."""
    settings.REPLICAS = {**settings.REPLICAS, "PIN_SECONDS": 0.000001}
    with unit_of_work():
        Shelf.objects.create(name="new")
        unit = current_unit()
        take_marks(unit)
        Book.objects.get(pk=1)
        (mark,) = of_the_panel("stats_of")(unit)["marks_out"]
        assert mark == {"leader": "default", "seconds": None, "position": None}
        assert "default past" in rendered(unit)


def test_marks_of_both_kinds():
    """A deadline is shown in seconds, a position as what followers must have replayed."""
    later = time.time() + 9
    marks = {
        "default": Mark(0, WalPosition(1, 0xE3DAA0), later),
        "other": Mark(later, WalPosition(2, 0xE3DBF8), later),
    }
    with UnitOfWork(unit=Unit(lambda: marks)) as block:
        shown = rendered(block.unit)
    assert "default until a follower has replayed p1.E3DAA0" in shown
    assert re.search(r"other [0-9.]+ s more, and until a follower has replayed p2.E3DBF8", shown)


def rendered(unit):
    html = render_to_string("django_replicas/panel.html", {"has_unit": True, **stats(unit)})
    return " ".join(re.sub("<[^>]*>", " ", html).split())


def stats(unit):
    return of_the_panel("stats_of")(unit)
