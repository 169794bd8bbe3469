"""VIEW_OVERRIDES: single views with another role, by URL name and by import path."""

import asyncio
import gc
import sys
import weakref
from functools import partial, update_wrapper, wraps

import pytest
from asgiref.sync import iscoroutinefunction, sync_to_async
from django.db import connections
from django.http import JsonResponse
from django.test import AsyncClient, Client
from django.urls import include, path, resolve
from django.utils.decorators import method_decorator
from django.views import View

from django_replicas import get_pinned, pin, use_follower, use_leader
from django_replicas.checks import check_views
from django_replicas.http import serve
from django_replicas.middleware import ReplicasMiddleware
from django_replicas.overrides import Overrides, apply_override, overrides_of
from django_replicas.scopes import current_unit
from django_replicas.units import Role

from .shop.models import Book

HERE = __name__
FOLLOWERS = {"replica1", "replica2"}


def title():
    return Book.objects.get(pk=1).title


def tell(request):
    return JsonResponse([title()], safe=False)


def function(request):
    return tell(request)


async def coroutine(request):
    return JsonResponse([(await Book.objects.aget(pk=1)).title], safe=False)


class Page(View):
    def get(self, request):
        return tell(request)

    post = get


class Late(View):
    async def get(self, request):
        return await coroutine(request)

    post = get


class Together:
    """A class as frameworks have them, whose view wraps the class itself."""

    @classmethod
    def as_view(cls):
        def view(request):
            return tell(request)

        return update_wrapper(view, cls, updated=())


class Callable:
    def __call__(self, request):
        return tell(request)


class Unhashable(Callable):
    __hash__ = None

    def __eq__(self, other):
        return self is other


class Site:
    def index(self, request):
        return tell(request)

    @classmethod
    def listing(cls, request):
        return tell(request)


class SubSite(Site):
    pass


def logged(view):
    @wraps(view)
    def inner(request):
        return view(request)

    return inner


def forgetful(view):
    """Wrap a view as decorators do that keep no more than its name."""

    def inner(request):
        return view(request)

    inner.__name__, inner.__module__ = view.__name__, view.__module__
    return inner


def with_extra(extra, request):
    return tell(request)


@use_leader
def decorated_leader(request):
    return tell(request)


@use_follower
def decorated_follower(request):
    return tell(request)


@method_decorator(use_leader, name="dispatch")
class DecoratedPage(Page):
    pass


def pinning(request):
    pin("default")
    return tell(request)


def writing(request):
    Book.objects.filter(pk=1).update(note="written")
    return tell(request)


callable_object = Callable()
unhashable = Unhashable()
site, other_site, sub_site = Site(), Site(), SubSite()
page = Page.as_view()
function_again = function

blog = [path("detail", function, name="detail"), path("nameless", function)]

urlpatterns = [
    path("function", function, name="function"),
    path("nameless", function),
    path("dotted", function, name="store.event"),
    path("coroutine", coroutine, name="coroutine"),
    path("page", page, name="page"),
    path("late", Late.as_view(), name="late"),
    path("together", Together.as_view(), name="together"),
    path("callable", callable_object, name="callable"),
    path("unhashable", unhashable, name="unhashable"),
    path("index", site.index, name="index"),
    path("sub-index", sub_site.index, name="sub-index"),
    path("listing", SubSite.listing, name="listing"),
    path("other-index", other_site.index, name="other-index"),
    path("logged", logged(function), name="logged"),
    path("logged-page", logged(Page.as_view()), name="logged-page"),
    path("forgetful", forgetful(function), name="forgetful"),
    path("partial", partial(with_extra, 1), name="partial"),
    path("logged-index", update_wrapper(partial(site.index), site.index), name="logged-index"),
    path("decorated-leader", decorated_leader, name="decorated-leader"),
    path("decorated-follower", decorated_follower, name="decorated-follower"),
    path("decorated-page", DecoratedPage.as_view(), name="decorated-page"),
    path("pinning", pinning, name="pinning"),
    path("writing", writing, name="writing"),
    path("blog/", include((blog, "blog"), namespace="blog-de")),
]


@pytest.fixture(autouse=True)
def urls(settings):
    settings.ROOT_URLCONF = HERE
    overrides_of.cache_clear()


@pytest.fixture
def override(settings):
    def set_overrides(overrides):
        settings.REPLICAS = {**settings.REPLICAS, "VIEW_OVERRIDES": overrides}

    return set_overrides


def _answer_of(response):
    assert response.status_code == 200
    return response.json()[0]


@pytest.fixture(params=["wsgi", "asgi"])
def ask(request):
    """Send one request through Django's own handler, and return where its view read."""

    def ask_sync(address, method="get"):
        return _answer_of(getattr(Client(), method)(f"/{address}"))

    def ask_async(address, method="get"):
        async def main():
            try:
                return _answer_of(await getattr(AsyncClient(), method)(f"/{address}"))
            finally:
                await sync_to_async(connections.close_all)()

        return asyncio.run(main())

    return ask_sync if request.param == "wsgi" else ask_async


NAMES = [
    ("function", "function"),
    ("function", f"{HERE}.function"),
    ("function", f"{HERE}.function_again"),
    ("nameless", f"{HERE}.function"),
    ("dotted", "store.event"),
    ("coroutine", "coroutine"),
    ("coroutine", f"{HERE}.coroutine"),
    ("page", "page"),
    ("page", f"{HERE}.Page"),
    ("page", f"{HERE}.page"),
    ("late", f"{HERE}.Late"),
    ("callable", f"{HERE}.Callable"),
    ("callable", f"{HERE}.callable_object"),
    ("unhashable", f"{HERE}.Unhashable"),
    ("unhashable", f"{HERE}.unhashable"),
    ("index", f"{HERE}.Site.index"),
    ("index", f"{HERE}.site.index"),
    ("sub-index", f"{HERE}.Site.index"),
    ("sub-index", f"{HERE}.SubSite.index"),
    ("listing", f"{HERE}.Site.listing"),
    ("listing", f"{HERE}.SubSite.listing"),
    ("logged", f"{HERE}.function"),
    ("logged-page", f"{HERE}.Page"),
    ("forgetful", f"{HERE}.function"),
    ("partial", f"{HERE}.with_extra"),
    ("logged-index", f"{HERE}.site.index"),
    ("blog/detail", "blog-de:detail"),
    ("blog/detail", "blog:detail"),
    ("blog/detail", "detail"),
    ("blog/detail", f"{HERE}.function"),
    ("blog/nameless", f"{HERE}.function"),
    ("blog/nameless", "/blog/*"),
    ("page", "*page"),
]


@pytest.mark.parametrize("role", ["leader", "master"])
@pytest.mark.parametrize(("address", "name"), NAMES)
def test_a_safe_method_may_read_the_leader(ask, override, address, name, role):
    """Whatever names the view, its GETs go to the leader, under WSGI and ASGI."""
    assert ask(address) in FOLLOWERS
    override({name: role})
    assert ask(address) == "default"


@pytest.mark.parametrize("role", ["follower", "slave"])
@pytest.mark.parametrize(("address", "name"), NAMES)
def test_an_unsafe_method_may_read_followers(ask, override, address, name, role):
    """Whatever names the view, its POSTs go to a follower, under WSGI and ASGI."""
    assert ask(address, "post") == "default"
    override({name: role})
    assert ask(address, "post") in FOLLOWERS


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("other-index", f"{HERE}.site.index"),
        ("index", f"{HERE}.SubSite.index"),
        ("index", "blog:index"),
        ("page", "View"),
        ("page", f"{HERE}.Late"),
        ("page", f"{HERE}.view"),
        ("late", f"{HERE}.view"),
        ("together", f"{HERE}.Page"),
        ("together", "builtins.type"),
        ("nameless", "function"),
        ("function", "no.such.module"),
        ("function", f"{HERE}.nothing"),
        ("function", "not/a-name"),
        ("blog/nameless", "blog:function"),
    ],
)
def test_other_views_keep_their_role(ask, override, address, name):
    """An override is about the view that it names, and no other."""
    override({name: "leader"})
    assert ask(address) in FOLLOWERS


def test_a_url_name_goes_before_an_import_path(ask, override):
    """One view served at two URLs may have two roles."""
    override({f"{HERE}.function": "follower", "function": "leader"})
    assert ask("function") == "default"
    assert ask("nameless") in FOLLOWERS
    assert ask("logged", "post") in FOLLOWERS


def test_a_namespaced_name_goes_before_a_bare_one(ask, override):
    """A bare name is about every view of that name that nothing more exact is said of."""
    override({"detail": "follower", "blog:detail": "leader"})
    assert ask("blog/detail") == "default"


@pytest.mark.parametrize("address", ["decorated-leader", "decorated-page"])
def test_a_decorator_to_the_leader_wins(ask, override, address):
    """What the code of the view says is nearer to it than the settings."""
    override({address: "follower"})
    assert ask(address) == "default"


def test_a_decorator_to_a_follower_wins(ask, override):
    """As the other way round."""
    override({"decorated-follower": "leader"})
    assert ask("decorated-follower", "post") in FOLLOWERS


@pytest.mark.parametrize("address", ["pinning", "writing"])
def test_pins_and_writes_count_no_less(ask, override, address):
    """The role is all that changes: a unit sees what it wrote."""
    override({address: "follower"})
    assert ask(address, "post") == "default"


def test_marks_count_no_less(settings, override):
    """A user who wrote sees it in a view that asks for followers."""
    override({"function": "follower"})
    client = Client()
    client.post("/writing")
    assert client.get("/function").json() == ["default"]


def test_the_role_of_a_unit_that_had_read_already_changes(override, rf):
    """What the unit was answered before its view was known does not linger."""
    override({"function": "leader"})
    request = rf.get("/function")
    request.resolver_match = resolve("/function")

    def respond():
        before = title()
        apply_override(request)
        return before, title()

    before, after = serve(request, Role.FOLLOWER, respond)
    assert before in FOLLOWERS
    assert after == "default"
    assert get_pinned() == frozenset()


def test_nothing_happens_outside_units_or_before_the_view_is_known(override, rf):
    """Someone else's middleware stack may call things in an order of its own."""
    override({"function": "leader"})
    request = rf.get("/function")
    serve(request, Role.FOLLOWER, lambda: apply_override(request))
    request.resolver_match = resolve("/function")
    apply_override(request)
    assert current_unit() is None


def test_no_view_is_written_to(ask, override):
    """Views, and the classes and objects behind them, are as they were."""
    things = [function, coroutine, page, Page, callable_object, site, site.index]
    before = [dict(vars(thing)) for thing in things]
    override({f"{HERE}.function": "leader", f"{HERE}.Page": "leader", f"{HERE}.site": "leader"})
    for address in ("function", "coroutine", "page", "callable", "index"):
        ask(address)
    assert [dict(vars(thing)) for thing in things] == before


def test_the_process_view_of_each_kind_is_its_own():
    """Django puts no worker thread between, sync or async."""

    async def get_response(request):
        """Answer nothing."""

    assert iscoroutinefunction(ReplicasMiddleware(get_response).process_view)
    assert not iscoroutinefunction(ReplicasMiddleware(lambda request: None).process_view)


def test_a_view_is_looked_at_once(monkeypatch):
    """Import paths are compared for the first request of a view only."""
    overrides = Overrides(((f"{HERE}.function_again", "leader"),))
    match = resolve("/page")
    assert overrides.role_of(match) is None
    monkeypatch.setattr(Overrides, "_role_by_path", None)
    assert overrides.role_of(match) is None


def test_a_view_that_nobody_needs_is_let_go():
    """What is remembered of a view does not keep it alive."""
    overrides = Overrides(((f"{HERE}.function", "leader"),))
    match = resolve("/nameless")
    match.func = logged(function)
    view = weakref.ref(match.func)
    assert overrides.role_of(match) is Role.LEADER
    del match
    gc.collect()
    assert view() is None


def test_an_error_in_a_named_module_is_not_hidden(override, tmp_path, monkeypatch):
    """A module that fails to load is a mistake to be seen, not a URL name."""
    (tmp_path / "broken_views.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    override({"broken_views.index": "leader"})
    with pytest.raises(ZeroDivisionError):
        Client().get("/function")
    assert "broken_views" not in sys.modules


# The check


def unknown(settings, *names):
    """Have each of the names in the setting; return what the check says of them."""
    overrides = dict.fromkeys(names, "leader")
    settings.REPLICAS = {**settings.REPLICAS, "VIEW_OVERRIDES": overrides}
    return check_views()


def test_names_that_are_right(settings):
    """Whatever names a view in a request is known to the check."""
    assert unknown(settings, *(name for _, name in NAMES)) == []


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("funtion", "Did you mean 'function'?"),
        ("blog-de:detial", "Did you mean 'blog-de:detail'?"),
        (f"{HERE}.Site.indx", f"Did you mean '{HERE}.Site.index'?"),
        (f"{HERE}.title", None),
        ("blog:function", None),
        ("zzz", "Correct it, or remove it."),
    ],
)
def test_a_name_that_no_view_has(settings, name, remedy):
    """It is named, and so is what is most like it."""
    (message,) = unknown(settings, "function", name, "coroutine")
    assert message.id == "django_replicas.W016"
    assert message.msg == (
        f'REPLICAS["VIEW_OVERRIDES"] names {name!r}, which no view of {HERE} is called, neither by '
        "URL name nor by import path: it does nothing."
    )
    assert remedy is None or message.hint.startswith(f"{remedy} See ")
    assert message.hint.endswith("/checks.html#django-replicas-w016")


@pytest.mark.parametrize("module", ["no_such_urls", "broken_urls", "empty_urls", None])
def test_a_urlconf_that_is_not_to_be_had(settings, tmp_path, monkeypatch, module):
    """Django's own checks say what is wrong with it; without one there are no views to name."""
    (tmp_path / "broken_urls.py").write_text("1 / 0")
    (tmp_path / "empty_urls.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    settings.ROOT_URLCONF = module
    assert unknown(settings, "titel") == []
    del settings.ROOT_URLCONF
    assert unknown(settings, "titel") == []


def test_a_view_named_in_a_module_that_fails(settings, tmp_path, monkeypatch):
    """The check says so, and goes on."""
    (tmp_path / "broken_views.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    (message,) = unknown(settings, "broken_views.index", "function")
    assert "'broken_views.index', whose module cannot be imported: " in message.msg
    assert "division by zero" in message.msg


def test_nothing_is_walked_where_nothing_is_routed(settings):
    """Without names, and without sets, there is nothing to say."""
    assert unknown(settings) == []
    settings.REPLICAS = {"VIEW_OVERRIDES": {"titel": "leader"}}
    assert check_views() == []


def test_patterns_come_last_and_in_their_order(ask, override):
    """A name or an import path is nearer to the view than where it is served."""
    override({"/*": "leader", "blog:detail": "follower", f"{HERE}.Page": "follower"})
    assert ask("blog/detail") in FOLLOWERS
    assert ask("page") in FOLLOWERS
    assert ask("callable") == "default"
    override({"/Callable": "follower", "/call*": "follower", "/*": "leader"})
    assert ask("callable") in FOLLOWERS
    assert ask("function") == "default"


def test_patterns_name_no_view(override):
    """Nobody can tell whether a path will be asked for, so there is no warning."""
    override({"/of/no/view/*": "leader", "*": "leader"})
    assert check_views() == []
