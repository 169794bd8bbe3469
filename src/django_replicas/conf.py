"""The ``REPLICAS`` setting, or what older packages' settings mean, read into one frozen object."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from django.apps import apps
from django.conf import settings
from django.core.signals import setting_changed
from django.db.utils import ConnectionRouter

from .dialects import KEYS as OLDER_KEYS
from .dialects import Dialect, Place, Translation, spoken_in, translated, words_of
from .exceptions import ReplicasConfigError
from .topology import MaxLag, ReplicaSet, Topology

if TYPE_CHECKING:
    from django.db.models import Model

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Cookie:
    """How the cookie that carries marks is set.

    ``secure`` is True, False, or None for "as the request is".
    """

    name: str = "replicas_mark"
    path: str = "/"
    domain: str | None = None
    secure: bool | None = None
    httponly: bool = True
    samesite: Literal["Lax", "Strict", "None"] | None = "Lax"


@dataclass(frozen=True)
class Config:
    """Everything that ``REPLICAS`` says; never changed, made anew when the setting changes.

    ``conflict`` tells of settings that say the same in two ways. Where they are an older package's,
    ``older_names`` has what it called them.
    """

    topology: Topology
    enabled: bool = True
    outside_units: str = "leader"
    writes_at: str = "execution"
    check_role_on_write: bool | Literal["routing"] = True
    stale_save: str = "ignore"
    delegate_routers: tuple[Any, ...] = ()
    leader_model_labels: tuple[str, ...] | None = None
    mark_store: str = "cookie"
    mark_cache: str = "default"
    mark_key: str = "session"
    mark_header: str = "X-Replicas-Mark"
    recency_cache: str = "default"
    cookie: Cookie = Cookie()
    trace: bool = False
    view_overrides: tuple[tuple[str, str], ...] = ()
    force_header: str | None = None
    read_only_downtime: float | None = None
    read_only_timeout: float = 2.0
    read_only_tries: int = 2
    write_behind: str = "thread"
    write_behind_workers: int = 4
    write_behind_limit: int = 1000
    session_miss: str = "leader"
    problems: tuple[str, ...] = ()
    conflict: str | None = None
    older_names: Mapping[Place, str] = field(default_factory=dict, compare=False)

    @cached_property
    def leader_models(self) -> "frozenset[type[Model]]":
        """The models that always read their leader, and their proxies."""
        labels = self.leader_model_labels
        named = session_models() if labels is None else set(map(_leader_model, labels))
        tables = {model._meta.concrete_model for model in named}
        return frozenset(
            model for model in apps.get_models() if model._meta.concrete_model in tables
        )

    @cached_property
    def delegates(self) -> list[Any]:
        """The routers that choose among several sets, in order."""
        try:
            return list(ConnectionRouter(self.delegate_routers).routers)
        except (ImportError, TypeError) as error:
            raise ReplicasConfigError(
                self.in_its_words(
                    'REPLICAS["DELEGATE_ROUTERS"] names a router that cannot be made: '
                    f"{error}. Correct its dotted path."
                )
            ) from error

    @cached_property
    def sound_delegates(self) -> list[Any]:
        """The same, none where one cannot be made, so that checks can say so (E005)."""
        try:
            return self.delegates
        except ReplicasConfigError:
            return []

    @cached_property
    def leader_tables(self) -> frozenset[str]:
        return frozenset(model._meta.db_table for model in self.leader_models)

    def in_its_words(self, text: str) -> str:
        """Call the keys of ``REPLICAS`` in a message what the project's own settings call them."""
        return _KEYS_OF_REPLICAS.sub(self._older_name, text) if self.older_names else text

    def _older_name(self, written: re.Match[str]) -> str:
        place = tuple(_KEY.findall(written[0]))
        outer = (place[:length] for length in range(len(place), 0, -1))
        return next(
            (self.older_names[each] for each in outer if each in self.older_names), written[0]
        )


_KEY = re.compile(r'\["([^"]*)"\]')
_KEYS_OF_REPLICAS = re.compile(rf"REPLICAS({_KEY.pattern})+")


def session_models() -> "set[type[Model]]":
    """Return the model behind the session engine, if there is one.

    Raises ``ReplicasConfigError`` where the engine or its model cannot be had.
    """
    engine = settings.SESSION_ENGINE
    of_contrib = engine.startswith(("django.contrib.", "django_replicas."))
    if of_contrib and not apps.is_installed("django.contrib.sessions"):
        return set()
    try:
        model_of = getattr(import_module(engine).SessionStore, "get_model_class", None)
        return set() if model_of is None else {model_of()}
    # Django raises the last for a model whose app is not installed.
    except (ImportError, AttributeError, RuntimeError) as error:
        raise ReplicasConfigError(
            f"SESSION_ENGINE names {engine!r}, whose model is to read its leader and cannot be "
            f'had: {error} Correct it, or list REPLICAS["LEADER_MODELS"] without it.'
        ) from error


def _leader_model(label: str) -> "type[Model]":
    try:
        return apps.get_model(label)
    except LookupError as error:
        raise ReplicasConfigError(
            f'REPLICAS["LEADER_MODELS"] names {label!r}, which is no installed model. '
            "Correct it, or remove it."
        ) from error


def get_config() -> Config:
    """Return what ``REPLICAS`` says.

    Raises ``ReplicasConfigError`` when it is wrong; system checks report the same, key by key.
    """
    config = loaded or _load()
    if config.problems:
        raise ReplicasConfigError(" ".join(config.problems))
    return config


def get_sound_config() -> Config:
    """Return what is right in ``REPLICAS``, so that checks and ``migrate`` can say what is not."""
    return loaded or _load()


loaded: Config | None = None


def _load() -> Config:
    global loaded
    loaded = _read_settings()
    return loaded


def _read_settings() -> Config:
    spoken = spoken_in(settings)
    if hasattr(settings, "REPLICAS"):
        return replace(read_config(settings.REPLICAS), conflict=_beside_replicas(spoken))
    if len(spoken) > 1:
        conflict = _between(spoken)
        return Config(Topology(), problems=(conflict,), conflict=conflict)
    return _read_translation(translated(spoken[0], settings)) if spoken else Config(Topology())


def _beside_replicas(spoken: Sequence[Dialect]) -> str | None:
    if not spoken:
        return None
    return f"REPLICAS stands beside settings of {_named(spoken)}: these do not count."


def _between(spoken: Sequence[Dialect]) -> str:
    return f"There are settings of {_named(spoken)}, and no REPLICAS to say which of them count."


def _named(spoken: Sequence[Dialect]) -> str:
    return " and of ".join(words_of(each, settings) for each in spoken)


def _read_translation(translation: Translation) -> Config:
    config = replace(read_config(translation.replicas), older_names=translation.names)
    told = map(config.in_its_words, config.problems)
    return replace(config, problems=(*translation.problems, *told))


def read_anew() -> None:
    """Have the setting read again when it is next asked for, and what hangs on it forgotten."""
    global loaded
    loaded = None
    for forget in _hanging:
        forget()


_hanging: list[Callable[[], None]] = []


def hang_on(forget: Callable[[], None]) -> None:
    """Have *forget* called whenever the setting is to be read again."""
    _hanging.append(forget)


def _forget(*, setting: str, **kwargs: object) -> None:
    if setting in {*SETTINGS, "SESSION_ENGINE", "INSTALLED_APPS"}:
        read_anew()


setting_changed.connect(_forget, dispatch_uid="django_replicas.conf")


def read_config(values: Any) -> Config:
    """Read a ``REPLICAS`` dict; a key that is wrong keeps its default and is named in ``problems``.

    >>> read_config({"TRACES": True}).problems
    ('REPLICAS["TRACES"] is not a setting. Remove it, or correct its name.',)
    """
    if not isinstance(values, Mapping):
        return Config(Topology(), problems=(f"REPLICAS must be a dict, not {values!r}.",))
    problems: list[str] = []
    fields = dict(_read(values, PROJECT_KEYS | SET_KEYS, "REPLICAS", problems))
    for_all_sets = {name: fields.pop(name) for name, _ in SET_KEYS.values() if name in fields}
    topology = Topology(_read_sets(fields.pop("sets", {}), for_all_sets, problems))
    return Config(topology, **fields, problems=tuple(problems))


class _Wrong(Exception):
    """A value is wrong; the text completes "REPLICAS[...] must ..."."""


class _WrongInside(Exception):
    """A value is wrong in parts, which are told one by one."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__()
        self.problems = problems


Reader = Callable[[Any], Any]
Keys = dict[str, tuple[str, Reader]]


def _read(values: Values, keys: Keys, where: str, problems: list[str]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        place = f'{where}["{key}"]' if where else key
        if key not in keys:
            problems.append(f"{place} is not a setting. Remove it, or correct its name.")
            continue
        name, read = keys[key]
        try:
            yield name, read(value)
        except _Wrong as wrong:
            problems.append(f"{place} must {wrong}, not {value!r}.")
        except _WrongInside as wrong:
            problems += wrong.problems


def _read_sets(sets: Values, for_all_sets: Values, problems: list[str]) -> Iterator[ReplicaSet]:
    taken: dict[str, str] = {}
    for leader, value in sets.items():
        place = f'REPLICAS["SETS"]["{leader}"]'
        own = value if isinstance(value, Mapping) else {"FOLLOWERS": value}
        fields = dict(
            _read(own, {"FOLLOWERS": ("followers", _aliases)} | SET_KEYS, place, problems)
        )
        followers = fields.pop("followers", ())
        for alias in (leader, *followers):
            if alias in taken:
                problems.append(
                    f"{place} names {alias!r}, which is already in the set of {taken[alias]!r}. "
                    "Each alias belongs to one set, once."
                )
            taken[alias] = leader
        yield ReplicaSet(leader, followers, **_with_lasting_marks({**for_all_sets, **fields}))


def _with_lasting_marks(fields: dict[str, Any]) -> dict[str, Any]:
    """Have no mark end before the lag does, where one is given."""
    lag = fields.get("replication_lag", 0)
    return {**fields, "pin_seconds": max(lag, fields.get("pin_seconds", lag))} if lag else fields


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("be True or False")
    return value


def _flag_or_routing(value: Any) -> Any:
    if not isinstance(value, bool) and value != "routing":
        raise _Wrong('be True, False or "routing"')
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _Wrong("be a string that is not empty")
    return value


def _cookie_name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", value, re.ASCII):
        raise _Wrong("be a name that cookies can have: letters, digits, - and _")
    return value


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _Wrong("be a number of seconds")
    if not (math.isfinite(value) and value > 0):
        raise _Wrong("be a number of seconds above 0")
    return float(value)


# As PostgreSQL counts them.
_BYTES_IN = {"B": 1, "kB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}


def _max_lag(value: Any) -> MaxLag:
    if not isinstance(value, str):
        return MaxLag(seconds=_seconds(value))
    match = re.fullmatch(rf"([0-9]{{1,9}}) ?({'|'.join(_BYTES_IN)})", value)
    if match is None or int(match[1]) == 0:
        raise _Wrong('be a number of seconds, or of bytes as in "64kB", "16MB" and "1GB"')
    return MaxLag(bytes=int(match[1]) * _BYTES_IN[match[2]])


def _one_of(*choices: Any) -> Reader:
    def read(value: Any) -> Any:
        if not any(value is choice or value == choice for choice in choices):
            raise _Wrong(f"be one of {', '.join(map(repr, choices))}")
        return value

    return read


def _aliases(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, (list, tuple)):
        raise _Wrong("be a list of aliases")
    if not all(isinstance(alias, str) for alias in value):
        raise _Wrong("be a list of aliases, each of them a string")
    return tuple(value)


def _labels(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise _Wrong('be a list of model labels such as "app.Model"')
    if not all(isinstance(label, str) and label.count(".") == 1 for label in value):
        raise _Wrong('be a list of model labels such as "app.Model"')
    return tuple(value)


def _routers(value: Any) -> tuple[Any, ...]:
    if isinstance(value, str) or not isinstance(value, (list, tuple)):
        raise _Wrong("be a list of routers or of dotted paths to them")
    return tuple(value)


def _sets(value: Any) -> Values:
    if not isinstance(value, Mapping) or not all(isinstance(alias, str) for alias in value):
        raise _Wrong("be a dict from each leader's alias to its followers")
    return value


def _cookie(value: Any) -> Cookie:
    if not isinstance(value, Mapping):
        raise _Wrong("be a dict of cookie attributes")
    problems: list[str] = []
    fields = dict(_read(value, COOKIE_KEYS, 'REPLICAS["COOKIE"]', problems))
    if problems:
        raise _WrongInside(problems)
    return Cookie(**fields)


ROLE_NAMES = {
    "leader": "leader",
    "follower": "follower",
    "master": "leader",
    "slave": "follower",
}


def _view_roles(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping) or not all(isinstance(view, str) for view in value):
        raise _Wrong("be a dict from URL names and import paths of views to roles")
    for view, role in value.items():
        if not isinstance(role, str) or role not in ROLE_NAMES:
            raise _Wrong(f"give {view!r} one of {', '.join(map(repr, ROLE_NAMES))}")
    return tuple((view, ROLE_NAMES[role]) for view, role in value.items())


def _header(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch("[A-Za-z0-9-]+", value):
        raise _Wrong('be the name of a header such as "X-Replicas-Role"')
    return value


def _client_key(value: Any) -> str:
    if not isinstance(value, str) or not (value in {"session", "user"} or "." in value):
        raise _Wrong('be "session", "user" or the dotted path of a function')
    return value


def _tries(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _Wrong("be a whole number, 1 or more")
    return value


def _optional(read: Reader) -> Reader:
    return lambda value: None if value is None else read(value)


SET_KEYS: Keys = {
    "BALANCE": ("balance", _one_of("random", "round_robin", "sticky")),
    "CHECK_INTERVAL": ("check_interval", _seconds),
    "CHECK_TIMEOUT": ("check_timeout", _seconds),
    "DOWNTIME": ("downtime", _seconds),
    "MARK_POSITION": ("mark_position", _one_of("flushed", "inserted")),
    "MARK_SECONDS": ("mark_seconds", _seconds),
    "MAX_LAG": ("max_lag", _optional(_max_lag)),
    "PIN_SECONDS": ("pin_seconds", _seconds),
    "REPLICATION_LAG": ("replication_lag", _seconds),
}
PROJECT_KEYS: Keys = {
    "SETS": ("sets", _sets),
    "ENABLED": ("enabled", _flag),
    "OUTSIDE_UNITS": ("outside_units", _one_of("leader", "routed")),
    "WRITES_AT": ("writes_at", _one_of("execution", "routing")),
    "CHECK_ROLE_ON_WRITE": ("check_role_on_write", _flag_or_routing),
    "STALE_SAVE": ("stale_save", _one_of("ignore", "warn", "error")),
    "DELEGATE_ROUTERS": ("delegate_routers", _routers),
    "LEADER_MODELS": ("leader_model_labels", _labels),
    "MARK_STORE": ("mark_store", _text),
    "MARK_CACHE": ("mark_cache", _text),
    "MARK_KEY": ("mark_key", _client_key),
    "MARK_HEADER": ("mark_header", _header),
    "RECENCY_CACHE": ("recency_cache", _text),
    "COOKIE": ("cookie", _cookie),
    "TRACE": ("trace", _flag),
    "VIEW_OVERRIDES": ("view_overrides", _view_roles),
    "FORCE_HEADER": ("force_header", _optional(_header)),
    "READ_ONLY_DOWNTIME": ("read_only_downtime", _optional(_seconds)),
    "READ_ONLY_TIMEOUT": ("read_only_timeout", _seconds),
    "READ_ONLY_TRIES": ("read_only_tries", _tries),
    "WRITE_BEHIND": ("write_behind", _one_of("thread", "sync")),
    "WRITE_BEHIND_WORKERS": ("write_behind_workers", _tries),
    "WRITE_BEHIND_LIMIT": ("write_behind_limit", _tries),
    "SESSION_MISS": ("session_miss", _one_of("leader", "follower")),
}
COOKIE_KEYS: Keys = {
    "NAME": ("name", _cookie_name),
    "PATH": ("path", _text),
    "DOMAIN": ("domain", _optional(_text)),
    "SECURE": ("secure", _optional(_flag)),
    "HTTPONLY": ("httponly", _flag),
    "SAMESITE": ("samesite", _one_of("Lax", "Strict", "None", None)),
}
# The Django settings that say which alias leads and which follow.
SETTINGS = frozenset({"REPLICAS", *OLDER_KEYS})
