"""Both backends on real nodes: every method, both protocols, nodes that die, hang and come back."""

import asyncio
import copy
import ctypes
import gc
import json
import os
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib import import_module
from threading import Barrier, Thread
from types import SimpleNamespace

import pytest
from asgiref.sync import sync_to_async
from django.core.cache import InvalidCacheBackendError, caches
from django.core.cache.backends.memcached import PyLibMCCache, PyMemcacheCache

from django_replicas.cache import libraries
from django_replicas.cache.clients import Clients, _after_fork, _page, clients_for, forget_clients
from django_replicas.cache.elasticache import ElastiCache, PyMemcacheElastiCache
from django_replicas.cache.options import as_key, read_location
from django_replicas.exceptions import DiscoveryError
from servers.configuration_endpoint import ConfigurationEndpoint, entry, listing
from servers.memcached import Memcached
from servers.ports import free_port
from servers.waiting import wait_until

from . import clusters
from .clusters import BINARY, KINDS, PYMEMCACHE, TEXT, keys_on, kinds
from .conftest import NO_PYLIBMC

if os.environ.get("CI") != "true":
    pytest.importorskip("pylibmc", reason=NO_PYLIBMC)
pylibmc = import_module("pylibmc")

OF_PYLIBMC = {"binary": BINARY, "text": TEXT}
MANY = [f"key{n}" for n in range(60)]

of_pylibmc = pytest.mark.parametrize("kind", OF_PYLIBMC.values(), ids=OF_PYLIBMC)
pytestmark = pytest.mark.usefixtures("in_haste")

in_haste, use, certificate = clusters.in_haste, clusters.use, clusters.certificate


@pytest.fixture(scope="module")
def shared():
    """Two nodes that no test harms, and their endpoint."""
    with ConfigurationEndpoint() as endpoint, Memcached() as one, Memcached() as two:
        endpoint.name([one.location, two.location])
        yield endpoint


@pytest.fixture
def nodes():
    """Two nodes to be harmed."""
    with Memcached() as one, Memcached() as two:
        yield [one, two]


@pytest.fixture
def endpoint(nodes):
    with ConfigurationEndpoint() as endpoint:
        endpoint.name([node.location for node in nodes])
        yield endpoint


@pytest.fixture
def cache(use, shared, request):
    cache = use(request.param, shared)
    cache.clear()
    return cache


each = pytest.mark.parametrize("cache", KINDS.values(), ids=KINDS, indirect=True)


class Awaited:
    """A cache through its async methods."""

    def __init__(self, cache):
        self._cache = cache

    def __getattr__(self, name):
        return lambda *given, **named: asyncio.run(
            getattr(self._cache, f"a{name}")(*given, **named)
        )


@pytest.fixture(params=["sync", "async"])
def methods(request, cache):
    return cache if request.param == "sync" else Awaited(cache)


# Every method


@each
def test_methods(methods):
    """Every method of a cache, sync and async, does what Django documents."""
    assert methods.add("a", 1)
    assert not methods.add("a", 2)
    assert methods.get("a") == 1
    methods.set("b", [1, "two"])
    assert methods.get_many(["a", "b", "c"]) == {"a": 1, "b": [1, "two"]}
    assert methods.get("c", "default") == "default"
    assert methods.get_or_set("d", lambda: 4) == 4
    assert methods.has_key("d")
    assert not methods.has_key("e")
    assert methods.incr("a", 5) == 6
    assert methods.decr("a", 2) == 4
    assert methods.set_many({"x": 1, "y": 2}) == []
    methods.delete_many(["x"])
    assert methods.get_many(["x", "y"]) == {"y": 2}
    assert methods.touch("y", 100)
    assert not methods.touch("nothing", 100)
    assert methods.incr_version("y") == 2
    assert methods.get("y", version=2) == 2
    assert methods.decr_version("y", version=2) == 1
    assert methods.delete("y")
    assert not methods.delete("y")
    methods.set("none", None)
    assert methods.get("none", "default") is None
    methods.clear()
    assert methods.get("b") is None
    methods.close()


@each
@pytest.mark.parametrize("timeout", [0, -1, -100])
def test_expired_already(methods, timeout):
    """A timeout of nothing or less is over at once, in the binary protocol too."""
    methods.set("set", 1, timeout)
    assert methods.add("add", 1, timeout)
    methods.set_many({"many": 1}, timeout)
    methods.set("touch", 1, None)
    assert methods.touch("touch", timeout)
    assert methods.get_many(["set", "add", "many", "touch"]) == {}


@pytest.mark.parametrize(
    ("libmemcached", "options", "in_text"),
    [
        ("1.0.16", {}, True),
        ("1.0.16", {"binary": False}, False),
        ("1.0.16", {"username": "somebody", "password": "secret"}, False),
        ("1.1.4", {}, False),
    ],
)
def test_touch_in_text(monkeypatch, libmemcached, options, in_text):
    """The wheels' libmemcached is spared the binary touch, which waits for its whole time."""
    monkeypatch.setattr(pylibmc, "libmemcached_version", libmemcached)
    library = libraries.PyLibMC(options, 2.0)
    client = library.connect([("127.0.0.1", free_port())])
    assert (client.touch.__self__ is not client) == in_text
    assert client.touch.__self__.binary == (options.get("binary", True) and not in_text)
    client.disconnect_all()


@each
@pytest.mark.parametrize("timeout", [None, 60, 60 * 60 * 24 * 31])
def test_not_expired(methods, timeout):
    """Other timeouts are theirs: for ever, some time, and longer than memcached counts."""
    methods.set("set", 1, timeout)
    assert methods.touch("set", timeout)
    assert methods.get("set") == 1


@pytest.fixture
def others(cache):
    """Two more clients, which nothing that a healthy node says may cost their connections."""
    clients = cache._clients
    several = [clients._take() for _ in range(2)]
    clients._idle.extend(several)
    yield
    assert {*several} <= {*clients._idle}
    assert {lent.failure for lent in several} == {clients._last_failure}


@each
def test_incr_of_what_cannot_be_counted(cache, others):
    """A missing key is a ValueError; what is no number is the library's own error."""
    refused = (
        cache._lib.exceptions.MemcacheClientError
        if isinstance(cache, PyMemcacheElastiCache)
        else cache._lib.ClientError
    )
    with pytest.raises(ValueError, match="missing' not found"):
        cache.incr("missing")
    cache.set("text", "x")
    for change in (cache.incr, cache.decr):
        with pytest.raises(refused):
            change("text")
        assert cache.get("text") == "x"


@of_pylibmc
def test_incr_fails_otherwise(use, shared, kind):
    """The same error about a number is not taken for another."""
    cache = use(kind, shared)
    cache.set("number", 1)
    failure = cache._lib.UnknownReadFailure

    def fail(*arguments):
        raise failure

    lent = cache._clients._take()
    with pytest.raises(failure):
        lent.client._counted(fail, cache.make_key("number"), 1)
    assert not cache._clients.library.is_answer(failure())


@each
def test_too_large(cache, others):
    """A value that is refused leaves no older one behind, and breaks no connection."""
    cache.set("large", "small")
    with pytest.raises(Exception, match=r"object too large|^$"):
        cache.set("large", "x" * 2**21)
    assert cache.get("large") is None


@each
def test_attributes_of_clients(cache):
    """What a client has beside its calls can be looked at."""
    assert not hasattr(cache._cache, "_private")
    with pytest.raises(AttributeError):
        _ = cache._cache.nothing
    if isinstance(cache, PyLibMCCache):
        assert cache._cache.behaviors["tcp_nodelay"] == 1
        assert cache._cache.behaviors["ketama"] == 1
    else:
        assert isinstance(cache, PyMemcacheCache)
        assert cache._cache.default_kwargs["no_delay"] is True


@each
def test_nodes_of_a_cache(cache, shared):
    """A cache names its nodes, and its cluster, which is the process's."""
    assert cache.nodes == [str(node) for node in cache.cluster.view().nodes]
    assert len(cache.nodes) == 2
    assert str(cache.cluster) == shared.location


@kinds
def test_discovery_is_no_part_of_calls(use, kind, endpoint):
    """After the first call nobody asks the endpoint."""
    cache = use(kind, endpoint)
    cache.get("a")
    before = len(endpoint.commands)
    for n in range(50):
        cache.set(f"{n}", n)
    cache.get_many(map(str, range(50)))
    assert len(endpoint.commands) == before


# Threads


@each
def test_one_object_in_many_threads(cache):
    """Any number of threads may share one cache object: neither client could be shared."""
    together = Barrier(8)

    def work(thread):
        together.wait()
        for n in range(200):
            cache.set(f"{thread}-{n % 10}", (thread, n))
            assert cache.get(f"{thread}-{n % 10}") == (thread, n)
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert 1 <= len(cache._clients._idle) <= 8


@each
def test_one_object_in_many_tasks(cache):
    """What async code touched is shared by the threads that it sends work to."""

    async def main():
        assert await caches["default"].aget("nothing") is None
        work = sync_to_async(
            lambda n: caches["default"].get_or_set(f"{n}", n), thread_sensitive=False
        )
        return await asyncio.gather(*(work(n) for n in range(100)))

    assert asyncio.run(main()) == list(range(100))


@each
def test_connections_outlive_cache_objects(cache, shared, settings):
    """Objects come and go with tasks; the clients are the process's."""
    cache.get("a")
    clients = list(cache._clients._idle)
    for _ in range(3):
        options = copy.copy(settings.CACHES["default"]["OPTIONS"])
        again = type(cache)(shared.location, {"OPTIONS": options})
        again.get("a")
        again.close()
        assert list(again._clients._idle) == clients


@each
def test_connections_end_when_told(cache):
    """Whoever says so ends those connections that nobody uses."""
    cache.set("a", 1)
    cache._cache.disconnect_all()
    assert not cache._clients._idle
    assert cache.get("a") == 1


def test_interrupted_call(use, shared):
    """A call that ends otherwise leaves no client behind that may hold half a reply."""
    cache = use(PYMEMCACHE, shared)
    cache.set("a", 1)

    class Interrupting:
        def serialize(self, key, value):
            raise KeyboardInterrupt

        def deserialize(self, key, value, flags):
            raise KeyboardInterrupt

    for client in cache._clients._idle[0].client.clients.values():
        client.serde = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        cache.get("a")
    assert not cache._clients._idle
    assert cache.get("a") == 1


@each
def test_fork(cache):
    """A child has connections of its own, and its end takes nothing from its parent."""
    cache.set("a", 1)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:  # pragma: no cover - the child's own life
        status = 1
        try:
            os.write(writing, json.dumps([cache.get("a"), cache.incr("a")]).encode())
            forget_clients()
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    for _ in range(50):
        assert cache.get("a") in {1, 2}
    _, status = os.waitpid(child, 0)
    said = os.read(reading, 1000)
    os.close(reading)
    assert (status, json.loads(said)) == (0, [1, 2])
    assert cache.get("a") == 2


# As servers in C do: Python is not told, and its hooks are not called.
FORKS = {"by Python": os.fork, "by a server": ctypes.PyDLL(None).fork}


@each
@pytest.mark.parametrize("fork", FORKS.values(), ids=FORKS)
def test_fork_that_was_not_expected(cache, monkeypatch, fork):
    """What a thread gives back in the last moment is its parent's; a child leaves it alone."""
    cache.set("a", 1)
    with monkeypatch.context() as patch:
        patch.setattr(Clients, "close", lambda self: None)
        child = fork()
    if not child:  # pragma: no cover - the child's own life
        status = 1
        try:
            parents = {*cache._clients._idle}
            found = [cache.get("a") for _ in range(50)]
            gc.collect()
            status = found != [1] * 50 or not parents.isdisjoint(cache._clients._idle)
        finally:
            os._exit(status)
    found = [cache.get("a") for _ in range(50)]
    assert os.waitpid(child, 0)[1] == 0
    assert found == [1] * 50
    assert cache.get("a") == 1


@each
def test_whoever_finds_the_page_empty_is_a_child(cache):
    """It leaves its parent's connections alone, and knows itself from then on."""
    cache.set("a", 1)
    parents = {*cache._clients._idle}
    _page[0] = 0
    assert cache.get("a") == 1
    assert parents.isdisjoint(cache._clients._idle)
    assert _page[0] == 1


def test_after_fork():
    """A lock that another thread of the parent held holds no child up."""
    with clients_lock_held():
        _after_fork()
        clients = SimpleNamespace(close=lambda: None)
        assert clients_for("nobody's", lambda: clients) is clients


@contextmanager
def clients_lock_held():
    from django_replicas.cache import clients  # noqa: PLC0415 - the module itself

    with clients._lock:
        yield


# Nodes in trouble


@kinds
def test_dead_node(use, kind, nodes, endpoint):
    """With a retry nobody notices a dead node; its keys go to the others until it is back."""
    cache = use(kind, endpoint, CALL_RETRY_COUNT=1)
    cache.set_many(dict.fromkeys(MANY, 1))
    assert 0 < len(keys_on(nodes[0], MANY)) < len(MANY)
    stay = keys_on(nodes[1], MANY)
    nodes[0].kill()
    assert cache.get_many(MANY).items() <= dict.fromkeys(stay, 1).items()
    assert cache.set_many(dict.fromkeys(MANY, 2)) == []
    assert cache.get_many(MANY) == dict.fromkeys(MANY, 2)
    nodes[0].start()
    wait_until(lambda: cache.get("any") or not cache.cluster.view().down, "the node is back")
    cache.set_many(dict.fromkeys(MANY, 3))
    assert 0 < len(keys_on(nodes[0], MANY)) < len(MANY)


@kinds
def test_dead_node_without_retries(use, kind, nodes, endpoint):
    """Without retries the calls that met it fail; then it is left out as well."""
    cache = use(kind, endpoint)
    cache.set_many(dict.fromkeys(MANY, 1))
    nodes[0].kill()
    failed = 0
    for key in MANY:
        try:
            cache.set(key, 2)
        except cache._clients.library.errors:
            failed += 1
    assert failed
    wait_until(lambda: cache.cluster.view().down, "it was found")
    assert len(cache.get_many(MANY)) < len(MANY)


@kinds
def test_retried_async(use, kind, nodes, endpoint):
    """The async methods are retried as the others are."""
    cache = Awaited(use(kind, endpoint, CALL_RETRY_COUNT=1))
    cache.set_many(dict.fromkeys(MANY, 1))
    nodes[0].kill()
    for key in MANY:
        cache.set(key, 2)
        assert cache.get(key) == 2


@of_pylibmc
@pytest.mark.parametrize("name", ["remove_failed", "auto_eject"])
def test_not_ejecting(use, kind, name, nodes, endpoint):
    """Told not to leave nodes out, the keys of a dead one fail until it is back, and no longer."""
    cache = use(kind, endpoint, behaviors={name: 0}, CALL_RETRY_COUNT=2)
    cache.set_many(dict.fromkeys(MANY, 1))
    lost = keys_on(nodes[0], MANY)
    nodes[0].kill()
    kept = []
    for _ in range(2):
        for key in MANY:
            if key in lost:
                with pytest.raises(cache._clients.library.errors):
                    cache.set(key, 2)
            else:
                assert cache.get(key) == 1
        # Once the node is known to be down its failing is expected, and breaks no connection.
        kept = kept or list(cache._clients._idle)
        assert list(cache._clients._idle) == kept
    nodes[0].start()
    some = min(set(MANY) - lost)
    wait_until(lambda: cache.get(some) and not cache.cluster.view().down, "the node is back")
    assert cache.set_many(dict.fromkeys(MANY, 2)) == []
    assert keys_on(nodes[0], MANY) == lost


@of_pylibmc
@pytest.mark.parametrize("name", ["remove_failed", "auto_eject"])
def test_ejecting_as_told(use, kind, name, nodes, endpoint):
    """Either name leaves dead nodes out, with every libmemcached."""
    cache = use(kind, endpoint, behaviors={name: 1}, CALL_RETRY_COUNT=1)
    untold = pylibmc.Client(["127.0.0.1"], behaviors={"ketama": True})
    assert cache._cache.behaviors[name] == untold.behaviors[name]
    cache.set_many(dict.fromkeys(MANY, 1))
    nodes[0].kill()
    cache.set_many(dict.fromkeys(MANY, 2))
    assert cache.get_many(MANY) == dict.fromkeys(MANY, 2)


@kinds
def test_restarted_node(use, kind, nodes, endpoint):
    """A node that was restarted unseen breaks each connection once; a retry mends it."""
    cache = use(kind, endpoint, CALL_RETRY_COUNT=1)
    cache.set_many(dict.fromkeys(MANY, 1))
    stay = keys_on(nodes[1], MANY)
    nodes[0].kill()
    nodes[0].start()
    assert cache.get_many(MANY).items() <= dict.fromkeys(stay, 1).items()
    cache.set_many(dict.fromkeys(MANY, 2))
    assert keys_on(nodes[1], MANY) == stay
    assert keys_on(nodes[0], MANY) == {*MANY} - stay


def test_restarted_node_breaks_all_connections(use, nodes, endpoint):
    """After one call that failed no client is kept that was connected to the same nodes."""
    cache = use(PYMEMCACHE, endpoint, CALL_RETRY_COUNT=1)
    clients = cache._clients
    several = [clients._take() for _ in range(3)]
    for lent in several:
        lent.client.set(cache.make_key("key"), 1)
    clients._idle.extend(several)
    for node in nodes:
        node.kill()
        node.start()
    cache.set("key", 2)
    assert len(clients._idle) == 1
    assert clients._idle[0] not in several


def test_clients_in_use_while_others_fail(use, nodes, endpoint, monkeypatch):
    """A client that comes back while a call is made again is no better than the one that failed."""
    cache = use(PYMEMCACHE, endpoint, CALL_RETRY_COUNT=1)
    clients = cache._clients
    failing, in_use = clients._take(), clients._take()
    for lent in (failing, in_use):
        lent.client.set(cache.make_key("key"), 1)
    clients._idle.append(failing)
    for node in nodes:
        node.kill()
        node.start()
    monkeypatch.setattr(cache.cluster, "suspect", lambda *_, **__: clients._idle.append(in_use))
    cache.set("key", 2)
    assert cache.get("key") == 2
    assert in_use not in clients._idle


@kinds
def test_hanging_node(use, kind, nodes, endpoint):
    """A node that hangs is waited for as long as NODE_TIMEOUT says, and left out after that."""
    cache = use(kind, endpoint, NODE_TIMEOUT=0.1, DISCOVERY_TIMEOUT=0.1, CALL_RETRY_COUNT=2)
    if kind is PYMEMCACHE:
        limits = cache._cache.default_kwargs
        assert (limits["connect_timeout"], limits["timeout"]) == (0.1, 0.1)
    else:
        limits = cache._cache.behaviors
        assert (limits["connect_timeout"], limits["_poll_timeout"]) == (100, 100)
    cache.set_many(dict.fromkeys(MANY, 1))
    nodes[0].freeze()
    for key in MANY:
        cache.set(key, 2)
    wait_until(lambda: cache.cluster.view().down, "the node was found")
    cache.set_many(dict.fromkeys(MANY, 3))
    assert cache.get_many(MANY) == dict.fromkeys(MANY, 3)


@kinds
def test_all_nodes_dead(use, kind, nodes, endpoint):
    """With no node left the library's own error is raised, after all retries."""
    cache = use(kind, endpoint, CALL_RETRY_COUNT=2)
    cache.set("a", 1)
    for node in nodes:
        node.kill()
    with pytest.raises(cache._clients.library.errors):
        cache.set("a", 2)


@kinds
def test_new_list_while_calls_fail(use, kind, nodes, endpoint):
    """A call that fails has the list read again: a replaced node is known before its retry."""
    cache = use(kind, endpoint, CALL_RETRY_COUNT=1)
    cache.set_many(dict.fromkeys(MANY, 1))
    with Memcached() as third:
        nodes[0].kill()
        endpoint.name([third.location, nodes[1].location])
        cache.set_many(dict.fromkeys(MANY, 2))
        assert cache.get_many(MANY) == dict.fromkeys(MANY, 2)
        assert keys_on(third, MANY)
        forget_clients()


# Endpoints


@kinds
def test_no_list(use, kind, endpoint):
    """Without a list there is no cache, and the error says why."""
    endpoint.say(b"ERROR\r\n")
    cache = use(kind, endpoint)
    with pytest.raises(DiscoveryError, match="knows no discovery; it said b'ERROR'"):
        cache.get("a")


@kinds
def test_ignore_cluster_errors(use, kind, nodes):
    """A plain memcached may stand in for a cluster, as on a developer's machine."""
    cache = use(kind, nodes[0], IGNORE_CLUSTER_ERRORS=True)
    cache.set("a", 1)
    assert keys_on(nodes[0], ["a"]) == {"a"}


@kinds
def test_ipv6(use, kind):
    """Nodes with IPv6 addresses, and hostnames where there is no address."""
    if kind is not PYMEMCACHE and pylibmc.libmemcached_version.startswith("1.0."):
        pytest.skip("The libmemcached in pylibmc's wheels looks up no IPv6 addresses.")
    with Memcached(host="::1") as six, Memcached() as named, ConfigurationEndpoint() as endpoint:
        endpoint.say(listing(1, [entry(six.location), f"localhost||{named.port}"]))
        cache = use(kind, endpoint)
        cache.set_many(dict.fromkeys(MANY, 1))
        assert keys_on(named, MANY)
        assert len(keys_on(named, MANY)) < len(MANY)
        assert cache.get_many(MANY) == dict.fromkeys(MANY, 1)
        forget_clients()


def test_tls(use, certificate):
    """With a TLS context endpoint and nodes are spoken to in TLS, by the names to be verified."""
    with (
        Memcached(tls=certificate.files) as node,
        ConfigurationEndpoint(tls=certificate.serving()) as endpoint,
    ):
        endpoint.say(listing(1, [entry(node.location, "localhost")]))
        location = f"localhost:{endpoint.port}"
        cache = use(PYMEMCACHE, location, tls_context=certificate.trusting())
        cache.set("a", 1)
        assert cache.get("a") == 1
        assert caches["default"]._clients is cache._clients
        node.kill()
        with pytest.raises(cache._clients.library.errors):
            cache.set("a", 2)
        node.start()
        wait_until(lambda: not cache.cluster.view().down, "the node is back")
        assert cache.get("a") is None
        distrusting = use(PYMEMCACHE, location, tls_context=ssl.create_default_context())
        with pytest.raises(DiscoveryError, match="CERTIFICATE_VERIFY_FAILED"):
            distrusting.get("a")
        forget_clients()


def test_serverless(use, certificate):
    """A serverless cache: TLS, and one endpoint that knows no discovery."""
    with Memcached(tls=certificate.files) as node:
        cache = use(
            PYMEMCACHE,
            f"localhost:{node.port}",
            tls_context=certificate.trusting(),
            IGNORE_CLUSTER_ERRORS=True,
        )
        cache.set_many(dict.fromkeys(MANY, 1))
        assert cache.get_many(MANY) == dict.fromkeys(MANY, 1)
        forget_clients()


def test_many_keys_of_a_serverless_cache(use, endpoint):
    """No command is longer than serverless caches take, and each key is asked for once."""
    endpoint.reply = lambda command: [b"END\r\n" if command.startswith(b"get ") else b"ERROR\r\n"]
    cache = use(PYMEMCACHE, endpoint, IGNORE_CLUSTER_ERRORS=True)
    keys = [f"{n:0>247}" for n in range(200)]
    assert cache.get_many(iter(keys)) == {}
    asked = [command for command in endpoint.commands if command.startswith(b"get ")]
    assert max(map(len, asked)) + 2 <= 16 * 1024
    assert [key for command in asked for key in command.decode().split()[1:]] == [
        cache.make_key(key) for key in keys
    ]
    assert len(asked) == 4


# Settings


@kinds
def test_options_are_not_edited(settings, kind, shared):
    """The caller's OPTIONS win, and are the same afterwards."""
    backend, own = kind
    client = {"timeout": 7} if kind is PYMEMCACHE else {"behaviors": {"ketama": False}}
    options = own | client | {"CALL_RETRY_COUNT": 1}
    before = copy.deepcopy(options)
    settings.CACHES = {
        "default": {"BACKEND": backend, "LOCATION": shared.location, "OPTIONS": options}
    }
    caches["default"].set("a", 1)
    assert options == before
    looked = caches["default"]._cache
    assert (
        looked.default_kwargs["timeout"] == 7
        if kind is PYMEMCACHE
        else looked.behaviors["ketama"] == 0
    )


@kinds
@pytest.mark.parametrize("location", ["host:11211", ["host:11211"], ("[::1]:11211",)])
def test_good_locations(use, kind, location):
    """One endpoint, as text or alone in a list; nothing is asked before it is used."""
    assert use(kind, location).cluster.version == -1


@pytest.mark.parametrize(
    ("location", "problem"),
    [
        ("one:1,two:2", "LOCATION 'one:1,two:2' names 2 servers; name one, the cluster's"),
        ("one:1;two:2", "names 2 servers"),
        (["one:1", "two:2"], "names 2 servers"),
        ([], "names 0 servers"),
        ("host", "LOCATION 'host' has no port; write 'host:11211'."),
        ("host:", "has no port"),
        ("host:port", "has no port"),
        ("host:0", "has no port"),
        ("host:65536", "has no port"),
        ("::1", "has no port; write '[::1]:11211'."),
        ("[::1]", "has no port; write '[::1]:11211'."),
        ("", "names no host"),
        (":11211", "names no host"),
        ("unix:/run/memcached/socket", "has no port"),
        ("/run/memcached/socket", "names no host"),
        (None, "LOCATION must be host:port, not None."),
        ([None], "LOCATION must be host:port"),
        (11211, "LOCATION must be host:port"),
    ],
)
def test_wrong_locations(location, problem):
    """What cannot be an endpoint is refused, in words that help."""
    with pytest.raises(InvalidCacheBackendError) as raised:
        read_location(location)
    assert problem in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "options", "problem"),
    [
        (BINARY, {"CALL_RETRY_COUNT": -1}, "OPTIONS['CALL_RETRY_COUNT'] must be a whole number"),
        (BINARY, {"CALL_RETRY_COUNT": True}, "OPTIONS['CALL_RETRY_COUNT'] must be a whole"),
        (BINARY, {"CALL_RETRY_COUNT": 101}, "from 0 to 100, not 101."),
        (BINARY, {"DISCOVERY_INTERVAL": 0}, "OPTIONS['DISCOVERY_INTERVAL'] must be a number of"),
        (BINARY, {"DISCOVERY_TIMEOUT": float("nan")}, "OPTIONS['DISCOVERY_TIMEOUT'] must be"),
        (BINARY, {"NODE_TIMEOUT": "2"}, "OPTIONS['NODE_TIMEOUT'] must be a number"),
        (BINARY, {"NODE_TIMEOUT": True}, "OPTIONS['NODE_TIMEOUT'] must be a number"),
        (BINARY, {"IGNORE_CLUSTER_ERRORS": 1}, "must be True or False, not 1."),
        (BINARY, {"IGNORE_CLUSTER_ERROR": True}, "'IGNORE_CLUSTER_ERROR'] is unknown; pylibmc's"),
        (BINARY, {"ketama": True}, "is a behavior: move it into OPTIONS['behaviors']"),
        (BINARY, {"tls_context": None}, "does not speak: use PyMemcacheElastiCache"),
        (BINARY, {"use_vpc_ip_address": True}, "is not needed: nodes are reached by their addr"),
        (PYMEMCACHE, {"use_vpc_ip_address": False}, "with TLS by their names. Remove it."),
        (BINARY, {"behaviors": ["ketama"]}, "OPTIONS['behaviors'] must be a dict"),
        (BINARY, {"behaviors": {"katema": 1}}, "OPTIONS['behaviors'] has unknown 'katema'."),
        (BINARY, {"behaviors": {"hash": "nothing"}}, "The client refuses its OPTIONS: KeyError"),
        (PYMEMCACHE, {"hasher": 5}, "The client refuses its OPTIONS: TypeError("),
        (PYMEMCACHE, {"tls_context": True}, "['tls_context'] must be an ssl.SSLContext, not True."),
        (PYMEMCACHE, {"tls_context": {}}, "OPTIONS['tls_context'] must be an ssl.SSLContext"),
        (PYMEMCACHE, {"behaviors": {}}, "is pylibmc's; pymemcache has no binary protocol"),
        (PYMEMCACHE, {"binary": True}, "is pylibmc's"),
        (PYMEMCACHE, {"servers": []}, "OPTIONS['servers'] is unknown; pymemcache's are"),
    ],
)
def test_wrong_options(use, kind, options, problem):
    """What no client and no backend knows is refused before anything is connected to."""
    cache = use(kind, "host:11211", **options)
    for call in (lambda: cache.get("a"), lambda: cache.cluster):
        with pytest.raises(InvalidCacheBackendError) as raised:
            call()
    assert problem in str(raised.value)


@kinds
def test_options_are_looked_at_once(use, kind, monkeypatch):
    """Tasks have cache objects of their own, made of what is known of these options."""
    cache = use(kind, "host:11211")
    monkeypatch.setattr(type(cache._clients.library), "problems", None)
    assert type(cache)("host:11211", {"OPTIONS": dict(kind[1])})._clients is cache._clients


def test_shortest_wait():
    """A wait below a thousandth of a second is one of that, not none at all."""
    limits = libraries.PyLibMC({}, 1e-5).connect([("127.0.0.1", 1)]).behaviors
    assert (limits["connect_timeout"], limits["_poll_timeout"]) == (1, 1)


def test_options_that_are_no_dict(settings):
    """So are OPTIONS that have no names."""
    with pytest.raises(InvalidCacheBackendError, match="OPTIONS must be a dict, not 'x'"):
        ElastiCache("host:11211", {"OPTIONS": "x"})


def test_no_options():
    """All have defaults."""
    assert ElastiCache("host:11211", {})._clients.retries == 0


def test_library_is_missing(monkeypatch):
    """A library that is not there is said to be an extra."""
    monkeypatch.setitem(sys.modules, "pylibmc", None)
    with pytest.raises(InvalidCacheBackendError, match=r"Install django-replicas\[pylibmc\]"):
        ElastiCache("host:11211", {})
    monkeypatch.setattr(libraries, "import_module", lambda name: None.missing)


def test_keys_of_settings():
    """Equal settings share clients; what cannot be compared is itself alone."""

    class Unhashable:
        __hash__ = None

    one, other = Unhashable(), Unhashable()
    assert as_key({"a": [1, {"b": 2}]}) == as_key({"a": [1, {"b": 2}]})
    assert as_key({"a": one}) == as_key({"a": one})
    assert as_key({"a": one}) != as_key({"a": other})
    assert as_key(one) != 1
    assert {as_key(one), as_key(one)} == {as_key(one)}


def test_clients_are_closed_by_one_of_many(use, shared, monkeypatch):
    """Clients that another thread takes while all are being closed are its own."""
    clients = use(PYMEMCACHE, shared)._clients
    monkeypatch.setattr(clients, "_idle", OnceGone())
    clients.close()


class OnceGone:
    """A queue that somebody else empties after it was looked at."""

    def __bool__(self):
        return True

    def pop(self):
        raise IndexError


def test_nobody_listens_at_the_endpoint(use):
    """An endpoint that is not there is said to be unreachable."""
    cache = use(PYMEMCACHE, f"127.0.0.1:{free_port()}")
    with pytest.raises(DiscoveryError, match="cannot be connected to"):
        cache.get("a")


def test_threads_do_not_wait_for_each_other(use, nodes, endpoint):
    """A call on a node that hangs keeps no other from its own node."""
    cache = use(PYMEMCACHE, endpoint, NODE_TIMEOUT=30)
    cache.set_many(dict.fromkeys(MANY, 1))
    on_hanging, on_other = (min(keys_on(node, MANY)) for node in nodes)
    nodes[0].freeze()
    with ExitStack() as undo:
        waiting = Thread(target=cache.get, args=(on_hanging,))
        waiting.start()
        undo.callback(waiting.join)
        undo.callback(nodes[0].thaw)
        for _ in range(10):
            assert cache.get(on_other) == 1
        assert waiting.is_alive()
