"""Pages whose every read is of what their user wrote last, and which tell who answered."""

from collections.abc import Callable, Iterator

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from .contenders import LEADER
from .models import Note

READS = 5

FollowerHas = Callable[[int, int], bool]

# Whether a follower has a version of a note now; asked where the leader answered a GET's read.
follower_has: FollowerHas | None = None


def own(request: HttpRequest, pk: int, version: int) -> HttpResponse:
    """Read the user's note five times, or four times before writing the version that is named.

    Each read is told as who answered, whether it had the version, and whether a follower had it.
    """
    if request.method == "POST":
        answers = [(_read(pk)[0], True, False) for _ in range(READS - 1)]
        Note.objects.filter(pk=pk).update(rating=version)
    else:
        answers = list(_judged(pk, version))
    return JsonResponse(answers, safe=False)


def _read(pk: int) -> tuple[str, int]:
    note = Note.objects.get(pk=pk)
    return str(note._state.db), note.rating


def _judged(pk: int, version: int) -> Iterator[tuple[str, bool, bool]]:
    for _ in range(READS):
        alias, found = _read(pk)
        could = alias != LEADER or (follower_has is not None and follower_has(pk, version))
        yield alias, found >= version, could


urlpatterns = [path("own/<int:pk>/<int:version>", own)]
