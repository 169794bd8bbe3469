"""The router whose subclasses say by themselves what was written lately."""

from typing import TYPE_CHECKING, Any

from django.db import DEFAULT_DB_ALIAS

from django_replicas.compat import refuse_hooks
from django_replicas.conf import get_config
from django_replicas.routers import SessionPinnedRouter
from django_replicas.settling import get_follower

if TYPE_CHECKING:
    from django.db.models import Model

HOOKS = {"follower_db": 'say which follower is read by "BALANCE" in REPLICAS.'}


class DistributedRouter(SessionPinnedRouter):
    """``SessionPinnedRouter`` without an answer of its own: subclasses give it."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_hooks(DistributedRouter, cls, HOOKS)

    def is_recently_updated(self, model: "type[Model]") -> bool:
        raise NotImplementedError(
            f"{type(self).__name__} has to say in is_recently_updated(model) whether the leader is "
            "read; SessionCachedRouter is the one that goes by the session."
        )

    @property
    def leader_db(self) -> str:
        """The leader's alias, that of the first set where there are several."""
        return next(iter(get_config().topology.by_leader), DEFAULT_DB_ALIAS)

    @property
    def follower_db(self) -> str:
        """The alias of a follower that lives, the leader's where none does."""
        return get_follower(self.leader_db)
