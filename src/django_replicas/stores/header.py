"""Marks in a header, for clients without cookies."""

import time
from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import patch_cache_control, patch_vary_headers

from django_replicas.conf import get_config
from django_replicas.marks import Marks

from .codec import marks_in
from .signing import signed_marks, unsigned


class HeaderStore:
    """Keeps marks in a signed header, which clients send back as they received it last.

    Whatever is unreadable, forged, expired or about an unknown alias is dropped in silence.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def load(self, request: HttpRequest) -> Marks:
        text = unsigned(request.headers.get(get_config().mark_header))
        return marks_in(text, self._clock())

    def save(self, request: HttpRequest, response: HttpResponseBase, marks: Marks) -> None:
        value = signed_marks(marks, self._clock())
        if not value:
            return
        name = get_config().mark_header
        response.headers[name] = value
        patch_vary_headers(response, [name])
        # A stored copy would give others this client's mark, and the client an older one back.
        # Django's own cache middleware goes by "private" alone.
        patch_cache_control(response, private=True, no_store=True)
