"""Clients of one cluster: each used by one caller at a time, retried in one place.

Neither library's client can be shared by threads, and Django hands one cache object to several of
them once async code has touched it. So clients belong to nobody: a call takes the one that was used
last, and gives it back. A client of nodes that are no longer the cluster's is closed instead, once
the call that it is in has ended.
"""

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from types import ModuleType
from typing import Any, Protocol

from django.core.signals import setting_changed

from .discovery import Cluster, View
from .forks import page_of_one_process

Call = Callable[..., Any]


class Library(Protocol):
    """A client library, as far as it differs from the others."""

    def __init__(self, options: Mapping[str, Any], node_timeout: float) -> None:
        """Take the OPTIONS that are the client's; no node is waited for longer, in seconds."""

    @staticmethod
    def module() -> ModuleType:
        """Return what is imported; raise ``InvalidCacheBackendError`` where it is not installed."""

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> list[str]:
        """Return what is wrong in them, in words that help."""

    @staticmethod
    def ejecting(options: Mapping[str, Any]) -> bool:
        """Tell whether nodes that do not answer are left out."""

    errors: tuple[type[BaseException], ...]
    """What its clients raise."""

    def is_answer(self, error: BaseException) -> bool:
        """Tell whether a healthy node said this, so that its client can be used again."""

    def connect(self, addresses: list[tuple[str, int]]) -> Any:
        """Return a client of these nodes, whose ``disconnect_all`` ends its connections."""


class Lent:
    """A client, the nodes that it was made for, and the last failure before it was."""

    __slots__ = ("client", "failure", "view")

    def __init__(self, client: Any, view: View, failure: object) -> None:
        self.client = client
        self.view = view
        self.failure = failure


class Clients:
    """All clients of one configuration in this process; at most as many as calls at one time.

    A call that meets a node in trouble has the cluster looked at again, and is made again
    *retries* times. With *ejecting* the nodes that do not answer are left out until they do, and
    their keys go to the others.
    """

    def __init__(self, cluster: Cluster, library: Library, retries: int, *, ejecting: bool) -> None:
        self.cluster = cluster
        self.library = library
        self.retries = retries
        self.ejecting = ejecting
        self._idle: deque[Lent] = deque()
        self._last_failure = object()
        _all_clients.add(self)

    def calling(self, name: str) -> Call:
        """Return a function that makes the clients' call of this name."""
        errors, is_answer = self.library.errors, self.library.is_answer
        idle, take = self._idle, self._take

        def call(*arguments: Any, **options: Any) -> Any:
            retries = self.retries
            while True:
                lent = take()
                try:
                    answer = getattr(lent.client, name)(*arguments, **options)
                except errors as error:
                    if is_answer(error):
                        idle.append(lent)
                        raise
                    self._give_up(lent, wait=retries > 0)
                    if not retries:
                        raise
                    retries -= 1
                except BaseException:
                    # Half a reply may be waiting in it, as after Ctrl-C.
                    self._close(lent)
                    raise
                else:
                    idle.append(lent)
                    return answer

        return call

    def attribute(self, name: str) -> Any:
        """Return what one of the clients has under this name."""
        lent = self._take()
        try:
            return getattr(lent.client, name)
        finally:
            self._idle.append(lent)

    def close(self) -> None:
        """Close every client that nobody is using."""
        while self._idle:
            try:
                lent = self._idle.pop()
            except IndexError:  # Another thread took the last one.
                return
            self._close(lent)

    def begin_anew(self) -> None:
        """Leave to the parent what is left of it in a forked child, and close none of it."""
        self.cluster.begin_anew()
        _of_the_parent.extend(self._idle)
        self._idle.clear()

    def _take(self) -> Lent:
        if not _page[0]:
            _after_fork()
        view = self.cluster.view()
        while True:
            try:
                lent = self._idle.pop()
            except IndexError:
                return Lent(self._connected(view), view, self._last_failure)
            if lent.view is view and lent.failure is self._last_failure:
                return lent
            self._close(lent)

    def _connected(self, view: View) -> Any:
        endpoint = self.cluster.source.endpoint
        nodes = view.alive if self.ejecting else view.nodes
        return self.library.connect([(endpoint.host_of(node), node.port) for node in nodes])

    def _give_up(self, lent: Lent, *, wait: bool) -> None:
        """Part with a client that failed, and ask why it did."""
        if lent.view.down and not self.ejecting:
            # Its failing is expected: no other would do better until the node is back.
            self._idle.append(lent)
        else:
            # Whatever broke its connections broke those of the others too, also of those in use.
            # One of pymemcache would besides keep its keys elsewhere than they do.
            self._last_failure = object()
            self._close(lent)
            self.close()
        self.cluster.suspect(lent.view, wait=wait)

    def _close(self, lent: Lent) -> None:
        lent.client.disconnect_all()


class RetryingClient:
    """What a cache object takes for its client: each call goes to one that is free."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def __getattr__(self, name: str) -> Any:
        attribute = self._clients.attribute(name)
        if not callable(attribute):
            return attribute
        call = self._clients.calling(name)
        setattr(self, name, call)
        return call

    def disconnect_all(self) -> None:
        self._clients.close()


# Every configuration's, so that threads, tasks and cache objects share them.

_all_clients: weakref.WeakSet[Clients] = weakref.WeakSet()
_by_settings: dict[Hashable, Clients] = {}
_lock = threading.Lock()
_page = page_of_one_process()
# What was not closed before a fork, because threads gave it back too late, or nobody told of the
# fork. A child that closed its copies, or let them go, would say goodbye to the nodes on its
# parent's connections.
_of_the_parent: list[Lent] = []


def clients_for(settings: Hashable, make: Callable[[], Clients]) -> Clients:
    """Return the clients made for these settings, the same ones for the whole process."""
    with _lock:
        if settings not in _by_settings:
            _by_settings[settings] = make()
        return _by_settings[settings]


def forget_clients() -> None:
    """Close the clients, and make new ones for whoever asks."""
    with _lock:
        forgotten = [*_by_settings.values()]
        _by_settings.clear()
    for clients in forgotten:
        clients.close()


def close_clients() -> None:
    """Close every client of this process that nobody is using."""
    for clients in _every():
        clients.close()


def _every() -> list[Clients]:
    with _lock:  # Others are added with it held.
        return [*_all_clients]


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    for clients in _every():
        clients.begin_anew()
    _page[0] = 1


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting == "CACHES":
        forget_clients()


setting_changed.connect(_forget, dispatch_uid="django_replicas.cache.clients")
if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no forks
    os.register_at_fork(before=close_clients, after_in_child=_after_fork)
