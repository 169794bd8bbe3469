"""``manage.py cache_cluster``, and the check of caches on clusters."""

import io
import json
import ssl

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command

from servers.configuration_endpoint import ConfigurationEndpoint, entry, listing
from servers.memcached import Memcached
from servers.ports import free_port

ELASTICACHE = "django_replicas.cache.elasticache.ElastiCache"
LOCAL = "django.core.cache.backends.locmem.LocMemCache"


@pytest.fixture
def endpoint():
    with ConfigurationEndpoint() as endpoint:
        yield endpoint


@pytest.fixture
def configured(settings):
    def configured(location, backend=ELASTICACHE, **options):
        settings.CACHES = {
            "default": {"BACKEND": LOCAL},
            "far": {"BACKEND": backend, "LOCATION": location, "OPTIONS": options},
        }

    return configured


def said(*arguments, **options):
    out = io.StringIO()
    call_command("cache_cluster", *arguments, stdout=out, no_color=True, **options)
    return out.getvalue()


def test_nodes(configured, endpoint):
    """Each node with its name, where it listens, and whether it answers."""
    with Memcached() as alive:
        dead = f"127.0.0.1:{free_port()}"
        endpoint.say(listing(12, [entry(alive.location, "a"), f"|{dead.replace(':', '|')}"]))
        configured(endpoint.location)
        assert said("far").splitlines() == [
            f"{endpoint.location}: list 12",
            f"  -  {dead}  no answer",
            f"  a  {alive.location}  answers",
        ]
        told = json.loads(said("far", "--json"))
    address = {"ip": "127.0.0.1"}
    assert told == {
        "endpoint": endpoint.location,
        "version": 12,
        "nodes": [
            {"hostname": "", **address, "port": int(dead.partition(":")[2]), "answers": False},
            {
                "hostname": "a",
                **address,
                "port": int(alive.location.partition(":")[2]),
                "answers": True,
            },
        ],
    }


def test_single_node(configured):
    """An endpoint without discovery that may be the only node is shown as that."""
    with Memcached() as alone:
        configured(alone.location, IGNORE_CLUSTER_ERRORS=True)
        assert said("far").splitlines() == [
            f"{alone.location}: no list, it is the only node",
            f"  127.0.0.1  {alone.location}  answers",
        ]
        assert json.loads(said("far", "--json"))["version"] is None


def test_failure(configured, endpoint):
    """Without a list the command fails, and says what was received."""
    configured(endpoint.location)
    with pytest.raises(CommandError, match="it knows no discovery; it said b'ERROR'"):
        said("far")


def test_other_caches(configured, endpoint):
    """A cache of another kind, one that is wrong, and none are told apart."""
    configured("no port")
    with pytest.raises(CommandError, match=r"'default' has no cluster: it is LocMemCache\."):
        said()
    with pytest.raises(CommandError, match=r"'far' cannot be used: LOCATION 'no port' names no"):
        said("far")
    with pytest.raises(CommandError, match="'nothing' cannot be used"):
        said("nothing")


SERVERLESS = "mine-ab12.serverless.use1.cache.amazonaws.com:11211"
PYMEMCACHE = "django_replicas.cache.elasticache.PyMemcacheElastiCache"


def problems():
    return [
        (message.id, message.msg, message.hint)
        for message in run_checks()
        if "cache" in message.msg
    ]


@pytest.mark.parametrize(
    ("backend", "options"),
    [
        (ELASTICACHE, {}),
        (PYMEMCACHE, {"tls_context": ssl.create_default_context()}),
        (PYMEMCACHE, {"IGNORE_CLUSTER_ERRORS": True}),
    ],
)
def test_check_serverless(configured, backend, options):
    """A serverless cache without what it needs is a warning; nothing is connected to."""
    configured(SERVERLESS, backend, **options)
    ((number, problem, hint),) = problems()
    assert number == "django_replicas.W030"
    assert problem.startswith("The cache 'far' is serverless, which speaks TLS")
    assert hint.startswith("Use PyMemcacheElastiCache, with tls_context and IGNORE_CLUSTER_ERRORS")
    assert hint.endswith("#django-replicas-w030")


@pytest.mark.parametrize(
    ("location", "backend", "options"),
    [
        ("endpoint:11211", ELASTICACHE, {}),
        (
            SERVERLESS,
            PYMEMCACHE,
            {"tls_context": ssl.create_default_context(), "IGNORE_CLUSTER_ERRORS": True},
        ),
    ],
)
def test_check_others(configured, location, backend, options):
    """Others are right as they are."""
    configured(location, backend, **options)
    assert not problems()


def test_check_wrong_entries(configured):
    """What cannot be used is told in its own words, with the cache's name."""
    configured("endpoint:11211", ketama=True)
    ((number, problem, hint),) = problems()
    assert number == "django_replicas.E031"
    assert problem.startswith("The cache 'far' cannot be used: OPTIONS['ketama'] is a behavior: mo")
    assert hint.startswith("Mend CACHES['far']; ")
