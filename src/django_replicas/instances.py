"""Objects whose values came from a follower, on their way back to the leader."""

import logging
from typing import Any

from django.core.signals import setting_changed
from django.db.models import Model
from django.db.models.signals import pre_save

from .conf import SETTINGS, get_config, get_sound_config
from .exceptions import StaleSaveError
from .topology import ReplicaSet

logger = logging.getLogger("django_replicas")


class AdoptedAlias(str):
    """A leader's alias, on an object whose values were read from a follower.

    Django puts a plain alias in its place when the object is saved or refreshed.
    """

    __slots__ = ()


def adopt(instance: Model, replica_set: ReplicaSet) -> None:
    """Make an object from a follower the leader's, so that its deferred fields load from there.

    Left as it is, Django would fetch them from the follower to save them, stale, to the leader.
    """
    if instance._state.db in replica_set.followers:
        instance._state.db = AdoptedAlias(replica_set.leader)


def came_from_follower(instance: Model) -> bool:
    """Tell whether a follower's values are in the instance, also after it was adopted."""
    alias = instance._state.db
    return isinstance(alias, AdoptedAlias) or get_config().topology.is_follower(alias)


def listen_for_stale_saves() -> None:
    """Have ``STALE_SAVE`` heard before each save; where it ignores them, saves cost nothing."""
    if get_sound_config().stale_save == "ignore":
        pre_save.disconnect(_before_save, dispatch_uid=_UID)
    else:
        pre_save.connect(_before_save, dispatch_uid=_UID)


_UID = "django_replicas.instances"


def _before_save(instance: Any, using: str, **kwargs: object) -> None:
    config = get_config()
    if using not in config.topology.by_leader or not came_from_follower(instance):
        return
    message = (
        f"{instance._meta.label} {instance.pk!r} was read from a follower of {using!r} and is "
        "about to be saved: newer values on the leader would be overwritten. Read it from the "
        f"leader first, with `.using({using!r})` or inside `with leader({using!r})`."
    )
    if config.stale_save == "error":
        raise StaleSaveError(message)
    logger.warning(message)


def _listen_anew(*, setting: str, **kwargs: object) -> None:
    if setting in SETTINGS:
        listen_for_stale_saves()


setting_changed.connect(_listen_anew, dispatch_uid=_UID)
