"""What a store of marks is."""

from typing import Protocol

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from django_replicas.marks import Marks


class MarkStore(Protocol):
    """Keeps a user's marks between requests. ``MARK_STORE`` names one by its dotted path.

    One instance serves all threads. ``load`` never raises for anything a client may send; ``save``
    is called only for requests that wrote.
    """

    def load(self, request: HttpRequest) -> Marks: ...

    def save(self, request: HttpRequest, response: HttpResponseBase, marks: Marks) -> None: ...
