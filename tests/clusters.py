"""What the tests of caches on clusters share: the backends, their keys, certificates and haste."""

import ssl
import subprocess
from contextlib import closing

import pytest
from django.core.cache import caches
from pymemcache.client.base import Client as OneNode

from django_replicas.cache.clients import forget_clients

PATH = "django_replicas.cache.elasticache."
BINARY = (PATH + "ElastiCache", {})
TEXT = (PATH + "ElastiCache", {"binary": False})
PYMEMCACHE = (PATH + "PyMemcacheElastiCache", {})
KINDS = {"binary": BINARY, "text": TEXT, "pymemcache": PYMEMCACHE}

kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def address_of(location):
    """Return host and port of `host:port`, an IPv6 address without its brackets."""
    host, _, port = location.rpartition(":")
    return host.strip("[]"), int(port)


def keys_on(node, keys):
    """Return those keys of the default cache that a node has, asked itself."""
    with closing(OneNode(address_of(node.location))) as direct:
        return {key for key in keys if direct.get(caches["default"].make_key(key)) is not None}


@pytest.fixture
def in_haste(monkeypatch):
    """Look again after a tenth of the time, and leave no connection to the next test."""
    monkeypatch.setattr("django_replicas.cache.discovery.RETRY_SECONDS", 0.1)
    yield
    forget_clients()


@pytest.fixture
def use(settings):
    """Configure the default cache, and return it."""

    def use(kind, endpoint, **options):
        backend, own = kind
        settings.CACHES = {
            "default": {
                "BACKEND": backend,
                "LOCATION": getattr(endpoint, "location", endpoint),
                "OPTIONS": own | options,
            }
        }
        return caches["default"]

    return use


class Certificate:
    """A certificate for `localhost`, and the two sides that use it."""

    def __init__(self, folder):
        self.chain, self.key = folder / "certificate", folder / "key"
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
        names = "-subj /CN=localhost -addext subjectAltName=DNS:localhost -days 2"
        files = ["-keyout", self.key, "-out", self.chain]
        subprocess.run([*command.split(), *names.split(), *files], check=True, capture_output=True)

    @property
    def files(self):
        return self.chain, self.key

    def serving(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.files)
        return context

    def trusting(self):
        return ssl.create_default_context(cafile=self.chain)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return Certificate(tmp_path_factory.mktemp("certificate"))
