"""The same follower for the same client, while that follower lives, and again when it is back."""

from collections.abc import Sequence
from hashlib import blake2b
from ipaddress import ip_address

from django.http import HttpRequest

from .clients import client_key
from .origins import origin_of
from .scopes import current_scope, on_event_loop
from .session_keys import key_that_came


def ranked(client: str, aliases: Sequence[str]) -> list[str]:
    """Return the followers in the order in which a client prefers them.

    The same in every process. Each client has an order of its own (rendezvous hashing: Thaler and
    Ravishankar, "Using name-based mappings to increase hit rates", 1998), so that the clients of
    one that is lost are shared out among the others, and nobody else moves.
    """
    return sorted(aliases, key=lambda alias: _weight(client, alias), reverse=True)


def _weight(client: str, alias: str) -> bytes:
    # Its own length first, so that no two pairs make one text.
    text = f"{len(alias)} {alias} {client}".encode(errors="surrogatepass")
    return blake2b(text, digest_size=8).digest()


def client_here() -> str | None:
    """Return what tells the client of this unit's request from others; None without a request.

    Where nothing else does, it is the address that the request came from.
    """
    unit = current_scope().unit
    request = None if unit is None else origin_of(unit).request
    return None if request is None else _key_of(request) or _address_of(request)


def _key_of(request: HttpRequest) -> str | None:
    if not on_event_loop():
        return client_key(request)
    # Nothing may be waited for here, as the user of a session is.
    session = key_that_came(request)
    return None if session is None else f"session {session}"


def _address_of(request: HttpRequest) -> str | None:
    """Return the client's address; None where it is that of a proxy on this machine.

    All the clients of such a proxy would be taken for one.
    """
    address: str = request.META.get("REMOTE_ADDR", "")
    try:
        return None if ip_address(address).is_loopback else f"address {address}"
    except ValueError:
        return None
