"""The page about caches: every example is settings that work."""

import re
import ssl

import pytest
from django.core.cache import caches

from django_replicas.cache.elasticache import ClusterCache
from django_replicas.cache.options import DEFAULTS

from .pages import python_of, text_of

BLOCKS = python_of("cache")
OPTION = re.compile(r"^``([A-Z_]+)``: (.+)$", re.MULTILINE)


@pytest.mark.parametrize("block", BLOCKS)
def test_examples(settings, block):
    """A cache can be made of each, and nothing warns of it."""
    names = {}
    exec(block, names)
    settings.CACHES = names["CACHES"]
    cache = caches["default"]
    assert isinstance(cache, ClusterCache)
    if "tls" in block:
        assert isinstance(cache.cluster.source.endpoint.tls, ssl.SSLContext)


def test_options():
    """Every option of ours is described, with its default."""
    described = {name: eval(default) for name, default in OPTION.findall(text_of("cache"))}
    assert described == DEFAULTS
    assert len(BLOCKS) == 5
