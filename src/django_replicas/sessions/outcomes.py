"""What became of the writes behind the cache: counted, and told to whoever listens."""

from collections import Counter
from enum import StrEnum
from typing import Any

from django_replicas.signals import session_write


class Outcome(StrEnum):
    """What became of a write."""

    WRITTEN = "written"
    """The database has it, or had something newer."""
    RETRIED = "retried"
    """It failed and will be tried again."""
    GIVEN_UP = "given up"
    """It failed for too long, or met a session that somebody else had made under its key. In the
    first case the cache still has it, and the next load tries again."""
    SYNCHRONOUS = "synchronous"
    """The caller waited for it: no cache, no room in the queue, no thread, or a transaction."""
    DROPPED = "dropped"
    """The session had ended: there was a tombstone, or no row any more."""


counts: Counter[Outcome] = Counter()
"""How often, in this process, since it began."""


def tell(sender: type, outcome: Outcome, key: str, error: BaseException | None = None) -> None:
    """Count what became of a write, and tell whoever listens."""
    counts[outcome] += 1
    told: dict[str, Any] = {"outcome": outcome, "session_key": key, "error": error}
    session_write.send_robust(sender, **told)
