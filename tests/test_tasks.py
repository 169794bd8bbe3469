"""Django's Tasks are units of work: at once, and in real workers over a queue in the database."""

import subprocess
import sys
import time
from contextlib import ExitStack
from importlib import import_module

import django
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connections

from django_replicas import get_newly_pinned, get_pinned, is_pinned, unit_of_work
from django_replicas.jobs import HEADER
from django_replicas.marking import take_marks
from django_replicas.scopes import OUTSIDE, current, current_unit

from .jobs.crew import (
    FOLLOWERS,
    Crew,
    check_all_began_with_nothing,
    check_all_took_part,
    check_callers_unit_stays_its_own,
)
from .jobs.reports import VARIABLE, read_reports, title, write

HAS_TASKS = django.VERSION >= (6, 0)


@pytest.fixture(autouse=True)
def reports(tmp_path, monkeypatch):
    """Return what the jobs of this process have reported so far."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "own-reports"))
    return lambda: read_reports(tmp_path / "own-reports")


@pytest.fixture
def jobs():
    if not HAS_TASKS:
        pytest.skip("django.tasks came with Django 6.0")
    return import_module("tests.jobs.tasks")


# Immediately


def test_a_task_is_a_unit_inside_its_callers(jobs, reports):
    """It sees what the caller wrote and not its role or pins, and hands its own writes back."""
    check_callers_unit_stays_its_own(jobs.work.enqueue, reports)


@pytest.mark.parametrize("kind", ["read", "pin", "write", "leave open", "fail", "change role"])
def test_nothing_is_left_after_a_task(jobs, kind, reports):
    """After each task the thread is as it was, and the next task begins with nothing."""
    jobs.work.enqueue(1, kind)

    assert current.get() is OUTSIDE
    jobs.work.enqueue(2, "read")
    check_all_began_with_nothing(reports())


def test_an_interrupted_task_leaves_nothing(jobs):
    """Ctrl-C, after which Django tells nobody that the task has finished, leaves the unit too."""
    with pytest.raises(KeyboardInterrupt):
        jobs.interrupt.enqueue(1)

    assert current.get() is OUTSIDE


def test_a_task_may_have_a_role(jobs, reports):
    """The decorators for roles stand below ``@task``."""
    jobs.work_as_leader.enqueue(1)
    jobs.work_as_follower.enqueue(2)

    assert [(each["role"], each["answer"] in FOLLOWERS) for each in reports()] == [
        ("leader", False),
        ("follower", True),
    ]


def test_an_async_task(jobs, reports):
    """It is a unit too, and hands its writes to the caller."""
    with unit_of_work():
        jobs.work_async.enqueue(1)
        assert get_newly_pinned() == {"default"}

    check_all_began_with_nothing(reports())


async def test_tasks_on_an_event_loop(jobs, reports):
    """Queued or called there, a task is a unit inside its caller's."""
    try:
        with unit_of_work():
            await jobs.work.aenqueue(1, "pin")
            assert get_pinned() == frozenset()
            await jobs.work_async.acall(2)
            assert get_newly_pinned() == {"default"}
    finally:
        await sync_to_async(connections.close_all)()

    check_all_began_with_nothing(reports())


def test_an_implicit_unit_sees_what_its_task_wrote(jobs, settings):
    """A thread's own unit is the caller's, where the task is done at once."""
    settings.REPLICAS = {**settings.REPLICAS, "OUTSIDE_UNITS": "routed"}
    assert title() in FOLLOWERS

    jobs.work.enqueue(1, "write")

    assert title() == "default"


# Queued


def work_off(result):
    """Do the job as a worker does it."""
    return result.task.call(*result.args, **result.kwargs)


def test_a_job_carries_what_its_sender_wrote(jobs):
    """Every job after the write has the mark, and the sender still owes it to its user."""
    work = jobs.work.using(backend="kept")
    with unit_of_work() as block:
        assert work.enqueue(1, "read").kwargs == {}
        write()
        for _ in range(2):
            assert work.enqueue(2, kind="read").kwargs[HEADER].startswith("default:")
        assert async_to_sync(work.aenqueue)(3, "read").kwargs[HEADER].startswith("default:")
        assert list(take_marks(block.unit)) == ["default"]
    assert work.enqueue(4, "read").kwargs == {}


def test_a_job_reads_what_its_sender_wrote(jobs, reports):
    """The mark sends the task's reads to the leader; the function knows nothing of it."""
    with unit_of_work():
        write()
        job = jobs.work.using(backend="kept").enqueue(1, "read")
    work_off(job)
    jobs.work.call(2, "read")

    assert [each["answer"] in FOLLOWERS for each in reports()] == [False, True]


async def test_a_job_on_an_event_loop_reads_what_its_sender_wrote(jobs, reports):
    """A worker that awaits its tasks finds the marks as well."""
    try:
        await jobs.work_async.acall(1, **{HEADER: f"default:{int(time.time()) + 5}"})
    finally:
        await sync_to_async(connections.close_all)()

    assert [each["answer"] for each in reports()] == ["default"]


def test_a_task_that_was_made_for_another_backend(jobs):
    """It would hand the marks to its function, so it gets none."""
    with unit_of_work():
        write()
        assert jobs.work_plainly.using(backend="kept").enqueue().kwargs == {}


def test_the_workers_own_unit(jobs, reports, settings):
    """What a worker writes between jobs, in its thread's implicit unit, does not pin the jobs."""
    settings.REPLICAS = {**settings.REPLICAS, "OUTSIDE_UNITS": "routed"}
    job = jobs.work.using(backend="kept").enqueue(1, "read")
    write()
    work_off(job)
    check_all_began_with_nothing(reports())

    unit = current_unit()
    unit.forget(keep_owed=False)
    jobs.work.using(backend="kept").call(2, "write")

    assert current_unit() is unit
    assert not is_pinned("default")


# Real workers


def test_a_thousand_tasks(jobs, tmp_path, pristine):
    """Two workers of django-tasks-db, and jobs of all kinds."""
    crew = Crew(tmp_path, pristine)
    feed = [sys.executable, "-m", "tests.jobs.feed", "1000", "2"]
    fed = subprocess.run(feed, env=crew.environment, check=True, capture_output=True)
    worker = ("django", "db_worker", "--interval=0.01", "--no-startup-delay", "--no-reload")
    with ExitStack() as stack:
        workers = [stack.enter_context(crew.worker(f"worker{n}", *worker)) for n in range(2)]
        reports = crew.wait_for(int(fed.stdout), *workers)

    check_all_began_with_nothing(reports)
    check_all_took_part(reports, workers=2)
