"""The routers that note in a cache what was written lately."""

from typing import TYPE_CHECKING, Any

from django_replicas.compat import refuse_hooks
from django_replicas.conf import get_config
from django_replicas.readers import tables_of
from django_replicas.recency import KEY_PREFIX
from django_replicas.routers import SessionPinnedRouter

from .distributed_router import DistributedRouter

if TYPE_CHECKING:
    from django.db.models import Model

HOOKS = {
    "update_cache": (
        "writes are seen in their SQL. Give it another name, and call update_cache() in it for "
        "what is in no SQL."
    )
}


class CachedRouter(DistributedRouter):
    """``SessionPinnedRouter`` without a key of its own: subclasses give it."""

    is_recently_updated = SessionPinnedRouter.is_recently_updated

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_hooks(CachedRouter, cls, HOOKS)

    def get_cache_key(self, model: "type[Model]") -> str | None:
        raise NotImplementedError(
            f"{type(self).__name__} has to return in get_cache_key(model) the key under which "
            "writes to a model are noted; SessionCachedRouter is the one that goes by the session."
        )

    def update_cache(self, model: "type[Model]") -> None:
        """Count as written here what no SQL on the leader's connection shows."""
        leader, config = self.db_for_write(model), get_config()
        if leader in config.topology.by_leader:
            self._meet_write(leader, config, tables_of(model))


class SessionCachedRouter(CachedRouter):
    """``SessionPinnedRouter``, by the name that it had.

    ``cache_key_prefix`` keeps nothing apart any more: keys are hashed, each with its session's.
    """

    cache_key_prefix = KEY_PREFIX
    get_cache_key = SessionPinnedRouter.get_cache_key
