"""The clusters that this process knows: their nodes, learned once, looked at again beside requests.

One ``Cluster`` serves all threads, tasks and cache objects with the same endpoint and options. A
forked child goes on with the list of its parent.
"""

import logging
import os
import random
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from django.core.signals import setting_changed

from django_replicas.deadlines import Deadline
from django_replicas.exceptions import (
    DiscoveryError,
    EndpointUnreachableError,
    NoDiscoveryError,
)
from django_replicas.liveness import Liveness
from django_replicas.signals import cluster_changed, discovery_failed

from .endpoint import Endpoint, ask, silent
from .replies import Node, NodeList

logger = logging.getLogger(__name__)

# How soon something that failed is tried again: an endpoint that gave no first list, a node that
# is down, the nodes behind calls that go on failing.
RETRY_SECONDS = 1.0
# What is added to a wait for work that keeps its own time, so that its own error is the one told.
GRACE = 0.5


@dataclass(frozen=True, eq=False)
class View:
    """The nodes of a cluster at one moment, and which of them do not answer."""

    nodes: tuple[Node, ...]
    down: frozenset[Node] = frozenset()

    @property
    def alive(self) -> tuple[Node, ...]:
        """The nodes that answer; all of them where none does."""
        return tuple(node for node in self.nodes if node not in self.down) or self.nodes


@dataclass(frozen=True)
class Source:
    """Where nodes are learned, how often, and how long that may take, in seconds."""

    endpoint: Endpoint
    interval: float = 60.0
    timeout: float = 2.0
    may_be_single: bool = False

    def ask(self) -> NodeList:
        """Return what the endpoint says now; itself, older than any list, where it may be alone."""
        try:
            return ask(self.endpoint, self.timeout)
        except NoDiscoveryError:
            if self.may_be_single:
                return NodeList(-1, (Node(self.endpoint.host, "", self.endpoint.port),))
            raise


class Cluster:
    """The nodes behind one endpoint, shared by the whole process.

    The first caller waits for the list, and whoever comes meanwhile waits with it. Later lists are
    fetched by one thread of its own, beside the calls. A list is kept through errors, and replaced
    neither by an empty nor by an older one. Signals are sent from that thread. ``version`` is the
    list's, and ``looks`` counts how often the cluster was looked at.
    """

    def __init__(
        self,
        source: Source,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.source = source
        self.version = -1
        self.looks = 0
        self._clock = clock
        self._chance = chance
        self._view: View | None = None
        self._error: DiscoveryError | None = None
        self._ask_at = self._due = clock()
        self.begin_anew()
        _all_clusters.add(self)

    def begin_anew(self) -> None:
        """Forget threads and locks, which a forked child does not have, but not the nodes."""
        self._lock = threading.Lock()
        self._looking = Deadline(self._look)
        self._first_try = Liveness(RETRY_SECONDS, self._clock)
        self._suspects: View | None = None
        self._suspect_again_at = 0.0
        self._suspicious = self._busy = False
        if self._view is not None:
            # Not all children of one parent at once.
            self._plan_asking()
            self._plan_looking()

    def __str__(self) -> str:
        return str(self.source.endpoint)

    def view(self) -> View:
        """Return the nodes; raise ``DiscoveryError`` where they were never learned."""
        view = self._view
        if view is None:
            return self._first_view()
        if self._clock() >= self._due:
            self._look_beside()
        return view

    def suspect(self, view: View, *, wait: bool) -> None:
        """Look at nodes and list again, because a call failed on a node of *view*.

        Those who wait return when it is known. One view is looked at once a second at most.
        """
        with self._lock:
            if self._view is not view:
                return
            if self._may_suspect(view):
                self._suspicious = self._busy = True
            elif not self._busy:
                return
        if not wait:
            self._look_beside(suspicious=True)
            return
        self._look_now()
        # Where that was a look which had begun before the call failed, another one is needed.
        if self._busy:
            self._look_now()

    def _may_suspect(self, view: View) -> bool:
        now = self._clock()
        if view is self._suspects and now < self._suspect_again_at:
            return False
        self._suspects, self._suspect_again_at = view, now + RETRY_SECONDS
        return True

    def _first_view(self) -> View:
        tried = self._first_try.may_try(str(self))
        if tried:
            self._look_now()
        view = self._view
        if view is not None:
            self._first_try.mark_up(str(self))
            return view
        if tried:
            self._first_try.mark_down(str(self))
        raise _again(self._error or self._no_list("the log says why"))

    def _look_now(self) -> None:
        """Wait for a look, for as long as both its questions may take."""
        try:
            self._looking.result(2 * self.source.timeout + GRACE)
        except TimeoutError:
            self._busy = False
            self._failed(self._no_list("it took too long"))

    def _look_beside(self, *, suspicious: bool = False) -> None:
        with self._lock:
            if self._clock() < self._due and not suspicious:
                return
            # Nobody else until this look is over, or lost.
            self._due = self._clock() + self.source.interval
        try:
            self._looking.begin_unawaited()
        except TimeoutError as error:
            self._failed(self._no_list(f"no thread could ask it: {error}"))

    def _no_list(self, problem: str) -> DiscoveryError:
        return EndpointUnreachableError(
            f"The configuration endpoint {self} gave no list of nodes: {problem}.", str(self)
        )

    # In the thread that looks

    def _look(self) -> None:
        with self._lock:
            suspicious, self._suspicious = self._suspicious, False
        try:
            if self._view is None or suspicious or self._clock() >= self._ask_at:
                self._ask()
            self._try_nodes(suspicious)
        except Exception:
            logger.exception("Looking at the nodes of %s failed.", self)
        finally:
            with self._lock:
                self._busy = self._suspicious
            self._plan_looking()
            self.looks += 1

    def _ask(self) -> None:
        self._plan_asking()
        try:
            found = self.source.ask()
        except DiscoveryError as error:
            self._failed(error)
        else:
            if self._error is not None:
                logger.info("The configuration endpoint %s names its nodes again.", self)
            self._error = None
            self._adopt(found)

    def _failed(self, error: DiscoveryError) -> None:
        # Said once, not every minute until it is mended.
        log = logger.warning if self._error is None else logger.debug
        log("%s %s", error, "The known ones are kept." if self._view else "")
        self._error = error
        discovery_failed.send_robust(sender=self, error=error)

    def _adopt(self, found: NodeList) -> None:
        with self._lock:
            known = self._view
            if known is not None and found.version < self.version:
                if found.version >= 0:
                    logger.warning(
                        "%s names version %s of its nodes, older than %s, which is kept. "
                        "If the cluster was made anew, restart this process.",
                        self,
                        found.version,
                        self.version,
                    )
                return
            self.version = found.version
            if known is None or found.nodes != known.nodes:
                down = known.down & {*found.nodes} if known else frozenset()
                self._view = View(found.nodes, down)
        if known is not None and found.nodes != known.nodes:
            self._tell_changed(known.nodes, found)

    def _tell_changed(self, before: tuple[Node, ...], found: NodeList) -> None:
        added = tuple(node for node in found.nodes if node not in before)
        removed = tuple(node for node in before if node not in found.nodes)
        logger.info(
            "%s has other nodes: added %s, removed %s.", self, _listed(added), _listed(removed)
        )
        cluster_changed.send_robust(
            sender=self, added=added, removed=removed, version=found.version
        )

    def _try_nodes(self, suspicious: bool) -> None:
        view = self._view
        if view is None:
            return
        tried = view.nodes if suspicious else view.down
        down = silent(self.source.endpoint, tried, self.source.timeout) if tried else frozenset()
        with self._lock:
            if self._view is not view or down == view.down:
                return
            self._view = View(view.nodes, down)
        for node in down - view.down:
            logger.warning("%s: node %s does not answer.", self, node)
        for node in view.down - down:
            logger.info("%s: node %s answers again.", self, node)

    def _plan_asking(self) -> None:
        share = self._chance(0.75, 1.0)
        self._ask_at = self._due = self._clock() + share * self.source.interval

    def _plan_looking(self) -> None:
        view = self._view
        soon = self._clock() + RETRY_SECONDS if view and view.down else self._ask_at
        self._due = min(soon, self._ask_at)


def _listed(nodes: tuple[Node, ...]) -> str:
    return ", ".join(map(str, nodes)) or "none"


def _again(error: DiscoveryError) -> DiscoveryError:
    """Return a new error for each caller: one object would collect all their tracebacks."""
    return type(error)(str(error), error.endpoint, error.received)


# The registry

_all_clusters: weakref.WeakSet[Cluster] = weakref.WeakSet()
_clusters: dict[Source, Cluster] = {}
_lock = threading.Lock()


def cluster_of(source: Source) -> Cluster:
    """Return the cluster of this source, the same one for the whole process."""
    with _lock:
        if source not in _clusters:
            _clusters[source] = Cluster(source)
        return _clusters[source]


def forget_clusters() -> None:
    """Know no cluster any more; whoever holds one keeps it."""
    with _lock:
        _clusters.clear()


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    for cluster in list(_all_clusters):
        cluster.begin_anew()


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting == "CACHES":
        forget_clusters()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no forks
    os.register_at_fork(after_in_child=_after_fork)
setting_changed.connect(_forget, dispatch_uid="django_replicas.cache.discovery")
