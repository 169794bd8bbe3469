"""The row of one session on its leader, and who may touch it."""

from dataclasses import dataclass

from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import IntegrityError, connections, transaction
from django.db.models import F


@dataclass(frozen=True)
class Row:
    """A session's row; to be locked and written inside a transaction."""

    model: type[AbstractBaseSession]
    alias: str
    key: str

    def lock(self) -> AbstractBaseSession | None:
        """Return the row, which nobody else changes until the transaction ends."""
        rows = self.model._base_manager.using(self.alias).filter(pk=self.key)
        if connections[self.alias].features.has_select_for_update:
            return rows.select_for_update().first()
        # SQLite locks by writing; what is read before that may be out of date.
        rows.update(expire_date=F("expire_date"))
        return rows.first()

    def insert(self, instance: AbstractBaseSession) -> IntegrityError | None:
        """Make the row, having waited for whoever was making it; return what was said against it.

        That is that the row is there, or whatever else a model's columns demand.
        """
        try:
            with transaction.atomic(using=self.alias):
                instance.save(force_insert=True, using=self.alias)
        except IntegrityError as error:
            return error
        return None

    def update(self, instance: AbstractBaseSession) -> None:
        instance.save(force_update=True, using=self.alias)

    def delete(self) -> bool:
        """Delete the row in one statement; tell whether there was one."""
        deleted, _ = self.model(session_key=self.key).delete(using=self.alias)
        return bool(deleted)

    def delete_what_is_being_inserted(self, instance: AbstractBaseSession) -> None:
        """Delete the row also where a transaction that has not ended yet is making it.

        A deletion does not see such a row. An insertion of the same key, *instance*, waits for it.
        """
        with transaction.atomic(using=self.alias):
            self.insert(instance)
            self.delete()
