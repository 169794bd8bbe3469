"""Why a read went where it went."""

from enum import StrEnum
from typing import NamedTuple


class Reason(StrEnum):
    """The rule that answered a read; the value is what traces and pages show."""

    NO_SET = "not the leader of a set"
    DISABLED = "routing is disabled"
    OUTSIDE = "outside any unit of work"
    LEADER_MODEL = "a model that reads its leader"
    BLOCK = "inside a leader() or follower() block"
    INSTANCE = "an object from the leader"
    TRANSACTION = "inside a transaction on the leader"
    EVENT_LOOP = "on an event loop"
    ROLE = "the unit's role"
    PINNED = "pinned"
    WRITTEN = "the unit wrote"
    MARKED = "an earlier unit wrote"
    RECENT = "the session wrote this model, or may have"
    FOLLOWER = "the unit's follower"
    NO_FOLLOWER = "no follower left"
    CONFLICT = "a follower cancelled a read"


Answer = tuple[str, Reason]


class Decision(NamedTuple):
    """One answered read: the alias, the reason, and the model's label in lower case."""

    alias: str
    reason: Reason
    model: str
