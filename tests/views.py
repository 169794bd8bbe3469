"""Views that tell where they read: a title of book 1 is the alias that it was read from."""

import io

from asgiref.sync import sync_to_async
from django.db import transaction
from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import redirect

from .shop.models import Book, Shelf


class Failure(Exception):
    """What the failing views raise."""


def read_title():
    return Book.objects.get(pk=1).title


async def read_title_async():
    return (await Book.objects.aget(pk=1)).title


def touch(request):
    """Write to the session, where there is one, and nowhere else."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    return title(request)


def title(request):
    return JsonResponse([read_title() for _ in range(10)], safe=False)


async def title_async(request):
    return JsonResponse([await read_title_async() for _ in range(10)], safe=False)


def book(request, code):
    """Make the book with a POST; tell of both methods whether it is seen."""
    if request.method == "POST":
        Book.objects.create(code=code)
        if "redirect" in request.GET:
            return redirect(request.path)
    return JsonResponse(
        {
            "found": Book.objects.filter(code=code).exists(),
            "titles": [read_title() for _ in range(3)],
        }
    )


async def book_async(request, code):
    if request.method == "POST":
        await Book.objects.acreate(code=code)
        if "redirect" in request.GET:
            return redirect(request.path)
    return JsonResponse(
        {
            "found": await Book.objects.filter(code=code).aexists(),
            "titles": [await read_title_async() for _ in range(3)],
        }
    )


def book_by_get(request, code):
    """Write whatever the method is."""
    before = read_title()
    Book.objects.create(code=code)
    found = Book.objects.filter(code=code).exists()
    return JsonResponse({"before": before, "found": found, "titles": [read_title()]})


async def book_by_get_async(request, code):
    before = await read_title_async()
    await Book.objects.acreate(code=code)
    found = await Book.objects.filter(code=code).aexists()
    return JsonResponse({"before": before, "found": found, "titles": [await read_title_async()]})


def inside_transaction(request):
    before = read_title()
    with transaction.atomic():
        inside = read_title()
    return JsonResponse({"before": before, "inside": inside, "after": read_title()})


inside_transaction_async = sync_to_async(inside_transaction)


def related(request):
    """Read the books of a shelf that came from the leader, and of one that came from wherever."""
    on_leader = Shelf.objects.using("default").get(pk=1)
    prefetched = Shelf.objects.using("default").prefetch_related("books").get(pk=1)
    routed = Shelf.objects.get(pk=1)
    return JsonResponse(
        {
            "leader": [book.title for book in on_leader.books.all()],
            "prefetched": [book.title for book in prefetched.books.all()],
            "routed": [book.title for book in routed.books.all()],
            "shelf": routed.name,
        }
    )


related_async = sync_to_async(related)


def stream(request):
    if request.method == "POST":
        Book.objects.filter(pk=1).update(note="streamed")
    return StreamingHttpResponse(f"{read_title()}\n" for _ in range(5))


async def stream_async(request):
    if request.method == "POST":
        await Book.objects.filter(pk=1).aupdate(note="streamed")

    async def body():
        for _ in range(5):
            yield f"{await read_title_async()}\n"

    return StreamingHttpResponse(body())


def fail(request):
    Book.objects.filter(pk=1).update(note="failed")
    raise Failure


async def fail_async(request):
    await Book.objects.filter(pk=1).aupdate(note="failed")
    raise Failure


def file(request):
    Book.objects.filter(pk=1).update(note="sent")
    return FileResponse(io.BytesIO(b"contents"))


def nothing(request):
    return HttpResponse("nothing")
