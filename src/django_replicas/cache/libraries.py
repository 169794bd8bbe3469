"""The two client libraries: what may be configured, what they raise, how they are begun and ended.

Both are extras, imported when a cache of theirs is made.
"""

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from django.core.cache.backends.base import InvalidCacheBackendError

from .clients import Library
from .replies import address

Options = Mapping[str, Any]
Problems = list[str]

# Ejecting is done here, alike for every build: the compiled libmemcached 1.1.4 never ejects a node,
# the wheels' 1.0.16 never takes one back.
EJECTING = ("auto_eject", "remove_failed")


NEEDLESS = {
    "use_vpc_ip_address": "is not needed: nodes are reached by their addresses, with TLS by their "
    "names. Remove it",
}


def library(name: str, extra: str) -> ModuleType:
    """Import a client library, or say how to install it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise InvalidCacheBackendError(
            f"This cache needs {name}, which cannot be imported ({error}). "
            f"Install django-replicas[{extra}]."
        ) from error


class PyLibMC(Library):
    """Clients of pylibmc, over whichever libmemcached it was built with."""

    # Answers and refusals of healthy nodes, and calls that could not succeed on any.
    ANSWERS = (
        "BadKeyProvided",
        "CacheMiss",
        "ClientError",
        "DataDoesNotExist",
        "DataExists",
        "NotFound",
        "NotSupportedError",
        "TooBig",
    )

    def __init__(self, options: Options, node_timeout: float) -> None:
        self._module = self.module()
        self._client = _counting(self._module)
        self.errors = (self._module.Error,)
        self._answers = tuple(getattr(self._module, name) for name in self.ANSWERS)
        behaviors = {**options.get("behaviors", {})}
        for name in EJECTING:
            behaviors.pop(name, None)
        milliseconds = max(1, round(node_timeout * 1000))
        # Nothing but the time of a poll bounds the wait for a node that hangs.
        timeouts = {"_poll_timeout": milliseconds, "connect_timeout": milliseconds}
        defaults = {"tcp_nodelay": True, "ketama": True, **timeouts}
        self._options = {
            "binary": True,
            **options,
            "behaviors": {**defaults, **behaviors},
        }

    @staticmethod
    def module() -> ModuleType:
        return library("pylibmc", "pylibmc")

    @classmethod
    def problems(cls, options: Options) -> Problems:
        """Return what is wrong in OPTIONS that belong to the client, in words that help."""
        known = {"behaviors", "binary", "password", "username"}
        behaviors = cls.behaviors()
        problems = []
        for name in sorted({*options} - known):
            if name in NEEDLESS:
                remedy = NEEDLESS[name]
            elif name in behaviors:
                remedy = "is a behavior: move it into OPTIONS['behaviors']"
            elif name.startswith(("tls", "ssl")):
                remedy = "asks for TLS, which pylibmc does not speak: use PyMemcacheElastiCache"
            else:
                remedy = f"is unknown; pylibmc's are {', '.join(sorted(known))}"
            problems.append(f"OPTIONS[{name!r}] {remedy}.")
        given = options.get("behaviors", {})
        if not isinstance(given, Mapping):
            return [*problems, f"OPTIONS['behaviors'] must be a dict, not {given!r}."]
        unknown = ", ".join(repr(name) for name in given if name not in behaviors)
        return problems + ([f"OPTIONS['behaviors'] has unknown {unknown}."] if unknown else [])

    @staticmethod
    def behaviors() -> frozenset[str]:
        """Return the names that OPTIONS['behaviors'] may have."""
        client = PyLibMC.module().client
        return frozenset({*client.all_behaviors, *client.all_callbacks, "_retry_timeout"})

    @staticmethod
    def ejecting(options: Options) -> bool:
        """Tell whether nodes that do not answer are left out; yes, unless it is told otherwise."""
        told = [options.get("behaviors", {}).get(name) for name in EJECTING]
        given = [value for value in told if value is not None]
        return any(given) or not given

    def connect(self, addresses: list[tuple[str, int]]) -> Any:
        servers = [address(host, port) for host, port in addresses]
        client = self._client(servers, **self._options)
        if self._touches_in_text:
            client.touch = self._module.Client(servers, **self._options | {"binary": False}).touch
        return client

    def is_answer(self, error: BaseException) -> bool:
        return isinstance(error, self._answers)

    @property
    def _touches_in_text(self) -> bool:
        # libmemcached 1.0, as in the wheels, waits for more than the reply to a binary touch, until
        # its time is up. Passwords exist in the binary protocol alone.
        release = str(self._module.libmemcached_version)
        binary_only = self._options.get("username") is not None
        return bool(self._options["binary"]) and release.startswith("1.0.") and not binary_only


def _counting(module: Any) -> Any:
    """Return a client that tells what is no number from a reply that could not be read.

    libmemcached makes one error of both in the binary protocol.
    """

    class Counting(module.Client):  # type: ignore[misc]  # untyped there
        def incr(self, key: str, delta: int = 1) -> int:
            return self._counted(super().incr, key, delta)

        def decr(self, key: str, delta: int = 1) -> int:
            return self._counted(super().decr, key, delta)

        def _counted(self, call: Callable[[str, int], int], key: str, delta: int) -> int:
            try:
                return call(key, delta)
            except module.UnknownReadFailure as error:
                self.disconnect_all()  # The rest of a reply may be to come.
                if isinstance(self.get(key, 0), int):
                    raise
                raise module.ClientError(f"The value of {key!r} is not a number.") from error

    return Counting


class PyMemcache(Library):
    """Clients of pymemcache, with TLS where its context is given."""

    def __init__(self, options: Options, node_timeout: float) -> None:
        self._make: Callable[..., Any] = self.module().HashClient
        exceptions = import_module("pymemcache.exceptions")
        self.errors = (exceptions.MemcacheError, OSError)
        self._refused = exceptions.MemcacheClientError
        self._failed = exceptions.MemcacheServerError
        self._options = {
            "allow_unicode_keys": True,
            "default_noreply": False,
            "serde": import_module("pymemcache.serde").pickle_serde,
            "no_delay": True,
            "connect_timeout": node_timeout,
            "timeout": node_timeout,
            **options,
        }

    @staticmethod
    def module() -> ModuleType:
        return library("pymemcache", "pymemcache")

    @classmethod
    def problems(cls, options: Options) -> Problems:
        """Return what is wrong in OPTIONS that belong to the client, in words that help."""
        parameters = inspect.signature(cls.module().HashClient).parameters
        known = {*parameters} - {"servers"}
        of_pylibmc = "is pylibmc's; pymemcache has no binary protocol and no behaviors: remove it"
        refusals = {**NEEDLESS, "behaviors": of_pylibmc, "binary": of_pylibmc}
        unknown = f"is unknown; pymemcache's are {', '.join(sorted(known))}"
        return [
            f"OPTIONS[{name!r}] {refusals.get(name, unknown)}."
            for name in sorted({*options} - known)
        ]

    @staticmethod
    def ejecting(options: Options) -> bool:
        """Tell whether nodes that do not answer are left out, as pymemcache itself leaves them."""
        return True

    def connect(self, addresses: list[tuple[str, int]]) -> Any:
        return self._make(addresses, **self._options)

    def is_answer(self, error: BaseException) -> bool:
        # Too large, for example; but a connection that ended is an error below it.
        return isinstance(error, self._refused) or type(error) is self._failed
