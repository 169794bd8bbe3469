"""System checks: what is wrong with the configuration, told before it surprises anybody."""

from .caches import check_caches
from .databases import check_databases
from .peers import check_peers
from .requests import check_requests
from .routing import check_routing
from .servers import check_servers
from .sessions import check_sessions
from .settings import check_settings
from .views import check_views

__all__ = [
    "check_caches",
    "check_databases",
    "check_peers",
    "check_requests",
    "check_routing",
    "check_servers",
    "check_sessions",
    "check_settings",
    "check_views",
]
