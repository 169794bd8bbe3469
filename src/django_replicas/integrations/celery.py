"""Celery: each task is a unit of work, and what its sender wrote travels with its message.

Call ``install()`` where the Celery application is made, so that web processes run it as well.
"""

from typing import Any
from weakref import WeakKeyDictionary

from celery import signals

from django_replicas.jobs import HEADER, Job, marks_to_send

# Kept by the request that Celery makes for each execution: eager retries share their task's id.
_running: WeakKeyDictionary[Any, Job] = WeakKeyDictionary()


def install() -> None:
    """Make each task of every Celery application in this process a unit of work.

    A task has no role, unless it is made with ``replicas_role="follower"`` or "leader". A task
    that is called eagerly is a unit inside its caller's, which sees what it wrote.
    """
    signals.before_task_publish.connect(_put_marks, weak=False, dispatch_uid=f"{__name__}.publish")
    signals.task_prerun.connect(_begin, weak=False, dispatch_uid=f"{__name__}.begin")
    signals.task_postrun.connect(_end, weak=False, dispatch_uid=f"{__name__}.end")


def _put_marks(headers: dict[str, Any], **kwargs: Any) -> None:
    marks = marks_to_send()
    if marks:
        headers[HEADER] = marks


def _begin(task: Any, **kwargs: Any) -> None:
    request = task.request
    role = getattr(task, "replicas_role", None)
    job = Job(request.get(HEADER), role=role, inline=request.is_eager)
    _running[request] = job
    job.__enter__()


def _end(task: Any, **kwargs: Any) -> None:
    # There is none where the role was wrong; Celery has logged that, and the leader answered.
    job = _running.pop(task.request, None)
    if job is not None:
        job.__exit__(None, None, None)
