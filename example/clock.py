"""Marks as most packages have them: for so many seconds after a write, and no shorter."""

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from django_replicas.marks import Marks
from django_replicas.stores import CookieStore


class ClockStore(CookieStore):
    """Carries deadlines only: whoever wrote reads the leader for ``PIN_SECONDS``."""

    def save(self, request: HttpRequest, response: HttpResponseBase, marks: Marks) -> None:
        deadlines = {alias: mark.without_position() for alias, mark in marks.items()}
        super().save(request, response, deadlines)
