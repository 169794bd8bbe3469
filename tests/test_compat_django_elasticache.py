"""A project that django-elasticache's README configures, with another dotted path.

Its entry of `CACHES` is the one of the page about moving over, led to real nodes.
"""

import copy
import json
from importlib import import_module
from io import StringIO

import pytest
from django.core.cache import InvalidCacheBackendError, caches
from django.core.management import call_command

from django_replicas.cache.elasticache import ElastiCache
from django_replicas.exceptions import DiscoveryError
from servers.configuration_endpoint import ConfigurationEndpoint
from servers.memcached import Memcached
from servers.ports import free_port
from servers.waiting import wait_until

from .clusters import keys_on
from .pages import python_of
from .test_elasticache import MANY, endpoint, in_haste, nodes, shared

COMPAT = "django_replicas.compat.django_elasticache"
BLOCKS = python_of("moving/django_elasticache")
__all__ = ["endpoint", "in_haste", "nodes", "shared"]
pytestmark = pytest.mark.usefixtures("in_haste")


def example(number):
    defined = {}
    exec(BLOCKS[number], defined)
    return defined["CACHES"]["default"]


@pytest.fixture
def use(settings):
    """Configure the page's cache, at a place that is here."""

    def use(location, number=0, **others):
        entry = {**example(number), "LOCATION": getattr(location, "location", location), **others}
        settings.CACHES = {"default": entry}
        return caches["default"]

    return use


# The README


@pytest.mark.parametrize("number", [0, 1])
def test_the_backend(use, shared, number):
    """"'BACKEND': 'django_elasticache.memcached.ElastiCache', 'LOCATION': 'cache-c.draaaf.cfg.
    use1.cache.amazonaws.com:11211', 'OPTIONS': {'IGNORE_CLUSTER_ERRORS': [True,False],
    'CALL_RETRY_COUNT': 1}".
    """  # fmt: skip
    cache = use(shared, number)
    cache.set("key", ["value"])
    assert cache.get("key") == ["value"]
    assert cache._clients.retries == 1
    assert cache.cluster.source.may_be_single
    assert isinstance(cache, ElastiCache)


def test_the_first_call_connects(use):
    """"By the first call to cache it connects to cluster (using LOCATION param), gets list of all
    nodes and setup pylibmc client using full list of nodes. As result your cache will work with
    all nodes in cluster".
    """  # fmt: skip
    with ConfigurationEndpoint() as endpoint, Memcached() as one, Memcached() as two:
        endpoint.name([one.location, two.location])
        cache = use(endpoint)
        assert endpoint.commands == []
        cache.set_many(dict.fromkeys(MANY, 1))
        assert b"config get cluster" in endpoint.commands
        on_one, on_two = (keys_on(node, MANY) for node in (one, two))
        assert on_one
        assert on_two
        assert on_one | on_two == {*MANY}


def test_new_nodes(use, nodes, endpoint):
    """ "automatically detect new nodes in cluster", here without "restart of working process"."""
    endpoint.name([nodes[0].location])
    cache = use(endpoint)
    cache.set_many(dict.fromkeys(MANY, 1))
    assert cache.get_cluster_nodes() == [nodes[0].location]
    endpoint.name([node.location for node in nodes])
    cache.clear_cluster_nodes_cache()
    assert cache.get_cluster_nodes() == sorted(node.location for node in nodes)
    cache.set_many(dict.fromkeys(MANY, 1))
    assert keys_on(nodes[1], MANY)


@pytest.mark.parametrize("ignored", [True, False])
def test_ignore_cluster_errors(use, nodes, ignored):
    """"When set to True, and config get cluster fails, it returns a list of a single node with the
    same endpoint supplied to LOCATION".
    """  # fmt: skip
    cache = use(nodes[0], OPTIONS={"IGNORE_CLUSTER_ERRORS": ignored})
    if ignored:
        cache.set("key", 1)
        assert cache.get("key") == 1
        assert cache.get_cluster_nodes() == [nodes[0].location]
    else:
        with pytest.raises(DiscoveryError, match="gave no list of nodes"):
            cache.get("key")


@pytest.mark.parametrize("retries", [1, 3])
def test_call_retry_count(use, nodes, endpoint, retries):
    """"If you set the CALL_RETRY_COUNT to at last 3 the system should be able to compensate for a
    state transition of Working -> Failed -> Dead without the application noticing it"; one will do.
    """  # fmt: skip
    cache = use(endpoint, OPTIONS={"CALL_RETRY_COUNT": retries})
    cache.set_many(dict.fromkeys(MANY, 1))
    nodes[0].kill()
    for key in MANY:
        cache.set(key, 2)
        assert cache.get(key) == 2


def test_parameters_for_performance(use, shared):
    """ "Django-elasticache changes default pylibmc params to increase performance"."""
    cache = use(shared, OPTIONS={})
    behaviors = cache._cache.behaviors
    assert (behaviors["tcp_nodelay"], behaviors["ketama"]) == (True, True)
    assert cache._cache.binary


def test_without_options(use, shared, settings):
    """"'BACKEND': 'django_elasticache.memcached.ElastiCache', 'LOCATION': 'cache-c.draaaf.cfg.use1.
    cache.amazonaws.com:11211'" is a whole entry.
    """  # fmt: skip
    use(shared)
    del settings.CACHES["default"]["OPTIONS"]
    settings.CACHES = {**settings.CACHES}
    cache = caches["default"]
    cache.set("key", 1)
    assert cache.get("key") == 1
    assert cache._clients.retries == 0


# Its entries, as they were written


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"OPTIONS": {"ketama": False, "CALL_RETRY_COUNT": 2}}, {"ketama": False}),
        ({"OPTIONS": {"no_block": True, "behaviors": {"cas": True}}}, {"no_block": 1, "cas": 1}),
        ({"OPTIONS": {"cas": True, "behaviors": {"cas": False}}}, {"cas": False}),
        ({"OPTIONS": {"behaviors": {"ketama": False}}}, {"ketama": False}),
    ],
)
def test_behaviors(use, shared, entry, expected):
    """They may stand straight in `OPTIONS`; those in `OPTIONS["behaviors"]` win."""
    behaviors = use(shared, **entry)._cache.behaviors
    assert {name: behaviors[name] for name in expected} == expected
    assert behaviors["tcp_nodelay"]


@pytest.mark.parametrize(
    ("entry", "binary"),
    [
        ({"BINARY": True}, True),
        ({"BINARY": False}, False),
        ({"BINARY": True, "OPTIONS": {"binary": False}}, False),
    ],
)
def test_binary(use, shared, entry, binary):
    """It may stand beside `OPTIONS`, and False is no error."""
    cache = use(shared, **entry)
    cache.set("key", 1)
    assert cache.get("key") == 1
    assert cache._cache.binary == binary


def test_the_entry_is_not_edited():
    """Whatever is read elsewhere in it, and whatever is added by default."""
    params = {"OPTIONS": {"ketama": True}, "BINARY": True}
    before = copy.deepcopy(params)
    import_module(f"{COMPAT}.memcached").ElastiCache("one:11211", params)
    assert params == before


@pytest.mark.parametrize(
    ("location", "options", "problem"),
    [
        (["one:11211", "two:11211"], {}, "names 2 servers; name one, the cluster's configuration"),
        ("one:11211;two:11211", {}, "names 2 servers"),
        ("one", {}, "has no port; write 'one:11211'"),
        ("one:11211", "binary", "OPTIONS must be a dict"),
        ("one:11211", {"behaviors": ["ketama"], "cas": True}, "must be a dict, not ['ketama']"),
        ("one:11211", {"use_vpc_ip_address": True}, "is not needed: nodes are reached by their"),
        ("one:11211", {"pickle": 2}, "OPTIONS['pickle'] is unknown; pylibmc's are"),
        ("one:11211", {"CALL_RETRY_COUNT": "3"}, "must be a whole number from 0 to 100, not '3'"),
        ("one:11211", {"IGNORE_CLUSTER_ERRORS": 1}, "must be True or False, not 1"),
    ],
)
def test_what_cannot_be_meant(use, location, options, problem):
    """It is refused when the cache is used, in words that say what to do."""
    with pytest.raises(InvalidCacheBackendError) as raised:
        use(location, OPTIONS=options).get("a")
    assert problem in str(raised.value)


# The names


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("cluster_utils", {"WrongProtocolData", "get_cluster_info"}),
        ("memcached", {"ElastiCache", "invalidate_cache_after_error"}),
    ],
)
def test_modules_and_names(module, names):
    """Every public name of release 1.0.3 is where it was."""
    assert names <= vars(import_module(f"{COMPAT}.{module}")).keys()


def test_get_cluster_info(nodes, endpoint):
    """What the endpoint says now."""
    utils = import_module(f"{COMPAT}.cluster_utils")
    host, port = endpoint.location.split(":")
    expected = sorted(node.location for node in nodes)
    assert utils.get_cluster_info(host, port) == {"nodes": expected, "version": 1}
    endpoint.say(b"nonsense\r\n")
    for error in (utils.WrongProtocolData, ValueError):
        with pytest.raises(error, match="nonsense") as raised:
            utils.get_cluster_info(host, int(port))
        assert (raised.value.endpoint, b"nonsense" in raised.value.received) == (
            endpoint.location,
            True,
        )


def test_get_cluster_info_of_nobody():
    """`except socket.error` goes on to catch what is not reached, and so does our own."""
    utils, port = import_module(f"{COMPAT}.cluster_utils"), free_port()
    for error in (OSError, DiscoveryError):
        with pytest.raises(error, match="cannot be connected to") as raised:
            utils.get_cluster_info("127.0.0.1", port)
    assert raised.value.endpoint == f"127.0.0.1:{port}"


def test_version():
    """``django_elasticache.VERSION`` is that of the release whose names these are."""
    package = import_module(COMPAT)
    assert (package.VERSION, package.__version__) == ((1, 0, 3), "1.0.3")


def test_get_cluster_info_of_a_single_node(nodes):
    """It may be allowed to be the only one."""
    utils = import_module(f"{COMPAT}.cluster_utils")
    host, port = nodes[0].location.split(":")
    with pytest.raises(utils.WrongProtocolData):
        utils.get_cluster_info(host, port)
    found = utils.get_cluster_info(host, port, ignore_cluster_errors=True)
    assert found["nodes"] == [nodes[0].location]


def test_methods_of_a_subclass(use, nodes, endpoint):
    """What fails by itself can have the cluster looked at, and fails all the same."""
    memcached = import_module(f"{COMPAT}.memcached")

    class Own(memcached.ElastiCache):
        @memcached.invalidate_cache_after_error
        def work(self, divisor, *, dividend):
            """Divide."""
            return dividend / divisor

    cache = Own(endpoint.location, {})
    cache.get("key")
    assert cache.work(2, dividend=4) == 2
    assert cache.work.__doc__ == "Divide."
    looks = cache.cluster.looks
    with pytest.raises(ZeroDivisionError):
        cache.work(0, dividend=4)
    assert cache.cluster.looks == looks + 1


def test_clearing_without_an_endpoint(use):
    """Nothing is known then, and nothing to be cleared."""
    cache = use(f"127.0.0.1:{free_port()}")
    cache.clear_cluster_nodes_cache()
    with pytest.raises(DiscoveryError):
        cache.get_cluster_nodes()


def test_the_command_and_the_check_know_it(use, shared):
    """It is a cache on a cluster like ours."""
    use(shared)
    out = StringIO()
    call_command("cache_cluster", "--json", stdout=out)
    assert len(json.loads(out.getvalue())["nodes"]) == 2
    wait_until(lambda: caches["default"].get("nothing") is None, "it answers")
