"""Leader/follower database routing for Django: users see their own writes, followers do the work.

Importing this touches no settings, models or apps.
"""

from .atomic_requests import atomic_in_leader_role
from .decorators import (
    use_follower,
    use_leader,
    use_master,
    use_slave,
    with_followers,
    with_leaders,
)
from .pinning import (
    bind,
    follower,
    get_newly_pinned,
    get_pinned,
    is_pinned,
    leader,
    pin,
    unit_of_work,
    unpin_all,
)
from .scopes import current_unit
from .settling import get_follower
from .topology import populate_replicas

master = leader
unpinned_replica = follower
get_replica = get_follower

__all__ = [
    "atomic_in_leader_role",
    "bind",
    "current_unit",
    "follower",
    "get_follower",
    "get_newly_pinned",
    "get_pinned",
    "get_replica",
    "is_pinned",
    "leader",
    "master",
    "pin",
    "populate_replicas",
    "unit_of_work",
    "unpin_all",
    "unpinned_replica",
    "use_follower",
    "use_leader",
    "use_master",
    "use_slave",
    "with_followers",
    "with_leaders",
]
