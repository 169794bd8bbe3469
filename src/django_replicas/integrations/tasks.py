"""Django's Tasks: each call of a task is a unit of work, on any backend.

The unit is opened around the task itself, not from ``task_started`` to ``task_finished``: a worker
keeps its own rows between those signals, and the second is not sent after ``KeyboardInterrupt``.
"""

from typing import Any

import django

if django.VERSION < (6, 0):
    raise ImportError(
        "django_replicas.integrations.tasks is for django.tasks, which came with Django 6.0; "
        f"this is Django {django.get_version()}. Use django_replicas.unit_of_work() in the tasks."
    )

from django.tasks.backends import immediate
from django.tasks.backends.base import BaseTaskBackend
from django.tasks.base import Task

from django_replicas.jobs import HEADER, Job, marks_to_send
from django_replicas.origins import unit_of_other_middleware
from django_replicas.scopes import current_scope


class UnitTask(Task):  # type: ignore[type-arg]  # only its stub takes any
    """A task each of whose calls is a unit of work."""

    def call(self, *args: Any, **kwargs: Any) -> Any:
        with self._job(kwargs.pop(HEADER, None)):
            return super().call(*args, **kwargs)

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        with self._job(kwargs.pop(HEADER, None)):
            return await super().acall(*args, **kwargs)

    def _job(self, sent: Any) -> Job:
        scope = current_scope()
        # A thread's implicit unit is of those who asked for it there, or of a worker's own queries.
        called = scope.thread is None or isinstance(self.get_backend(), ImmediateBackend)
        is_inside = scope.inside or unit_of_other_middleware() is not None
        return Job(sent, inline=is_inside and called)


class ImmediateBackend(immediate.ImmediateBackend):
    """Django's own, each task a unit inside the one that queues it, which sees what it wrote."""

    task_class = UnitTask


class UnitPerTask(BaseTaskBackend):
    """To be mixed into a backend: its tasks are units of work, and marks travel with them.

    The marks are one more keyword argument in the queue, gone before the function is called.
    """

    task_class = UnitTask

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        return super().enqueue(task, args, _with_marks(task, kwargs))

    async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        return await super().aenqueue(task, args, _with_marks(task, kwargs))


def _with_marks(task: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    # Tasks of another class, made for another backend, would hand it to their functions.
    marks = marks_to_send() if isinstance(task, UnitTask) else ""
    return {**kwargs, HEADER: marks} if marks else kwargs
