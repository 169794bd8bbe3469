"""What most tests have somebody do: read the book that says who answers, and write to it."""

from .models import Book


def answer():
    return Book.objects.get(pk=1).title


async def aanswer():
    return (await Book.objects.aget(pk=1)).title


def write():
    Book.objects.filter(pk=1).update(note="written")


async def awrite():
    await Book.objects.filter(pk=1).aupdate(note="written")
