from django.db import transaction
from django.http import JsonResponse
from django.shortcuts import get_object_or_404, redirect

from .models import Author, Book


def books(request):
    found = Book.objects.select_related("author").prefetch_related("genres").order_by("title")
    return JsonResponse(
        [
            {
                "title": book.title,
                "author": book.author.name,
                "genres": sorted(genre.name for genre in book.genres.all()),
            }
            for book in found
        ],
        safe=False,
    )


def book(request, pk):
    found = get_object_or_404(Book, pk=pk)
    return JsonResponse({"title": found.title, "notes": [note.text for note in found.notes.all()]})


@transaction.atomic
def add_book(request):
    author, _ = Author.objects.get_or_create(name=request.POST["author"])
    added = Book.objects.create(title=request.POST["title"], author=author)
    return redirect(f"/books/{added.pk}/")


def visits(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JsonResponse({"visits": request.session["visits"]})
