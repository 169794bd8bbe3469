"""What the package tells whoever listens, beside the log.

Listeners run where it happens. One that raises changes nothing: Django logs its error.
"""

from typing import Any

from asgiref.sync import iscoroutinefunction
from django.dispatch import Signal

from .conf import read_anew


class RoutedSignal(Signal):
    """A signal that costs nothing while nobody listens.

    Reads that a shortcut answers are not told of, so none is taken while anybody listens. Listeners
    are plain functions, because they may be called on an event loop; a coroutine function is
    refused with ``TypeError``.
    """

    def connect(self, receiver: Any, *args: Any, **kwargs: Any) -> None:
        if iscoroutinefunction(receiver):
            raise TypeError(f"{receiver!r} is async; reads are answered without awaiting anything.")
        super().connect(receiver, *args, **kwargs)
        # All shortcuts, in every thread, hang on the configuration.
        read_anew()


routed = RoutedSignal()
"""A read was answered. From its model: ``alias``, ``reason``, and ``unit``, None outside any."""

follower_down = Signal()
"""A follower could not be reached. From its ``Followers``: ``alias``, ``leader``, ``error``."""

follower_up = Signal()
"""A follower that was down can be reached again. From its ``Followers``: ``alias``, ``leader``."""

cluster_changed = Signal()
"""A cluster has other nodes. From its ``Cluster``: ``added``, ``removed``, ``version``."""

discovery_failed = Signal()
"""A cluster's nodes could not be learned, or not again. From its ``Cluster``: ``error``."""

peer_down = Signal()
"""A peer could not be connected to. From its ``Peers``: ``alias``, ``peer``, ``reason``, ``error``.

``alias`` is the one that has the peer; ``reason`` is an ``Outage``.
"""

peer_up = Signal()
"""A peer that was down was connected to. From its ``Peers``: ``alias``, ``peer``, ``reason``."""

session_write = Signal()
"""A session was written behind the cache, or was not. From the class of its store: ``outcome``,
``session_key``, and ``error``, None where there was none. Listeners run where it happens, mostly in
the queue's threads."""

follower_lags = Signal()
"""A follower is further behind than ``MAX_LAG``. From its ``Followers``: ``alias``, ``leader``,
``why``, a text."""

follower_caught_up = Signal()
"""A follower that lagged no longer does. From its ``Followers``: ``alias``, ``leader``."""
