"""Roles for single views and functions: given for a call, and put back."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.db import connections
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.template.backends.django import DjangoTemplates
from django.template.response import SimpleTemplateResponse
from django.test import AsyncRequestFactory, RequestFactory
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from django_replicas import (
    follower,
    get_newly_pinned,
    get_pinned,
    leader,
    pin,
    unit_of_work,
    use_follower,
    use_leader,
    with_followers,
    with_leaders,
)
from django_replicas.middleware import ReplicasMiddleware
from django_replicas.scopes import current_scope, current_unit
from django_replicas.units import Role

from .shop.deeds import aanswer, answer, awrite, write
from .shop.models import Book, Shelf

FOLLOWERS = {"replica1", "replica2"}
COOKIE = "replicas_mark"
DECORATORS = [(use_leader, {"default"}, Role.LEADER), (use_follower, FOLLOWERS, Role.FOLLOWER)]


def role():
    return current_scope().role


def titles(request):
    return JsonResponse([answer()], safe=False)


async def titles_async(request):
    return JsonResponse([await aanswer()], safe=False)


@pytest.fixture(autouse=True)
def by_role(databases, settings):
    """Route as the unit's role says; close what `sync_to_async` opened outside requests."""
    settings.DATABASE_ROUTERS = ["django_replicas.routers.LeaderFollowerRouter"]
    yield
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(sync_to_async(connections.close_all)())).result()


@pytest.fixture
def greedy(settings):
    """Read followers without being asked to."""
    settings.DATABASE_ROUTERS = ["django_replicas.routers.GreedyPinRouter"]


def through_middleware(view, method="GET", cookies=None):
    request = a_request(method, cookies)
    return ReplicasMiddleware(view)(request)


async def through_middleware_async(view, method="GET", cookies=None):
    request = AsyncRequestFactory().generic(method, "/")
    request.COOKIES.update(cookies or {})
    return await ReplicasMiddleware(view)(request)


def a_request(method="GET", cookies=None):
    request = RequestFactory().generic(method, "/")
    request.COOKIES.update(cookies or {})
    return request


def title_in(response):
    return response.content.decode().strip('[]"')


# Functions that are no views


@pytest.mark.parametrize(("decorate", "expected", "given"), DECORATORS)
def test_function(decorate, expected, given):
    """Each call has the role; outside units it is a unit, ended with the call."""

    @decorate
    def work(number, *, more):
        """Do it."""
        return answer(), role(), number + more

    title, found, total = work(1, more=2)
    assert title in expected
    assert (found, total) == (given, 3)
    assert (work.__name__, work.__doc__) == ("work", "Do it.")
    assert current_unit() is None


@pytest.mark.parametrize(("decorate", "expected", "given"), DECORATORS)
async def test_async_function(decorate, expected, given):
    """Until its coroutine has ended."""

    @decorate
    async def work(number, *, more):
        """Do it."""
        await asyncio.sleep(0)
        return await aanswer(), role(), number + more

    title, found, total = await work(1, more=2)
    assert title in expected
    assert (found, total) == (given, 3)
    assert (work.__name__, work.__doc__) == ("work", "Do it.")
    assert iscoroutinefunction(work)
    assert current_unit() is None


@pytest.mark.parametrize(("decorate", "expected", "given"), DECORATORS)
def test_function_inside_a_unit(decorate, expected, given):
    """It works for that unit, and the role that was there comes back."""
    work = decorate(lambda: (current_unit(), answer(), role()))
    for outer in (None, "leader", "follower"):
        with unit_of_work(role=outer):
            unit, title, found = work()
            assert unit is current_unit()
            assert title in expected
            assert found is given
            assert role() == outer


def test_decorated_functions_inside_one_another():
    """Each puts back what it found, which was nobody's default."""
    seen = []

    @use_leader
    def on_leader(*then):
        seen.append(answer() == "default")
        for function, *rest in then:
            function(*rest)
            seen.append(role() is Role.LEADER)
        seen.append(answer() == "default")

    @use_follower
    def on_follower(*then):
        seen.append(answer() in FOLLOWERS)
        for function, *rest in then:
            function(*rest)
            seen.append(role() is Role.FOLLOWER)
        seen.append(answer() in FOLLOWERS)

    with unit_of_work():
        on_follower((on_leader, (on_follower,)), (on_leader,))
        on_leader((on_follower, (on_leader,), (on_follower,)))
        assert role() is None
    on_follower((on_leader, (on_follower,)))
    assert all(seen)
    assert len(seen) > 20


async def test_decorated_async_functions_inside_one_another():
    """On a loop, too, where others run in between."""

    @use_leader
    async def on_leader():
        await asyncio.sleep(0)
        found = await aanswer()
        return found, await on_follower(), role()

    @use_follower
    async def on_follower():
        await asyncio.sleep(0)
        return await aanswer(), role()

    with unit_of_work(role="follower"):
        first, second = await asyncio.gather(on_leader(), on_leader())
        for found, (inner, inner_role), outer_role in (first, second):
            assert found == "default"
            assert inner in FOLLOWERS
            assert (inner_role, outer_role) == (Role.FOLLOWER, Role.LEADER)
        assert role() is Role.FOLLOWER


def test_role_is_put_back_after_an_exception():
    """The caller goes on as before."""

    @use_leader
    def fail():
        raise ZeroDivisionError

    with unit_of_work(role="follower"):
        with pytest.raises(ZeroDivisionError):
            fail()
        assert role() is Role.FOLLOWER
        assert answer() in FOLLOWERS
    with pytest.raises(ZeroDivisionError):
        fail()
    assert current_unit() is None


async def test_role_is_put_back_after_a_cancellation():
    """Who was cancelled and goes on has the role that it had."""
    inside, roles = asyncio.Event(), []

    @use_leader
    async def endless():
        inside.set()
        await asyncio.Event().wait()

    async def work():
        with unit_of_work(role="follower"):
            try:
                await endless()
            finally:
                roles.append(role())

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert roles == [Role.FOLLOWER]


def test_decorator_says_nothing_about_blocks_and_pins(greedy):
    """Rule 3 goes before rule 6, rule 7 after it."""
    with unit_of_work():
        with leader("default"):
            assert use_follower(answer)() == "default"
        with follower("default"):
            assert use_leader(answer)() in FOLLOWERS
        pin("default")
        assert use_follower(answer)() == "default"


@pytest.mark.parametrize("decorate", [use_leader, use_follower, with_leaders("default")])
def test_generator_functions_are_refused(decorate):
    """Their body would run when the role is long put back."""

    def generate():
        yield answer()

    with pytest.raises(TypeError, match="is a generator function: open the block inside it"):
        decorate(generate)


def test_methods():
    """Plainly, and through Django's method_decorator."""

    class Work:
        @use_follower
        def plainly(self, number):
            return answer(), number

        @method_decorator(use_follower)
        def through_django(self, number):
            return answer(), number

        @use_follower
        async def plainly_async(self, number):
            return await aanswer(), number

        @classmethod
        @use_follower
        def of_class(cls, number):
            return answer(), number

        @staticmethod
        @use_follower
        def of_nobody(number):
            return answer(), number

    for method in (Work().plainly, Work().through_django, Work.of_class, Work.of_nobody):
        title, number = method(7)
        assert title in FOLLOWERS
        assert number == 7
    title, number = async_to_sync(Work().plainly_async)(7)
    assert title in FOLLOWERS


# with_leaders and with_followers


class ShelvesElsewhere:
    def db_for_read(self, model, **hints):
        return "other" if model is Shelf else None

    db_for_write = db_for_read


@pytest.fixture
def two_sets(settings):
    """Keep the shelves in the set that "other" leads."""
    settings.REPLICAS = {**settings.REPLICAS, "DELEGATE_ROUTERS": [ShelvesElsewhere()]}


def both_answers():
    return answer(), Shelf.objects.get(pk=1).name


def test_with_followers_names_its_sets(two_sets):
    """Outside units too, and only the sets that are named."""
    title, shelf = with_followers("default")(both_answers)()
    assert title in FOLLOWERS
    assert shelf == "other"
    title, shelf = with_followers("default", "other")(both_answers)()
    assert title in FOLLOWERS
    assert shelf == "other-0"
    assert both_answers() == ("default", "other")


def test_with_leaders_names_its_sets(two_sets, greedy):
    """Despite a follower's role, and without pinning when something is written."""

    @with_leaders("default")
    def work():
        write()
        return both_answers()

    with unit_of_work(role="follower"):
        assert work() == ("default", "other-0")
        assert get_pinned() == frozenset()
        assert answer() in FOLLOWERS
        assert with_leaders("default", "other")(both_answers)() == ("default", "other")
        assert with_leaders()(answer)() in FOLLOWERS


async def test_with_leaders_and_followers_of_async_functions():
    """Until the coroutine has ended, inside one another."""

    @with_leaders("default")
    async def on_leader():
        await asyncio.sleep(0)
        return await aanswer(), await on_follower(), await aanswer()

    @with_followers("default")
    async def on_follower():
        await asyncio.sleep(0)
        return await aanswer()

    with unit_of_work():
        first, inner, last = await on_leader()
    assert (first, last) == ("default", "default")
    assert inner in FOLLOWERS


async def test_with_leaders_and_followers_of_coroutines_that_functions_return():
    """Until the coroutine has ended as well."""
    on_leader = with_leaders("default")(lambda: aanswer())
    on_follower = with_followers("default")(lambda: aanswer())
    with unit_of_work():
        assert await on_leader() == "default"
        assert await on_follower() in FOLLOWERS


def test_blocks_of_decorators_are_left_after_an_exception(two_sets, greedy):
    """All of them, in the order that they were entered."""

    @with_leaders("default", "other")
    def fail():
        raise ZeroDivisionError

    with unit_of_work():
        with pytest.raises(ZeroDivisionError):
            fail()
        title, shelf = both_answers()
        assert title in FOLLOWERS
        assert shelf == "other-0"


def test_unknown_set_among_several():
    """It is named, and the blocks before it are left."""
    with unit_of_work():
        with pytest.raises(LookupError, match="'nonsense' is not in DATABASES"):
            with_leaders("default", "nonsense")(answer)()
        assert not current_scope().overrides


# Views inside the middleware


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("decorate", "expected", "given"), DECORATORS)
def test_view_inside_the_middleware(decorate, expected, given, method):
    """The view's role goes before the method's, which is back after the view."""
    seen = []
    view = decorate(titles)

    def outer(request):
        unit, before = current_unit(), role()
        response = view(request)
        seen.append((current_unit() is unit, role() is before))
        return response

    assert title_in(through_middleware(outer, method)) in expected
    assert seen == [(True, True)]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("decorate", "expected", "given"), DECORATORS)
async def test_async_view_inside_the_middleware(decorate, expected, given, method):
    """The same on a loop."""
    seen = []
    view = decorate(titles_async)

    async def outer(request):
        unit, before = current_unit(), role()
        response = await view(request)
        seen.append((current_unit() is unit, role() is before))
        return response

    assert title_in(await through_middleware_async(outer, method)) in expected
    assert seen == [(True, True)]


def test_write_of_a_view_inside_the_middleware():
    """It is carried by the middleware's response, once."""

    @use_leader
    def view(request):
        write()
        return HttpResponse()

    response = through_middleware(view, "GET")
    assert list(response.cookies) == [COOKIE]
    assert response.headers["Vary"] == "Cookie"


def test_refusal_inside_a_follower_view():
    """The role refuses writes while it holds, and not afterwards."""

    @use_follower
    def view(request):
        with pytest.raises(Exception, match="has the role 'follower'"):
            write()
        return HttpResponse()

    def outer(request):
        view(request)
        write()
        return HttpResponse()

    assert COOKIE in through_middleware(outer, "POST").cookies


def test_view_that_calls_decorated_functions():
    """A follower's view calls a leader's function, and is a follower's view again."""
    order = []

    @use_leader
    def helper():
        order.append(answer())

    @use_follower
    def view(request):
        order.append(answer())
        helper()
        order.append(answer())
        return HttpResponse()

    through_middleware(view, "POST")
    first, second, third = order
    assert first == third
    assert first in FOLLOWERS
    assert second == "default"


# Class-based views


class Titles(View):
    def get(self, request):
        return titles(request)

    post = get


class TitlesAsync(View):
    async def get(self, request):
        return await titles_async(request)

    post = get


@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize(("decorate", "expected", "given"), DECORATORS)
def test_as_view_result(decorate, expected, given, within):
    """With the middleware and without, whatever the method is; its attributes are kept."""
    view = decorate(Titles.as_view())
    assert view.view_class is Titles
    for method in ("GET", "POST"):
        response = through_middleware(view, method) if within else view(a_request(method))
        assert title_in(response) in expected


@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize(("decorate", "expected", "given"), DECORATORS)
async def test_async_as_view_result(decorate, expected, given, within):
    """It is still known to be a coroutine function."""
    view = decorate(TitlesAsync.as_view())
    assert view.view_class is TitlesAsync
    assert iscoroutinefunction(view)
    for method in ("GET", "POST"):
        if within:
            response = await through_middleware_async(view, method)
        else:
            response = await view(AsyncRequestFactory().generic(method, "/"))
        assert title_in(response) in expected


@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize(("decorate", "expected", "given"), DECORATORS)
async def test_dispatch_of_async_views(decorate, expected, given, within):
    """It is a plain method, and returns what is still to be awaited."""

    @method_decorator(decorate, name="dispatch")
    class Decorated(View):
        async def get(self, request):
            there = current_unit().request is request
            return JsonResponse([await aanswer(), role(), there], safe=False)

        post = get

    view = Decorated.as_view()
    for method in ("GET", "POST"):
        if within:
            response = await through_middleware_async(view, method)
        else:
            response = await view(AsyncRequestFactory().generic(method, "/"))
        title, found, is_its_own = json.loads(response.content)
        assert title in expected
        assert (found, is_its_own) == (given, True)
        assert current_unit() is None


@pytest.mark.parametrize("early", [True, False])
async def test_cookie_of_an_async_view_without_the_middleware(early):
    """Its response carries what was written before it was awaited and after."""

    @use_leader
    def view(request):
        if early:
            current_unit().note_write("default")
        return answered()

    async def answered():
        if not early:
            await awrite()
        return HttpResponse()

    assert COOKIE in (await view(AsyncRequestFactory().post("/"))).cookies


async def test_body_streamed_by_the_dispatch_of_an_async_view():
    """It is read in the role of its view."""

    @method_decorator(use_leader, name="dispatch")
    class Streaming(View):
        async def get(self, request):
            async def body():
                yield await aanswer()

            return StreamingHttpResponse(body())

    response = await through_middleware_async(Streaming.as_view())
    assert [part async for part in response] == [b"default"]


@pytest.mark.parametrize("within", [True, False])
def test_methods_of_views(within):
    """`dispatch` by its name, one handler through method_decorator, one plainly."""

    @method_decorator(use_follower, name="dispatch")
    class AllFollower(Titles):
        pass

    class OneOfEach(View):
        @method_decorator(use_follower)
        def get(self, request):
            return titles(request)

        @use_follower
        def post(self, request):
            return titles(request)

        @use_leader
        def put(self, request):
            return titles(request)

    def send(view, method):
        return through_middleware(view, method) if within else view(a_request(method))

    assert title_in(send(AllFollower.as_view(), "POST")) in FOLLOWERS
    assert title_in(send(OneOfEach.as_view(), "GET")) in FOLLOWERS
    assert title_in(send(OneOfEach.as_view(), "POST")) in FOLLOWERS
    assert title_in(send(OneOfEach.as_view(), "PUT")) == "default"


@pytest.mark.parametrize("decorate", [use_leader, use_follower, with_leaders("default")])
def test_metadata_is_kept(decorate):
    """What other decorators have noted on a view is still there."""

    @decorate
    @csrf_exempt
    def view(request):
        """Answer."""
        return HttpResponse()

    assert view.csrf_exempt is True
    assert view.__name__ == "view"
    assert view.__doc__ == "Answer."
    assert view.__wrapped__.__name__ == "view"


def test_decorating_leaves_the_view_as_it_was():
    """Two decorations of one view do not know of each other."""
    on_leader, on_follower = use_leader(titles), use_follower(titles)
    assert title_in(on_leader(a_request())) == "default"
    assert title_in(on_follower(a_request())) in FOLLOWERS
    assert title_in(titles(a_request())) == "default"
    assert not hasattr(titles, "__wrapped__")


# Without the middleware


@pytest.mark.parametrize(("decorate", "expected", "given"), DECORATORS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_view_without_the_middleware(decorate, expected, given, method):
    """Its request is a unit of its own, in the decorator's role."""
    units = []

    @decorate
    def view(request):
        units.append(current_unit())
        assert role() is given
        return titles(request)

    assert title_in(view(a_request(method))) in expected
    assert units[0].request is not None
    assert current_unit() is None


@use_leader
def save(request):
    if request.method == "POST":
        write()
        return redirect("/somewhere")
    return titles(request)


@use_follower
def show(request):
    return titles(request)


@use_leader
async def save_async(request):
    await awrite()
    return redirect("/somewhere")


@use_follower
async def show_async(request):
    return await titles_async(request)


def test_cookie_after_a_redirect_without_the_middleware():
    """POST, 302, GET: the page after the redirect sees the write, others read a follower."""
    response = save(a_request("POST"))
    assert response.status_code == 302
    assert response.headers["Vary"] == "Cookie"
    cookies = {COOKIE: response.cookies[COOKIE].value}
    shown = show(a_request("GET", cookies))
    assert title_in(shown) == "default"
    assert not shown.cookies
    assert title_in(show(a_request("GET"))) in FOLLOWERS


async def test_cookie_after_a_redirect_without_the_middleware_async():
    """The same on a loop."""
    response = await save_async(AsyncRequestFactory().post("/"))
    assert response.status_code == 302
    request = AsyncRequestFactory().get("/")
    request.COOKIES[COOKIE] = response.cookies[COOKIE].value
    shown = await show_async(request)
    assert title_in(shown) == "default"
    assert not shown.cookies
    assert title_in(await show_async(AsyncRequestFactory().get("/"))) in FOLLOWERS


@pytest.mark.parametrize("view", [use_leader(titles), use_follower(titles)])
def test_no_cookie_where_nothing_was_written(view):
    """A decorated view that only reads sets none, after a POST either."""
    for method in ("GET", "POST"):
        response = view(a_request(method))
        assert not response.cookies
        assert not response.has_header("Vary")


def test_views_inside_one_another_without_the_middleware():
    """The outer one's unit is the inner one's, and there is one cookie, on the outer's response."""
    units = []

    @use_follower
    def inner(request):
        units.append(current_unit())
        return titles(request)

    @use_leader
    def outer(request):
        write()
        units.append(current_unit())
        response = inner(request)
        assert role() is Role.LEADER
        assert not response.cookies
        return response

    response = outer(a_request())
    assert units[0] is units[1]
    assert COOKIE in response.cookies
    assert title_in(response) == "default"


def test_view_that_fails_without_the_middleware():
    """The exception goes on, and the unit is left."""

    @use_leader
    def view(request):
        write()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        view(a_request("POST"))
    assert current_unit() is None


def test_view_inside_a_unit_that_nobody_carries_on(greedy):
    """It sees what that unit wrote, and that unit sees what it wrote."""

    @use_follower
    def reading(request):
        return titles(request)

    @use_leader
    def writing(request):
        write()
        return HttpResponse()

    with unit_of_work():
        write()
        assert title_in(reading(a_request())) == "default"
    with unit_of_work():
        assert COOKIE in writing(a_request()).cookies
        assert answer() == "default"
        assert get_newly_pinned() == {"default"}


@pytest.mark.parametrize("result", [None, 3, {"answer": 42}])
def test_function_that_takes_a_request_and_answers_something_else(result):
    """A helper of views is no view: what it returns is handed back as it is."""

    @use_leader
    def helper(request):
        write()
        return result

    assert helper(a_request()) == result


def test_request_is_found_where_views_have_it():
    """As the first argument, or as a method's; further back it is a function's own matter."""
    carries = use_leader(lambda *args: HttpResponse(str(current_unit().request is not None)))
    assert carries(a_request()).content == b"True"
    assert carries(object(), a_request()).content == b"True"
    assert carries(1, 2, a_request()).content == b"False"
    assert carries().content == b"False"


# What is made after the view has returned


@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize(("decorate", "expected", "given"), DECORATORS)
def test_streamed_body_of_a_decorated_view(decorate, expected, given, within):
    """It is read in the role of its view, whatever the method's was."""

    @decorate
    def view(request):
        return StreamingHttpResponse(answer() for _ in range(3))

    for method in ("GET", "POST"):
        response = through_middleware(view, method) if within else view(a_request(method))
        assert {part.decode() for part in response} <= expected
        assert current_unit() is None


@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize(("decorate", "expected", "given"), DECORATORS)
async def test_streamed_body_of_a_decorated_async_view(decorate, expected, given, within):
    """The same on a loop."""

    @decorate
    async def view(request):
        async def body():
            for _ in range(3):
                yield await aanswer()

        return StreamingHttpResponse(body())

    for method in ("GET", "POST"):
        if within:
            response = await through_middleware_async(view, method)
        else:
            response = await view(AsyncRequestFactory().generic(method, "/"))
        assert {part.decode() async for part in response} <= expected
        assert current_unit() is None


ENGINE = DjangoTemplates({"NAME": "django", "DIRS": [], "APP_DIRS": False, "OPTIONS": {}})
PAGE = ENGINE.from_string("{% for book in books %}{{ book.title }}{% endfor %}")


@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize(("decorate", "expected", "given"), DECORATORS)
def test_template_rendered_after_a_decorated_view(decorate, expected, given, within):
    """Django renders it when the view has returned; its queries are the view's all the same."""

    @decorate
    def view(request):
        return SimpleTemplateResponse(PAGE, {"books": Book.objects.filter(pk=1)})

    def handle(request):
        return view(request).render()

    for method in ("GET", "POST"):
        response = through_middleware(handle, method) if within else handle(a_request(method))
        assert response.content.decode() in expected
        assert current_unit() is None


def test_request_inside_a_request():
    """Frameworks hand their views a request around Django's; its response carries the mark."""

    class Around:
        def __init__(self, request):
            self._request = request

    response = use_leader(lambda request: (write(), HttpResponse())[1])(Around(a_request()))
    assert COOKIE in response.cookies
