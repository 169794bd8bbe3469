"""Stores that carry less than they are given, to stand for how it is done elsewhere."""

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from django_replicas.marks import Marks
from django_replicas.stores import CookieStore


class ClockStore(CookieStore):
    """Carries deadlines only, so that whoever wrote reads the leader for ``PIN_SECONDS``."""

    def save(self, request: HttpRequest, response: HttpResponseBase, marks: Marks) -> None:
        super().save(
            request, response, {alias: mark.without_position() for alias, mark in marks.items()}
        )


class NoStore:
    """Carries nothing, so that a pin ends with its request."""

    def load(self, request: HttpRequest) -> Marks:
        return {}

    def save(self, request: HttpRequest, response: HttpResponseBase, marks: Marks) -> None:
        pass
