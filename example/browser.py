"""A small browser: one connection, a cookie jar, forms with their CSRF token, redirects."""

import re
from collections.abc import Callable
from http.client import HTTPConnection, HTTPResponse
from http.cookiejar import CookieJar
from typing import NamedTuple
from urllib.parse import urlencode
from urllib.request import Request

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
REDIRECTS = {301, 302, 303}
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


class Page(NamedTuple):
    """One response: its status, its text, and who answered the reads behind it."""

    path: str
    status: int
    text: str
    follower_reads: int
    leader_reads: int

    def token(self) -> str:
        found = TOKEN.search(self.text)
        return found[1] if found else ""


class Browser:
    """Somebody's browser; `note` is told of every response, redirects included."""

    def __init__(self, port: int, note: Callable[[Page], None]) -> None:
        self._site = f"http://127.0.0.1:{port}"
        self._connection = HTTPConnection("127.0.0.1", port, timeout=20)
        self._cookies = CookieJar()
        self._note = note

    def get(self, path: str) -> Page:
        """Load a page."""
        return self._load(Request(self._site + path))

    def submit(self, form_on: Page, path: str, **fields: str) -> Page:
        """Send the form of a page, with the page's token, and follow where the site leads."""
        fields["csrfmiddlewaretoken"] = form_on.token()
        return self._load(Request(self._site + path, urlencode(fields).encode(), FORM))

    def close(self) -> None:
        self._connection.close()

    def _load(self, request: Request) -> Page:
        self._cookies.add_cookie_header(request)
        self._connection.request(
            request.get_method(), request.selector, request.data, dict(request.header_items())
        )
        response = self._connection.getresponse()
        text = response.read().decode()
        self._cookies.extract_cookies(response, request)
        page = _page(request.selector, response, text)
        self._note(page)
        if response.status in REDIRECTS:
            return self.get(response.headers["Location"])
        return page


def _page(path: str, response: HTTPResponse, text: str) -> Page:
    reads = dict(part.split("=") for part in response.headers.get("X-Reads", "").split())
    followers, leader = int(reads.get("followers", 0)), int(reads.get("leader", 0))
    return Page(path, response.status, text, followers, leader)
