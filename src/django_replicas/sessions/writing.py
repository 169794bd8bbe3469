"""What the queue does: it brings a session from the cache to the leader, or takes it from there.

Whoever writes a row first has it locked, and then asks the cache what to write: so the row follows
the cache, however many processes write, and the last of them writes the last state. A row that is
not there yet is locked by inserting it. Whoever logs out puts the tombstone first and needs the
same lock second: either the writer sees the tombstone, or the row that it wrote is deleted.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from django.contrib.sessions.backends.base import CreateError
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import transaction

from .cells import Cells, Kept, Shelf
from .ledger import ledger
from .outcomes import Outcome, tell
from .rows import Row
from .versions import UNKNOWN, version_of

logger = logging.getLogger("django_replicas")


class Store(Protocol):
    """What is asked of the store of one session."""

    @property
    def shelf(self) -> Shelf: ...

    @property
    def leader(self) -> str: ...

    @property
    def model(self) -> type[AbstractBaseSession]: ...

    def instance_of(self, kept: Kept) -> AbstractBaseSession:
        """Return what is stored in the database of a state in the cache."""

    def seconds_left(self, instance: AbstractBaseSession) -> float:
        """Return how long the stored state lasts."""


class _Ended(Exception):
    """The session has ended; nothing of it must be written."""


@dataclass(frozen=True)
class Write:
    """Brings a session to the leader: as the cache has it now, else as it was when it was saved.

    Without a *snapshot* it is only looked whether the cache has something unwritten. ``born`` is
    that of ``Kept``: as long as it is not 0 the row may have to be made. ``by_force`` is for a
    cache that did not take the snapshot.
    """

    stores: Any
    key: str
    version: int
    born: int = 0
    snapshot: AbstractBaseSession | None = None
    by_force: bool = False
    holds: int = 0

    def after(self, earlier: "Write | Erase") -> "Write | Erase":
        holds = self.holds + earlier.holds
        if isinstance(earlier, Erase):
            return replace(earlier, holds=holds)
        keeps = earlier.snapshot is not None and (
            self.snapshot is None or earlier.version > self.version
        )
        newest = earlier if keeps else self
        return replace(newest, holds=holds, born=self.born and earlier.born)

    def failed(self, error: BaseException, *, given_up: bool) -> None:
        _report(self, error, given_up)

    def __call__(self) -> Outcome:
        """Write, and say what became of it; raises what the leader raises."""
        store: Store = self.stores(self.key)
        error: Exception | None = None
        try:
            self._write(store)
            outcome = Outcome.WRITTEN
        except _Ended:
            outcome = Outcome.DROPPED
        except CreateError as foreign:
            outcome, error = Outcome.GIVEN_UP, foreign
        if outcome is not Outcome.WRITTEN:
            _forgive(partial(store.shelf.clear, self.key))
        ledger.release(self.key, self.holds, in_step=True)
        tell(self.stores, outcome, self.key, error)
        return outcome

    def _write(self, store: Store) -> None:
        if self.snapshot is not None:
            self._write_snapshot(store, self.snapshot)
            return
        cells = _read(store, self.key)
        if cells.kept is not None and cells.is_unwritten and not cells.is_dead:
            now = replace(self, version=cells.kept.version, born=cells.born)
            now._write_snapshot(store, store.instance_of(cells.kept))

    def _write_snapshot(self, store: Store, snapshot: AbstractBaseSession) -> None:
        row = Row(store.model, store.leader, self.key)
        with transaction.atomic(using=store.leader):
            stored, refusal = row.lock(), None
            if stored is None and self.born:
                refusal = row.insert(snapshot)
                stored = row.lock() if refusal else None
            cells = _read(store, self.key)
            if cells.is_dead or (stored is None and not self.born):
                raise _Ended
            if stored is None and refusal is not None:
                raise refusal
            written = self.version if stored is None else self._version_in(stored)
            newest, version = self._newest(store, snapshot, cells, written)
            if newest is not None:
                row.update(newest)
            self._confirm_with_commit(store, cells, snapshot, version)

    def _version_in(self, stored: AbstractBaseSession) -> int:
        version = version_of(stored.session_data)
        if UNKNOWN < version < self.born:
            raise CreateError(f"There was a session under the key of a new one: {self.key[:4]}...")
        return version

    def _newest(
        self, store: Store, snapshot: AbstractBaseSession, cells: Cells, written: int
    ) -> tuple[AbstractBaseSession | None, int]:
        """Return what must be written, None where the row has it, and the version that it is.

        What the cache holds comes last whatever its version, if this job brings it: two saves at
        the same moment may have reached the cache in the other order than they took their versions.
        Whoever only looks at the cache does not know that: it may have missed a save by force.
        """
        kept = cells.kept
        is_lost = kept is None or kept.refill or self.by_force
        if kept is not None and not is_lost and kept.version != self.version:
            is_newer = kept.version > written
            return (store.instance_of(kept), kept.version) if is_newer else (None, written)
        is_last = not is_lost and self.snapshot is not None
        has_changed = self.version != written if is_last else self.version > written
        return (snapshot, self.version) if has_changed else (None, written)

    def _confirm_with_commit(
        self, store: Store, cells: Cells, snapshot: AbstractBaseSession, version: int
    ) -> None:
        def confirm() -> None:
            kept = cells.kept
            may_be_old = kept is not None and (kept.refill or self.snapshot is None)
            if kept is not None and may_be_old and kept.version < version:
                # Whoever loads it now gets the new one, from the row.
                store.shelf.clear(self.key)
            else:
                store.shelf.confirm(self.key, version, store.seconds_left(snapshot))

        transaction.on_commit(partial(_forgive, confirm), using=store.leader)


@dataclass(frozen=True)
class Recall:
    """Takes from a cache that failed what it must not give to anybody when it is back.

    That is a state older than *version*; without one, whatever it has of a session that has ended.
    """

    stores: Any
    key: str
    version: int | None = None

    def after(self, earlier: "Recall") -> "Recall":
        versions = [each.version for each in (self, earlier) if each.version is not None]
        return replace(self, version=max(versions) if len(versions) == 2 else None)

    def failed(self, error: BaseException, *, given_up: bool) -> None:
        level = logging.ERROR if given_up else logging.INFO
        logger.log(level, "The cache may hold what a session no longer is: %r", error)

    def __call__(self) -> None:
        shelf = self.stores(self.key).shelf
        if self.version is None:
            shelf.bury(self.key, 0, {})
            shelf.clear(self.key)
            return
        shelf.prove(self.key)
        kept = shelf.read(self.key).kept
        if kept is not None and kept.version < self.version:
            shelf.clear(self.key)


@dataclass(frozen=True)
class Erase:
    """Deletes on the leader a session that has its tombstone already."""

    stores: Any
    key: str
    holds: int = 0

    def after(self, earlier: "Write | Erase") -> "Write | Erase":
        return replace(self, holds=self.holds + earlier.holds)

    def failed(self, error: BaseException, *, given_up: bool) -> None:
        _report(self, error, given_up)

    def __call__(self) -> None:
        store: Store = self.stores(self.key)
        row = Row(store.model, store.leader, self.key)
        if not row.delete():
            kept = _read(store, self.key).kept or Kept({}, UNKNOWN)
            row.delete_what_is_being_inserted(store.instance_of(kept))
        _forgive(partial(store.shelf.clear, self.key))
        ledger.release(self.key, self.holds, in_step=True)


def _read(store: Store, key: str) -> Cells:
    """Return what the cache holds, nothing where it fails: the snapshot is all there is then."""
    try:
        return store.shelf.read(key)
    except Exception as error:  # Each cache raises what its driver raises.
        logger.warning("The cache fails while a session is written: %r", error)
        return Cells()


def _forgive(work: Callable[[], None]) -> None:
    """Do what may be left undone; the next load makes up for it."""
    try:
        work()
    except Exception as error:  # Each cache raises what its driver raises.
        logger.warning("The cache fails after a session was written: %r", error)


def _report(job: Write | Erase, error: BaseException, given_up: bool) -> None:
    if given_up:
        ledger.give_up(job.key, job.holds)
    outcome = Outcome.GIVEN_UP if given_up else Outcome.RETRIED
    level = logging.ERROR if given_up else logging.INFO
    logger.log(level, "A session could not be written, which is %s: %r", outcome.value, error)
    tell(job.stores, outcome, job.key, error)
