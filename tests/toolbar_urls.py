"""A page that Django Debug Toolbar puts itself into, in both kinds of view."""

from asgiref.sync import sync_to_async
from django.db import transaction
from django.http import HttpResponse
from django.urls import include, path

from django_replicas import pin, unit_of_work

from .shop.models import Book, Shelf


def page(text):
    return HttpResponse(f"<html><head></head><body>{text}</body></html>")


def read(request):
    titles = [Book.objects.get(pk=1).title for _ in range(int(request.GET.get("times", 3)))]
    return page(", ".join(titles))


async def read_async(request):
    return page((await Book.objects.aget(pk=1)).title)


def write(request):
    Shelf.objects.create(name="new")
    with transaction.atomic(), pin("default"):
        return page(Book.objects.get(pk=1).title)


def nothing(request):
    with unit_of_work():
        return page("nothing")


urlpatterns = [
    path("read", read),
    path("read-async", read_async),
    path("write", write),
    path("write-async", sync_to_async(write, thread_sensitive=True)),
    path("nothing", nothing),
    path("__debug__/", include("debug_toolbar.urls")),
]
