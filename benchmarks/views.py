"""The pages that are asked for: nothing, five reads, one write."""

from django.http import HttpRequest, HttpResponse
from django.urls import path

from django_replicas import pin
from django_replicas.jobs import marks_to_send

from .models import Note

READS = 5


def empty(request: HttpRequest) -> HttpResponse:
    return HttpResponse(b"nothing")


def read(request: HttpRequest) -> HttpResponse:
    titles = [Note.objects.get(pk=number).title for number in range(1, READS + 1)]
    return HttpResponse(" ".join(titles).encode())


def write(request: HttpRequest) -> HttpResponse:
    Note.objects.create(title="written", text="now", author="somebody", language="en")
    return HttpResponse(b"written")


def pin_and_write(request: HttpRequest) -> HttpResponse:
    pin("default")
    return write(request)


def write_and_queue(request: HttpRequest) -> HttpResponse:
    """Write, queue two jobs, write again, queue another; the response is a fourth carrier."""
    write(request)
    marks_to_send()
    marks_to_send()
    write(request)
    marks_to_send()
    return HttpResponse(b"queued")


urlpatterns = [
    path("empty", empty),
    path("read", read),
    path("write", write),
    path("write-and-queue", write_and_queue),
    path("pin-and-write", pin_and_write),
]
