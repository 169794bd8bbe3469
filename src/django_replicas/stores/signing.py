"""Text that comes back from clients as it was sent: signed as everything that Django signs."""

import hmac
from functools import cache

from django.core.signals import setting_changed
from django.core.signing import BadSignature, Signer, b64_encode
from django.utils.crypto import salted_hmac
from django.utils.encoding import force_bytes

from django_replicas.marks import Marks

from .codec import as_text

# The longest cookie that browsers keep, and less than servers take of one header.
LONGEST = 4096


def signed(text: str) -> str:
    """Return text that a client may carry and not change."""
    return _signer().sign(text)


def signed_marks(marks: Marks, now: float) -> str:
    """Return what carries the marks that are not past, empty where none is left.

    Where positions are so many that it would be dropped for its length, deadlines stand for them.
    """
    text = as_text(marks, now)
    value = signed(text) if text else ""
    if len(value) <= LONGEST:
        return value
    return signed(as_text({each: mark.without_position() for each, mark in marks.items()}, now))


def unsigned(value: str | None) -> str | None:
    """Return what was signed; None where it is absent, forged or longer than anything of ours."""
    if value is None or len(value) > LONGEST:
        return None
    try:
        return _signer().unsign(value)
    except BadSignature:
        return None


class MarkSigner(Signer):
    """Signs just as Django's ``Signer`` does, but derives its key once and not each time."""

    def signature(self, value: str | bytes, key: str | bytes | None = None) -> str:
        signature = _keyed(self.salt, self.key if key is None else key).copy()
        signature.update(force_bytes(value))
        return b64_encode(signature.digest()).decode()


@cache
def _keyed(salt: str, key: str | bytes) -> hmac.HMAC:
    return salted_hmac(f"{salt}signer", b"", key, algorithm="sha256")


@cache
def _signer() -> Signer:
    return MarkSigner(salt="django_replicas.marks")


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting in {"SECRET_KEY", "SECRET_KEY_FALLBACKS"}:
        _signer.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_replicas.stores.signing")
