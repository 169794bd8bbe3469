"""What a dialect is, and what it makes of a project's settings."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

Given = Mapping[str, Any]
Place = tuple[str, ...]


@dataclass(frozen=True)
class Translation:
    """What older settings mean: a ``REPLICAS`` dict, and what such a dict cannot say.

    ``names`` has the older setting that each place of the dict came from, ``problems`` what is
    wrong in settings that have no place there, and ``advice`` what else changes in the project when
    the dict takes their place.
    """

    replicas: Mapping[str, Any]
    names: Mapping[Place, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dialect:
    """The settings of one older package, which is imported as ``module``.

    ``own`` are those that tell that a project speaks it, ``shared`` those that it reads too but
    that another package, or the project for itself, may have as well. Whatever else begins with
    ``prefix`` is a mistake. ``paths`` leads from the package's dotted paths to ours.
    """

    package: str
    module: str
    translate: Callable[[Given], Translation]
    own: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()
    prefix: str | None = None
    paths: Mapping[str, str] = field(default_factory=dict)


class Draft:
    """A translation in the making."""

    def __init__(self) -> None:
        self._replicas: dict[str, Any] = {}
        self._names: dict[Place, str] = {}
        self._problems: list[str] = []
        self._advice: list[str] = []

    def put(self, place: Place, value: Any, name: str | None = None) -> Self:
        """Put *value* in its place; what is wrong with it is told of the older setting *name*."""
        *outer, last = place
        inside = self._replicas
        for key in outer:
            inside = inside.setdefault(key, {})
        inside[last] = value
        if name is not None:
            self._names[place] = name
        return self

    def put_followers(self, leader: str, followers: Any, name: str) -> Self:
        # A dict would be taken for all that a set may say.
        value = {"FOLLOWERS": followers} if isinstance(followers, Mapping) else followers
        # A leader that is named as its own one follower reads everything, as in development.
        is_alone = value in ([leader], (leader,))
        once = [] if is_alone else self._each_once(leader, value, name)
        self.put(("SETS", leader), once, name)
        self._names.setdefault(("SETS",), name)
        return self

    def _each_once(self, leader: str, followers: Any, name: str) -> Any:
        """Leave out what gave a member more of the reads, and tell of it."""
        if not isinstance(followers, list | tuple):
            return followers
        if leader in followers:
            self.problem(f"{name} names {leader!r}, which leads: remove it.")
        once: list[Any] = []
        for alias in followers:
            if alias != leader and alias not in once:
                once.append(alias)
                if followers.count(alias) > 1:
                    self.problem(
                        f"{name} names {alias!r} more than once: weights have no successor, name "
                        "each once."
                    )
        return followers if len(once) == len(followers) else once

    def put_pin_seconds(self, given: Given, name: str) -> Self:
        """Put what may be a string of digits, as the older packages ask for ``int()`` of it."""
        if name not in given:
            return self
        seconds = given[name]
        if isinstance(seconds, str):
            with suppress(ValueError):
                seconds = int(seconds)
        if seconds == 0 and not isinstance(seconds, bool):
            return self.problem(
                f"{name} is 0, with which users would miss what they have just written. Write for "
                "how many seconds followers may be behind, or 0.001 where that is what is meant."
            )
        return self.put(("PIN_SECONDS",), seconds, name)

    def put_given(self, given: Given, places: Mapping[str, Place]) -> Self:
        """Put each setting that is given in the place that *places* has for it."""
        for name, place in places.items():
            if name in given:
                self.put(place, given[name], name)
        return self

    def problem(self, text: str) -> Self:
        self._problems.append(text)
        return self

    def advise(self, text: str) -> Self:
        self._advice.append(text)
        return self

    def done(self) -> Translation:
        return Translation(self._replicas, self._names, tuple(self._problems), tuple(self._advice))
