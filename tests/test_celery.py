"""Celery tasks are units of work: in this process, eagerly, and in real workers over Redis."""

import os
import time

import pytest
from celery import Celery, signals
from celery.app.trace import trace_task

from django_replicas import get_pinned, is_pinned, unit_of_work
from django_replicas.integrations.celery import _running
from django_replicas.jobs import HEADER
from django_replicas.marking import take_marks
from django_replicas.scopes import OUTSIDE, current, current_unit
from servers.redis import Redis, RedisNotFound, find_server

from .jobs import celery_tasks as jobs
from .jobs.app import app
from .jobs.crew import (
    FOLLOWERS,
    Crew,
    check_all_began_with_nothing,
    check_all_took_part,
    check_callers_unit_stays_its_own,
)
from .jobs.reports import VARIABLE, Failure, mixed, read_reports, reports_of, title, write


@pytest.fixture(autouse=True)
def reports(tmp_path, monkeypatch):
    """Return what the jobs of this process have reported so far."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "own-reports"))
    return lambda: read_reports(tmp_path / "own-reports")


@pytest.fixture
def eager():
    app.conf.task_always_eager = True
    yield
    app.conf.task_always_eager = False


def work_off(task, *args, headers=None):
    """Have a task done as a worker does it, in this thread."""
    request = {"id": "an-id", **(headers or {})}
    return trace_task(task, "an-id", args, {}, request=request, app=app)


# What a worker does, in this process


@pytest.mark.parametrize("kind", ["read", "pin", "write", "leave open", "fail", "change role"])
def test_nothing_is_left_in_a_worker(kind, reports):
    """After each task the thread is outside any unit, and the next task begins with nothing."""
    work_off(jobs.work, 1, kind)

    assert current.get() is OUTSIDE
    assert not _running
    work_off(jobs.work, 2, "read")
    check_all_began_with_nothing(reports())


def test_a_task_may_have_a_role(reports):
    """``replicas_role`` is the role of each of its units, and of no other task's."""
    work_off(jobs.work_as_leader, 1)
    work_off(jobs.work_as_follower, 2)
    work_off(jobs.work, 3, "read")

    assert [(each["role"], each["answer"] in FOLLOWERS) for each in reports()] == [
        ("leader", False),
        ("follower", True),
        (None, True),
    ]


def test_a_role_that_does_not_exist(reports, caplog):
    """Celery logs what is wrong; the task is done, on the leader."""
    work_off(jobs.work_in_no_role, 1)

    (logged,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "'boss' is no role" in logged
    assert [(each["unit"], each["answer"]) for each in reports()] == [(False, "default")]
    assert not _running


def test_what_somebody_left_in_the_thread(reports):
    """A unit that is open in the worker's thread is none of its tasks' business."""
    with unit_of_work(role="leader"):
        write()
        work_off(jobs.work, 1, "write")

    check_all_began_with_nothing(reports())


def test_an_implicit_unit_of_the_worker(reports, settings):
    """What a worker wrote in its thread's own unit does not pin its tasks, nor they it."""
    settings.REPLICAS = {**settings.REPLICAS, "OUTSIDE_UNITS": "routed"}
    write()
    work_off(jobs.work, 1, "read")
    check_all_began_with_nothing(reports())

    unit = current_unit()
    unit.forget(keep_owed=False)
    work_off(jobs.work, 2, "write")

    assert current_unit() is unit
    assert not is_pinned("default")


# Eagerly


def test_an_eager_task_is_a_unit_inside_its_callers(eager, reports):
    """It sees what the caller wrote and not its role or pins, and hands its own writes back."""
    check_callers_unit_stays_its_own(jobs.work.delay, reports)


def test_an_eager_task_may_have_a_role(eager, reports):
    """The role is for the task alone."""
    with unit_of_work():
        jobs.work_as_leader.delay(1)
        assert title() in FOLLOWERS

    assert reports()[0]["answer"] == "default"


def test_an_eager_task_outside_units(eager, reports):
    """It is a unit of its own, and leaves nothing."""
    jobs.work.delay(1, "write")

    check_all_began_with_nothing(reports())
    assert current.get() is OUTSIDE


def test_an_eager_task_that_fails(eager):
    """Its error reaches the caller, whose unit goes on."""
    with unit_of_work() as outer:
        with pytest.raises(Failure):
            jobs.work.apply([1, "fail"], throw=True)
        assert current_unit() is outer.unit
        assert get_pinned() == frozenset()


def test_an_eager_retry_sees_the_attempt_before(eager, reports):
    """Celery does the retry inside the first attempt, whose write it has to see."""
    with unit_of_work() as outer:
        jobs.work_twice.delay(1)
        assert current_unit() is outer.unit
        assert is_pinned("default")

    first, second = reports()
    assert (first["answer"] in FOLLOWERS, second["answer"]) == (True, "default")
    assert not _running


# Marks in messages


@pytest.fixture
def sent():
    """Keep the headers of what is sent to a broker inside this process."""
    headers = []

    def keep(headers, kept=headers, **kwargs):
        kept.append(headers)

    signals.after_task_publish.connect(keep, weak=False, dispatch_uid="tests.sent")
    with Celery("sender", broker="memory://", set_as_current=False) as sender:
        yield lambda: (sender.send_task("work"), headers[-1].get(HEADER))[1]
    signals.after_task_publish.disconnect(dispatch_uid="tests.sent")


def test_a_message_carries_what_its_sender_wrote(sent):
    """Every message after the write has the mark, and the sender still owes it to its user."""
    with unit_of_work() as block:
        assert sent() is None
        write()
        for _ in range(2):
            assert sent().startswith("default:")
        assert list(take_marks(block.unit)) == ["default"]
    assert sent() is None


def test_a_task_reads_what_its_sender_wrote(reports, sent):
    """The mark of the message sends the task's reads to the leader."""
    with unit_of_work():
        write()
        work_off(jobs.work, 1, "read", headers={HEADER: sent()})
    work_off(jobs.work, 2, "read")

    assert [each["answer"] in FOLLOWERS for each in reports()] == [False, True]


def test_a_task_sends_on_what_it_came_with(sent):
    """Marks pass through a task that writes nothing to those that it queues."""
    passed = []

    @app.task(name="tests.passes", shared=False)
    def passes():
        passed.append(sent())

    mark = f"default:{int(time.time()) + 5}"
    work_off(passes, headers={HEADER: mark})

    assert passed == [mark]


# Real workers, a real broker


@pytest.fixture
def redis():
    try:
        find_server()
    except RedisNotFound as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    with Redis() as redis:
        yield redis


@pytest.fixture
def crew(redis, tmp_path, pristine):
    return Crew(tmp_path, pristine, redis.url)


@pytest.fixture
def send(redis):
    """Return a function that sends a job to the broker; it returns the job's result."""
    with Celery("sender", broker=redis.url, set_as_current=False) as sender:
        yield lambda name, *args: sender.send_task(f"tests.jobs.celery_tasks.{name}", args)


TASKS = {"as leader": "work_as_leader", "as follower": "work_as_follower", "retry": "work_twice"}


def send_mixed(send, count, workers):
    """Send jobs of all kinds; return how many reports they will leave."""
    jobs_of_all_kinds = mixed(count, workers)
    for number, kind in jobs_of_all_kinds:
        if kind == "meet":
            send("meet_others", number, workers)
        elif kind in TASKS:
            send(TASKS[kind], number)
        else:
            send("work", number, kind)
    return reports_of(jobs_of_all_kinds)


WORKER = ("celery", "-A", "tests.jobs.app", "worker", "--without-gossip", "--without-mingle")


def test_hundreds_of_tasks_in_processes(crew, send):
    """Two processes, jobs of all kinds, one that takes too long, one whose process is killed."""
    send("work_too_long", -10)
    hanging = send("hang", -11)
    expected = send_mixed(send, 240, workers=2) + len(["too long", "interrupted", "hang"])
    with crew.worker("prefork", *WORKER, "--pool=prefork", "--concurrency=2") as worker:
        crew.wait_for_kind("hang", worker)
        hanging.revoke(terminate=True, signal="SIGKILL")
        reports = crew.wait_for(expected, worker)

    in_the_midst = [report for report in reports if report["kind"] in {"interrupted", "hang"}]
    assert {tuple(report["pinned"]) for report in in_the_midst} == {("default",)}
    began = [report for report in reports if report not in in_the_midst]
    check_all_began_with_nothing(began)
    check_all_took_part(began, workers=2)


def test_a_thousand_tasks_in_threads(crew, send):
    """Four threads, jobs of all kinds."""
    expected = send_mixed(send, 1000, workers=4)
    with crew.worker("threads", *WORKER, "--pool=threads", "--concurrency=4") as worker:
        reports = crew.wait_for(expected, worker)

    check_all_began_with_nothing(reports)
    check_all_took_part(reports, workers=4)
