"""Nodes come, go, die and are replaced under load: from threads, tasks and processes."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from queue import Queue
from threading import Thread

import pytest
from django.core.cache import caches

from servers.configuration_endpoint import ConfigurationEndpoint
from servers.memcached import Memcached
from servers.waiting import wait_until

from . import clusters
from .cache_worker import Load
from .clusters import KINDS, keys_on, kinds

CHECKOUT = Path(__file__).resolve().parent.parent
INTERVAL = 0.1
MANY = [f"key{n}" for n in range(300)]
pytestmark = pytest.mark.usefixtures("in_haste")

in_haste, use = clusters.in_haste, clusters.use


class Cluster:
    """An endpoint and the nodes that it names."""

    def __init__(self, endpoint, start):
        self.location = endpoint.location
        self._endpoint = endpoint
        self._start = start
        self.nodes = [start() for _ in range(3)]
        self.tell()

    @property
    def locations(self):
        return frozenset(node.location for node in self.nodes)

    def tell(self):
        self._endpoint.name(self.locations)

    def add(self):
        self.nodes.append(self._start())
        self.tell()
        return self.nodes[-1]

    def remove(self):
        """Take a node off the list; return it, alive, to be ended when nobody uses it."""
        gone = self.nodes.pop(0)
        self.tell()
        return gone

    def kill_and_replace(self):
        """A node dies; only then another one takes its place."""
        self.nodes.pop(0).kill()
        self.nodes.append(self._start())
        self.tell()

    def kill(self):
        """A node dies, and stays on the list."""
        self.nodes[0].kill()
        return self.nodes[0]


@pytest.fixture
def cluster():
    with ExitStack() as undo:
        endpoint = undo.enter_context(ConfigurationEndpoint())
        cluster = Cluster(endpoint, lambda: undo.enter_context(Memcached()))
        yield cluster


@pytest.fixture
def configured(cluster, use):
    def configured(kind, **options):
        return use(kind, cluster, DISCOVERY_INTERVAL=INTERVAL, **options)

    return configured


def in_use(load, locations):
    wait_until(lambda: load.agreed == locations, f"all of them use {sorted(locations)}")


@kinds
def test_nodes_come_and_go(cluster, configured, kind):
    """Nodes that are added, and those that go in order, cost no call, without any retry."""
    configured(kind)
    with Load() as load:
        in_use(load, cluster.locations)
        cluster.add()
        in_use(load, cluster.locations)
        gone = cluster.remove()
        in_use(load, cluster.locations)
        # Until the last call that began before has ended.
        before = +load.calls
        wait_until(
            lambda: all(load.calls[name] > before[name] + 1 for name in before), "they went on"
        )
        gone.kill()
        cluster.add()
        in_use(load, cluster.locations)
    assert not load.errors


@kinds
def test_nodes_die_and_are_replaced(cluster, configured, kind):
    """Nodes that die under load and are replaced cost no call that may be made again."""
    configured(kind, CALL_RETRY_COUNT=2)
    with Load() as load:
        in_use(load, cluster.locations)
        for _ in range(2):
            cluster.kill_and_replace()
            in_use(load, cluster.locations)
    assert not load.errors


@kinds
def test_nodes_die_and_come_back(cluster, configured, kind):
    """A node that dies and stays on the list costs none either, nor does its coming back."""
    configured(kind, CALL_RETRY_COUNT=2)
    with Load() as load:
        in_use(load, cluster.locations)
        node = cluster.kill()
        known = caches["default"].cluster
        wait_until(lambda: known.view().down, "its death is known")
        node.start()
        wait_until(lambda: not known.view().down, "its return is known")
        before = load.calls.total()
        wait_until(lambda: load.calls.total() > before + 200, "they went on")
    assert not load.errors


@kinds
def test_dead_without_retries(cluster, configured, kind):
    """Without retries only calls on the dead node fail, until it is known to be dead."""
    configured(kind)
    with Load() as load:
        in_use(load, cluster.locations)
        cluster.kill()
        known = caches["default"].cluster
        wait_until(lambda: known.view().down, "its death is known")
        # Calls that began before it was known may still end.
        before = +load.calls
        wait_until(
            lambda: all(load.calls[name] > before[name] + 1 for name in before), "they went on"
        )
        errors, calls = load.errors.total(), load.calls.total()
        wait_until(lambda: load.calls.total() > calls + 500, "they went on")
        assert load.errors.total() == errors


@kinds
def test_keys_move_to_a_new_node_alone(cluster, configured, kind):
    """A new node takes its share; no key moves from one of the others to another."""
    cache = configured(kind)
    cache.set_many(dict.fromkeys(MANY, 1))
    new = cluster.add()
    wait_until(lambda: {*cache.nodes} == cluster.locations, "the new node is in use")
    lost = {*MANY} - {*cache.get_many(MANY)}
    assert 0 < len(lost) < len(MANY) / 2
    cache.set_many(dict.fromkeys(MANY, 2))
    assert keys_on(new, MANY) == lost


@kinds
def test_keys_of_a_removed_node_alone_move(cluster, configured, kind):
    """What the remaining nodes held they still hold."""
    cache = configured(kind)
    cache.set_many(dict.fromkeys(MANY, 1))
    gone = cluster.remove()
    wait_until(lambda: {*cache.nodes} == cluster.locations, "it is out of use")
    assert {*cache.get_many(MANY)} == {*MANY} - keys_on(gone, MANY)


class Worker:
    """Another process at work; what it says is taken from a queue."""

    def __init__(self, configured):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.cache_worker", json.dumps(configured)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
            env={k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"},
        )
        self._said = Queue()
        self._thread = Thread(target=self._listen)
        self._thread.start()

    def _listen(self):
        for line in self._process.stdout:
            self._said.put(json.loads(line))

    def says(self):
        return self._said.get(timeout=30)

    def end(self):
        self._process.stdin.close()
        self._process.wait(30)
        self._thread.join(30)
        self._process.stdout.close()


def test_processes(cluster):
    """Each process follows by itself: nodes added, removed, killed and replaced."""
    options = {"DISCOVERY_INTERVAL": INTERVAL, "CALL_RETRY_COUNT": 2}
    configured = {
        name: {
            "BACKEND": backend,
            "LOCATION": cluster.location,
            "KEY_PREFIX": name,
            "OPTIONS": own | options,
        }
        for name, (backend, own) in KINDS.items()
    }
    with ExitStack() as undo:
        workers = [Worker(configured) for _ in range(2)]
        for worker in workers:
            undo.callback(worker.end)
        for change in (lambda: None, cluster.add, cluster.remove, cluster.kill_and_replace):
            change()
            for worker in workers:
                while worker.says() != sorted(cluster.locations):
                    pass
    for worker in workers:
        errors, calls = worker.says()
        assert errors == {}
        assert calls > 100
