"""Work of this package's own in the midst of a unit."""

from .conf import get_config
from .pinning import Block
from .scopes import Scope
from .units import LEADER, Unit


def aside() -> Block:
    """Return a block whose reads go to leaders, unasked for marks; its writes pin nothing."""
    return Block(_on_leaders)


def _on_leaders(scope: Scope) -> Scope:
    leaders = dict.fromkeys(get_config().topology.by_leader, LEADER)
    return scope._replace(unit=scope.unit or Unit(), overrides=leaders)
