"""How new a stored session is, told by the time in its signature.

Django signs session data with the second of its encoding, and never looks at it again. Here it is
a nanosecond, made to grow with every save of the session, so that two states of one session can be
compared wherever they are kept. Django's own engines read such data, and their data is read here.
"""

import time
from typing import Any

from django.core.signing import TimestampSigner, b62_decode, b62_encode

UNKNOWN = 0
NANOSECONDS = 10**9
# Above the seconds and below the nanoseconds of any time that matters here.
SECONDS_END = 10**13


class VersionSigner(TimestampSigner):
    """Signs with a version where Django has the present second."""

    def __init__(self, version: int, salt: str) -> None:
        super().__init__(salt=salt)
        self._version = version

    def timestamp(self) -> str:
        return b62_encode(self._version)


def next_version(after: int = UNKNOWN) -> int:
    """Return a version that is newer than the one given, and the present time if that is newer."""
    return max(time.time_ns(), after + 1)


def encode(data: dict[str, Any], version: int, salt: str, serializer: Any) -> str:
    """Return the session's data as Django stores it, with its version."""
    signer = VersionSigner(version, salt)
    text: str = signer.sign_object(data, serializer=serializer, compress=True)
    return text


def version_of(session_data: str) -> int:
    """Return the version of stored data, ``UNKNOWN`` where another encoding hides it."""
    try:
        version = b62_decode(session_data.rsplit(":", 2)[1])
    except (IndexError, ValueError):
        return UNKNOWN
    return version * NANOSECONDS if version < SECONDS_END else version
