"""Queues for Django's Tasks in which each task is a unit of work."""

import django_tasks_db
from django.tasks.backends.dummy import DummyBackend

from django_replicas.integrations.tasks import UnitPerTask


class DatabaseBackend(UnitPerTask, django_tasks_db.DatabaseBackend):
    """Has workers in other processes."""


class AwaitedBackend(DummyBackend):
    """Queues what is awaited by itself, as backends do whose database has an async driver."""

    async def aenqueue(self, task, args, kwargs):
        return DummyBackend.enqueue(self, task, args, kwargs)


class KeepingBackend(UnitPerTask, AwaitedBackend):
    """Keeps what was queued for the test, which does the worker's part."""
