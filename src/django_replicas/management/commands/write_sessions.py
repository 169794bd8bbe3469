"""``manage.py write_sessions``: bring to the leader what a process that was killed has not."""

from collections import Counter
from importlib import import_module
from typing import Any

from django.conf import settings
from django.core.cache import caches
from django.core.management.base import BaseCommand, CommandError

from django_replicas.sessions.ledger import unwritten
from django_replicas.sessions.write_behind import SessionStore


class Command(BaseCommand):
    help = (
        "Write to the database the sessions that the cache holds and no process has written, "
        "because it was killed. Safe to run at any time, and by several at once."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        store = import_module(settings.SESSION_ENGINE).SessionStore
        if not issubclass(store, SessionStore):
            raise CommandError(
                f"SESSION_ENGINE is {settings.SESSION_ENGINE!r}, which writes its sessions itself. "
                'This command is for "django_replicas.sessions.write_behind".'
            )
        found: Counter[str] = Counter()
        for key in unwritten(caches[settings.SESSION_CACHE_ALIAS]):
            try:
                found[store(key).write()] += 1
            except Exception as error:  # Whatever the leader raises; the others are tried as well.
                found["failed"] += 1
                self.stderr.write(f"A session could not be written: {error!r}")
        self.stdout.write(", ".join(f"{found[each]} {each}" for each in sorted(found)) or "None.")
        if found["failed"]:
            raise CommandError(f"{found['failed']} sessions are still unwritten.")
