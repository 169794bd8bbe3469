"""The older packages' module paths and names, for projects that move over.

Below each folder stand the modules of one older package, with its names mapped onto ours, so that
dotted paths change and nothing else. Nothing of ours imports them. Each warns once, and all of
them go with the same release.
"""

import warnings
from collections.abc import Mapping


class RemovedInReplicas2Warning(DeprecationWarning):
    """Something of an older package is used, which django-replicas 2.0 will not have any more."""


def warn_of_removal(package: str) -> None:
    """Say that a compat package will go; called when it is first imported, so once a process."""
    warnings.warn(
        f"django_replicas.compat.{package} goes with django-replicas 2.0. `manage.py replicas "
        "settings` prints what takes the place of its settings and dotted paths.",
        RemovedInReplicas2Warning,
        stacklevel=3,
    )


BEHIND = "put what it does into a middleware of your own, behind this one."
HALVES = {"process_request": BEHIND, "process_response": BEHIND}


def refuse_hooks(base: type, subclass: type, remedies: Mapping[str, str]) -> None:
    """Raise ``TypeError`` where *subclass* overrides what nothing calls any more.

    *remedies* names what was called in the older package's *base*, and says what to do instead.
    """
    for name, remedy in remedies.items():
        if getattr(subclass, name, None) is not getattr(base, name, None):
            raise TypeError(
                f"{subclass.__qualname__}.{name} is not asked by django-replicas, as it was by the "
                f"older package: {remedy}"
            )
