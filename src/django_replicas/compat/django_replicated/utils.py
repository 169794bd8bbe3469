"""The states of routing, where nobody has the router at hand."""

from .router import States

__all__ = ["routers"]

routers = States()
