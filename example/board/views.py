"""The board's views: they read and write as if there were one database."""

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Concatenate, ParamSpec

from django.conf import settings
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST

from django_replicas import pin
from example.board.forms import NameForm, TextForm
from example.board.models import Like, Message
from example.board.people import name_of, remember_name

P = ParamSpec("P")

LATEST = 30


def board(request: HttpRequest) -> HttpResponse:
    """Show the latest messages."""
    context = {
        "latest": with_counts(Message.objects.filter(answers=None))[:LATEST],
        "total": Message.objects.count(),
        "busiest": busiest_authors(),
        "form": TextForm(),
    }
    return render(request, "board/board.html", context)


def person(request: HttpRequest, name: str) -> HttpResponse:
    """Show everything that one person wrote and likes."""
    context = {
        "person": name,
        "written": with_counts(Message.objects.filter(author=name)),
        "liked": Message.objects.filter(likes__author=name),
    }
    return render(request, "board/person.html", context)


def message(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one message and its replies."""
    shown = get_object_or_404(with_counts(Message.objects.all()), pk=pk)
    context = {
        "message": shown,
        "replies": shown.replies.order_by("id"),
        "is_liked": shown.likes.filter(author=name_of(request)).exists(),
        "form": TextForm(),
    }
    return render(request, "board/message.html", context)


def enter(request: HttpRequest) -> HttpResponse:
    """Ask for a name and keep it in a signed cookie."""
    form = NameForm(request.POST or None)
    if not form.is_valid():
        return render(request, "board/enter.html", {"form": form})
    response = redirect("board")
    remember_name(response, form.cleaned_data["name"])
    return response


def named(
    view: Callable[Concatenate[HttpRequest, P], HttpResponse],
) -> Callable[Concatenate[HttpRequest, P], HttpResponse]:
    """Send people without a name to the page that asks for it."""

    @wraps(view)
    def with_name(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        return view(request, *args, **kwargs) if name_of(request) else redirect("enter")

    return with_name


@require_POST
@named
def post(request: HttpRequest) -> HttpResponse:
    """Add a message to the board."""
    return save_new(request, answers=None) or redirect("board")


@require_POST
@named
def reply(request: HttpRequest, pk: int) -> HttpResponse:
    """Add a reply to a message."""
    answered = get_object_or_404(Message, pk=pk)
    return save_new(request, answers=answered) or redirect(answered)


@named
def edit(request: HttpRequest, pk: int) -> HttpResponse:
    """Let people change the text of what they wrote."""
    own = get_object_or_404(Message, pk=pk, author=name_of(request))
    form = TextForm(request.POST or None, initial={"text": own.text})
    if not form.is_valid():
        return render(request, "board/edit.html", {"form": form, "message": own})
    announce_write()
    own.text, own.edited_at = form.cleaned_data["text"], timezone.now()
    own.save()
    return redirect("person", own.author)


@require_POST
@named
def like(request: HttpRequest, pk: int) -> HttpResponse:
    """Note that somebody likes a message."""
    announce_write()
    liked = get_object_or_404(Message, pk=pk)
    Like.objects.get_or_create(message=liked, author=name_of(request))
    return redirect(liked)


def save_new(request: HttpRequest, answers: Message | None) -> HttpResponse | None:
    """Save what was sent; return a page that says what is wrong with it, if anything is."""
    form = TextForm(request.POST)
    if not form.is_valid():
        return render(request, "board/edit.html", {"form": form}, status=422)
    announce_write()
    text = form.cleaned_data["text"]
    Message.objects.create(author=name_of(request), text=text, answers=answers)
    return None


def announce_write() -> None:
    """Pin where the router wants to be told before a write; the others notice it themselves."""
    if settings.BOARD_ROUTER == "StrictPinRouter":
        pin("default")


def with_counts(messages: QuerySet[Message]) -> QuerySet[Message]:
    """Let each message know how many replies and likes it has; the newest comes first."""
    counted = messages.annotate(
        reply_count=Count("replies", distinct=True), like_count=Count("likes", distinct=True)
    )
    # A query that groups takes no notice of the model's own ordering.
    return counted.order_by("-id")


def busiest_authors() -> Iterable[Mapping[str, object]]:
    """Return who wrote most, with the number of their messages."""
    counted = Message.objects.order_by().values("author").annotate(count=Count("id"))
    return counted.order_by("-count", "author")[:8]
