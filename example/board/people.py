"""Who is visiting: a name in a signed cookie, without sessions."""

from django.http import HttpRequest, HttpResponseBase

NAME_COOKIE = "name"


def name_of(request: HttpRequest) -> str:
    """Return the name that this visitor writes under, if they gave one."""
    return str(request.get_signed_cookie(NAME_COOKIE, default=""))


def remember_name(response: HttpResponseBase, name: str) -> None:
    """Let the visitor's next requests carry the name."""
    response.set_signed_cookie(NAME_COOKIE, name, httponly=True, samesite="Lax")


def visitor(request: HttpRequest) -> dict[str, object]:
    """Give every page the visitor's name. A context processor."""
    return {"name": name_of(request)}
