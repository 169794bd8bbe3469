"""Marks in a cookie."""

import math
import time
from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers

from django_replicas.conf import get_config
from django_replicas.marks import Marks

from .codec import last_of, marks_in
from .signing import signed_marks, unsigned


class CookieStore:
    """Keeps marks in a signed cookie.

    Whatever is unreadable, forged, expired or about an unknown alias is dropped in silence.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def load(self, request: HttpRequest) -> Marks:
        text = unsigned(request.COOKIES.get(get_config().cookie.name))
        return marks_in(text, self._clock())

    def save(self, request: HttpRequest, response: HttpResponseBase, marks: Marks) -> None:
        cookie = get_config().cookie
        now = self._clock()
        value = signed_marks(marks, now)
        if not value:
            return
        response.set_cookie(
            cookie.name,
            value,
            path=cookie.path,
            domain=cookie.domain,
            secure=request.is_secure() if cookie.secure is None else cookie.secure,
            httponly=cookie.httponly,
            samesite=cookie.samesite,
        )
        # Django would say it a second time, in a date, for browsers that are gone (RFC 6265, 5.3).
        response.cookies[cookie.name]["max-age"] = math.ceil(last_of(marks)) - int(now)
        if "Vary" in response.headers:
            patch_vary_headers(response, ["Cookie"])
        else:
            response.headers["Vary"] = "Cookie"
