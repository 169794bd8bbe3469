"""``SESSION_ENGINE = "django_replicas.sessions.write_behind"``: the login does not wait.

A save is in the cache when it returns, and a bounded queue brings it to the leader. What is
promised, and what is not where a cache dies, is in the documentation.
"""

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.sessions.backends.base import VALID_KEY_CHARS, CreateError, UpdateError
from django.contrib.sessions.backends.cached_db import SessionStore as CachedDBStore
from django.contrib.sessions.base_session import AbstractBaseSession
from django.core.cache import BaseCache
from django.core.exceptions import SuspiciousOperation
from django.db import Error, connections, router
from django.utils import timezone
from django.utils.crypto import get_random_string

from django_replicas.conf import get_config
from django_replicas.leaders import has_open_transaction
from django_replicas.settling import get_follower

from . import versions
from .cells import PREFIX, CacheFailed, Cells, Kept, Shelf
from .ledger import ledger
from .outcomes import Outcome, tell
from .process import get_queue
from .writing import Erase, Recall, Write

logger = logging.getLogger("django.contrib.sessions")

# A log-in saves twice in one request: one write is enough, and until then no thread takes the
# processor from the request.
SECONDS_TOGETHER = 0.05
# So long has the process that saved a session to write it, before another one looks after it.
SECONDS_TO_RECOVERY = 3.0
PRINTABLE_KEY = frozenset(map(chr, range(33, 127)))
LONGEST_KEY = 128


class SessionStore(CachedDBStore):
    """A session in the cache, written to its leader behind it.

    Django's ``cached_db`` with another order, in every method, sync and async; subclasses change
    the model and ``create_model_instance`` as they do there. Async methods run in the thread that
    Django runs the ORM in, so that they see its transactions.
    """

    cache_key_prefix = PREFIX
    _cache: BaseCache
    _session: dict[str, Any]

    if TYPE_CHECKING:

        def _get_session(self, no_load: bool = False) -> dict[str, Any]: ...

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(session_key)
        self.shelf = Shelf(self._cache, self.cache_key_prefix)
        self._version = versions.UNKNOWN
        self._born = 0
        self._is_copy = False
        self._nobodys_key: str | None = None

    # What the queue asks

    @property
    def leader(self) -> str:
        """The alias that sessions are written to, and read from."""
        return router.db_for_write(self.model)

    def instance_of(self, kept: Kept) -> AbstractBaseSession:
        """Return a state in the cache as it is stored, with the expiry that it had when saved."""
        self._session_cache = kept.data
        self._version, self._is_copy = kept.version or versions.next_version(), True
        return self.create_model_instance(kept.data)

    def seconds_left(self, instance: AbstractBaseSession) -> float:
        return (instance.expire_date - timezone.now()).total_seconds()

    def get_expiry_date(self, **kwargs: Any) -> datetime:
        if self._is_copy:
            zone = UTC if settings.USE_TZ else None
            saved_at = datetime.fromtimestamp(self._version / versions.NANOSECONDS, zone)
            kwargs.setdefault("modification", saved_at)
        return super().get_expiry_date(**kwargs)

    def encode(self, session_dict: dict[str, Any]) -> str:
        version = self._version or versions.next_version()
        return versions.encode(session_dict, version, self.key_salt, self.serializer)

    # Loading

    def load(self) -> dict[str, Any]:
        key = self.session_key
        if key is None:
            return {}
        cells = self._read(key, trusting=True)
        if cells is not None and cells.is_dead:
            return self._end_of(key, cells)
        if cells is None or cells.kept is None:
            return self._load_from_database(key, refill=cells is not None)
        if cells.is_unwritten and not self._is_synchronous():
            job = Write(type(self), key, cells.kept.version, cells.born)
            get_queue().submit(key, job, after=SECONDS_TO_RECOVERY)
        self._version = cells.kept.version
        return cells.kept.data

    def _end_of(self, key: str, cells: Cells) -> dict[str, Any]:
        if cells.kept is not None:
            self._take_back(key)
        self._session_key = None
        return {}

    def _load_from_database(self, key: str, refill: bool) -> dict[str, Any]:
        row = self._get_session_from_db()
        if row is None:
            return {}
        data: dict[str, Any] = self.decode(row.session_data)
        self._version = versions.version_of(row.session_data)
        return data if not refill or self._refill(key, row, data) else {}

    def _refill(self, key: str, row: AbstractBaseSession, data: dict[str, Any]) -> bool:
        """Have the cache hold what the database has; tell whether the session still lives."""
        kept = Kept(data, self._version, refill=True)
        seconds: float = self.get_expiry_age(expiry=row.expire_date)
        if row._state.db != self.leader:
            # A follower does not stay as old as it is; what it said must not either.
            replica_set = get_config().topology.by_leader[self.leader]
            seconds = min(seconds, replica_set.pin_seconds)
        try:
            self.shelf.add(key, kept, seconds)
            if not self.shelf.is_dead(key):
                return True
        except Exception:  # Each cache raises what its driver raises.
            self._complain()
            return True
        self._take_back(key)
        self._session_key = None
        return False

    def _get_session_from_db(self) -> AbstractBaseSession | None:
        for alias in self._aliases_to_read():
            try:
                row = self.model.objects.using(alias).get(
                    session_key=self.session_key, expire_date__gt=timezone.now()
                )
            except self.model.DoesNotExist:
                continue
            except SuspiciousOperation as error:
                logging.getLogger(f"django.security.{type(error).__name__}").warning(str(error))
                break
            except Error:  # InterfaceError, of a dead connection, is no DatabaseError.
                if alias == self.leader:
                    raise
            else:
                # Some databases find ABC by abc. Caches do not, and would keep both.
                if row.session_key == self.session_key:
                    return row
        self._session_key = None
        return None

    def _aliases_to_read(self) -> list[str]:
        leader = self.leader
        if get_config().session_miss == "leader" or has_open_transaction(connections[leader]):
            return [leader]
        return [*dict.fromkeys([get_follower(leader), leader])]

    def exists(self, session_key: str | None) -> bool:
        if not self._validate_session_key(session_key):
            return False
        cells = self._read(str(session_key)) or Cells()
        if cells.is_dead or cells.kept is not None:
            return not cells.is_dead
        return bool(self.model.objects.using(self.leader).filter(pk=session_key).exists())

    # Saving

    def save(self, must_create: bool = False) -> None:
        """Put the session into the cache, and have it written behind.

        Raises ``UpdateError`` at once for a session that has ended, ``CreateError`` where
        *must_create* meets one that is there, and the serializer's error, before anything is
        kept, for data that it cannot take.
        """
        if self.session_key is None:
            self.create()
            return
        data = self._get_session(no_load=must_create)
        (self._begin if must_create else self._go_on)(self.session_key, data)

    def _begin(self, key: str, data: dict[str, Any]) -> None:
        self._version = self._born = versions.next_version()
        job = self._job(key, data, self._born)
        line = ledger.hold(key, self._cache)
        try:
            is_first = self._is_first(key, Kept(data, self._version, self._born))
            if is_first:
                self._tell_of(line)
        except Exception:  # Each cache raises what its driver raises.
            self._complain()
            self._write_now(replace(job, by_force=True), CreateError)
            return
        if not is_first:
            ledger.release(key)
            raise CreateError
        self._hand_over(job, CreateError)

    def _tell_of(self, line: dict[str, str]) -> None:
        for name, key in line.items():
            self._cache.set(name, key, self._age())

    def _is_first(self, key: str, kept: Kept) -> bool:
        """Put what the session begins with into the cache; tell whether nobody had the key."""
        if not self.shelf.add(key, kept, self._age()):
            cells = self.shelf.read(key)
            if cells.kept is None and not cells.is_dead:
                raise CacheFailed("The cache takes nothing.")
            return False
        if key == self._nobodys_key:
            self._nobodys_key = None
        elif self.shelf.is_dead(key):
            self._take_back(key)
            return False
        return True

    def _go_on(self, key: str, data: dict[str, Any]) -> None:
        cells = self._read(key, trusting=True, tombstone=False) or Cells()
        kept = cells.kept
        born = self._born if kept is None else cells.born
        self._version = versions.next_version(max(self._version, kept.version if kept else 0))
        job, age = self._job(key, data, born), self._age()
        line = ledger.hold(key, self._cache)
        try:
            self.shelf.put(key, Kept(data, self._version, born), age, line)
            is_dead = self.shelf.is_dead(key)
        except Exception:  # Each cache raises what its driver raises.
            self._complain()
            self._take_back(key)
            self._recall(key, self._version)
            self._write_now(replace(job, by_force=True), UpdateError)
            return
        if is_dead:
            ledger.release(key)
            self._take_back(key)
            raise UpdateError
        if kept is None or age <= 0:
            # Nobody but the leader knows whether it is still there, or will know that it is over.
            self._write_now(job, UpdateError)
        else:
            self._hand_over(job, UpdateError)

    def _take_back(self, key: str) -> None:
        try:
            self.shelf.clear(key)
        except Exception:  # A cache that fails, fails twice.
            logger.warning("The cache may hold an older state of a session.", exc_info=True)

    def _recall(self, key: str, version: int | None = None) -> None:
        """Have the cache lose, when it is back, what is older, or without a version everything."""
        get_queue().submit(f"recall {key}", Recall(type(self), key, version), SECONDS_TO_RECOVERY)

    def _job(self, key: str, data: dict[str, Any], born: int) -> Write:
        # Made now: data that cannot be stored raises before anything is kept, and what the request
        # does with its data from here on is not in it.
        snapshot = self.create_model_instance(data)
        return Write(type(self), key, self._version, born, snapshot, holds=1)

    def _hand_over(self, job: Write, refusal: type[Exception]) -> None:
        if self._is_synchronous() or not get_queue().submit(job.key, job, SECONDS_TOGETHER):
            self._write_now(job, refusal)

    def _write_now(self, job: Write, refusal: type[Exception]) -> None:
        tell(type(self), Outcome.SYNCHRONOUS, job.key)
        try:
            outcome = job()
        except Exception:
            # The caller hears that it is not saved; nobody else has to remember it.
            ledger.release(job.key, job.holds)
            raise
        if outcome is not Outcome.WRITTEN:
            raise refusal

    def _is_synchronous(self) -> bool:
        connection = connections[self.leader]
        return (
            get_config().write_behind == "sync"
            or has_open_transaction(connection)
            # What a thread writes there is never committed.
            or not connection.settings_dict["AUTOCOMMIT"]
            # Every connection to such a database has another one.
            or getattr(connection, "is_in_memory_db", bool)()
        )

    def _age(self) -> float:
        return self.get_expiry_age()

    def write(self) -> str:
        """Bring the database in step with what the cache holds, and say what had to be done."""
        key = str(self.session_key)
        cells = self.shelf.read(key)
        if cells.is_dead:
            Erase(type(self), key)()
            return "ended"
        if not cells.is_unwritten or cells.kept is None:
            return "in step"
        return str(Write(type(self), key, cells.kept.version, cells.born)().value)

    # Ending

    def delete(self, session_key: str | None = None) -> None:
        """End the session, here and wherever it is being saved; the leader has no row of it then.

        Where the leader fails its error is raised; the session has ended all the same, and the row
        is deleted behind.
        """
        key = self.session_key if session_key is None else session_key
        if key is None or not self._validate_session_key(key):
            return
        self._bury(key)
        self._erase(key)

    def cycle_key(self) -> None:
        """Go on under a new key; the old one has ended, and its row is deleted behind."""
        data, key = self._session, self.session_key
        self.create()
        self._session_cache = data
        if key is None:
            return
        has_tombstone = self._bury(key)
        behind = has_tombstone and not self._is_synchronous()
        erasure = Erase(type(self), key, holds=1)
        if not (behind and get_queue().submit(key, erasure, SECONDS_TOGETHER)):
            self._erase(key)

    def _erase(self, key: str) -> None:
        waiting = get_queue().cancel(key)
        erasure = Erase(type(self), key, holds=1 + (waiting.holds if waiting else 0))
        try:
            erasure()
        except Error:  # InterfaceError, of a dead connection, is no DatabaseError.
            get_queue().submit(key, erasure)
            raise

    def _bury(self, key: str) -> bool:
        line = ledger.hold(key, self._cache)
        expiry = self._age() if hasattr(self, "_session_cache") else 0
        try:
            self.shelf.bury(key, expiry, line)
        except Exception:  # Each cache raises what its driver raises.
            logger.exception("The cache does not know that a session has ended (%s)", self._cache)
            self._recall(key)
            return False
        return True

    # Keys

    def _validate_session_key(self, key: Any) -> bool:
        longest = self.model._meta.pk.max_length or LONGEST_KEY
        return isinstance(key, str) and 8 <= len(key) <= longest and PRINTABLE_KEY.issuperset(key)

    def _get_new_session_key(self) -> str:
        # Nobody can have this one; whether that is so is decided in the cache when it is saved.
        self._nobodys_key = get_random_string(32, VALID_KEY_CHARS)
        return self._nobodys_key

    # The cache

    def _read(self, key: str, **asked: bool) -> Cells | None:
        """Return what the cache holds, None where it fails."""
        try:
            return self.shelf.read(key, **asked)
        except Exception:  # Each cache raises what its driver raises.
            logger.exception("Error loading from cache (%s)", self._cache)
            return None

    def _complain(self) -> None:
        logger.exception("Error saving to cache (%s)", self._cache)

    # Async

    async def aload(self) -> dict[str, Any]:
        return await sync_to_async(self.load)()

    async def aexists(self, session_key: str | None) -> bool:
        return await sync_to_async(self.exists)(session_key)

    async def acreate(self) -> None:
        await sync_to_async(self.create)()

    async def asave(self, must_create: bool = False) -> None:
        await sync_to_async(self.save)(must_create)

    async def adelete(self, session_key: str | None = None) -> None:
        await sync_to_async(self.delete)(session_key)

    async def acycle_key(self) -> None:
        await sync_to_async(self.cycle_key)()

    async def _aget_session_from_db(self) -> AbstractBaseSession | None:
        return await sync_to_async(self._get_session_from_db)()

    async def _aget_new_session_key(self) -> str:
        return self._get_new_session_key()
