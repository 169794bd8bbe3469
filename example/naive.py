"""The router that everybody writes first."""

from random import Random

from django.conf import settings
from django.db.models import Model

FOLLOWERS = ["replica1", "replica2"]


class NaiveRouter:
    """Read from any follower, write to the leader, and hope that nobody looks too soon."""

    def __init__(self) -> None:
        self._random = Random(settings.BOARD_SEED)

    def db_for_read(self, model: type[Model], **hints: object) -> str:
        return self._random.choice(FOLLOWERS)

    def db_for_write(self, model: type[Model], **hints: object) -> str:
        return "default"

    def allow_relation(self, one: Model, other: Model, **hints: object) -> bool:
        return True

    def allow_migrate(self, db: str, app_label: str, **hints: object) -> bool:
        return db == "default"
