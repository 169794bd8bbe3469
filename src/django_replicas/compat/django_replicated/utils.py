"""The states of routing, and the router's answers, where nobody has the router at hand."""

from typing import Any

from django.db import router

from .dbchecker import get_object_name
from .router import ReplicationRouter, States

__all__ = ["Routers", "get_object_name", "routers"]


class Routers(States):
    """The states, and all else that the ``ReplicationRouter`` in ``DATABASE_ROUTERS`` has."""

    def __getattr__(self, name: str) -> Any:
        # Whoever looks at a module's objects asks for such names, before there are settings.
        if not name.startswith("_"):
            for each in router.routers:
                if isinstance(each, ReplicationRouter):
                    return getattr(each, name)
        raise AttributeError(
            f"routers.{name} is asked of ReplicationRouter, and DATABASE_ROUTERS does not name it. "
            "Name it there, or ask django.db.router, or django_replicas.get_follower().",
            name=name,
            obj=self,
        )


routers = Routers()
