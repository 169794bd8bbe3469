"""A unit of work around each message of any consumer, as the page on jobs shows it."""

import math
import queue
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import django
import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.db import connections

from django_replicas import get_pinned, pin, unit_of_work
from django_replicas.jobs import HEADER, Job, marks_to_send
from django_replicas.marking import take_marks
from django_replicas.marks import Mark
from django_replicas.pinning import UnitOfWork
from django_replicas.scopes import OUTSIDE, current, current_unit
from django_replicas.units import Unit

from .jobs.reports import title, write

FOLLOWERS = {"replica1", "replica2"}


# The recipe


def test_a_loop_over_messages():
    """Each message is a unit: what one of them pinned or failed at is not there for the next."""

    def handle(message):
        answer = title()
        if message == "write":
            write()
        if message == "fail":
            pin("default")
            raise ValueError
        return answer

    answers = []
    for message in ["read", "write", "read", "fail", "read"]:
        try:
            with unit_of_work():
                answers.append(handle(message))
        except ValueError:
            answers.append("failed")

    assert answers.pop(3) == "failed"
    assert set(answers) <= FOLLOWERS
    assert current.get() is OUTSIDE


def test_a_job_of_a_scheduler():
    """A scheduler calls functions on threads that it keeps."""

    @unit_of_work
    def every_night():
        answer = title()
        write()
        return answer

    @unit_of_work(role="leader")
    def every_hour():
        return title()

    def close():
        connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        answers = [
            pool.submit(job).result() for job in (every_night, every_hour, every_night, close)
        ]

    assert (answers[0] in FOLLOWERS, answers[1], answers[2] in FOLLOWERS) == (True, "default", True)


class Consumer:
    """An ASGI application that is no request: each frame of a connection is a unit."""

    async def __call__(self, scope, receive, send):
        while (message := await receive())["type"] == "websocket.receive":
            await self.answer(message, send)

    @unit_of_work
    async def answer(self, message, send):
        read = await sync_to_async(title)()
        if message["text"] == "write":
            await sync_to_async(write)()
        await send({"type": "websocket.send", "text": read})


async def test_a_consumer_on_an_event_loop():
    """The connection lasts, its units do not: a frame after a write reads followers again."""
    connection = ApplicationCommunicator(Consumer(), {"type": "websocket"})
    try:
        for text in ["write", "read"]:
            await connection.send_input({"type": "websocket.receive", "text": text})
            assert (await connection.receive_output())["text"] in FOLLOWERS
        await connection.send_input({"type": "websocket.disconnect"})
        await connection.wait()
    finally:
        await sync_to_async(connections.close_all)()


def test_a_message_takes_the_marks_along():
    """What the sender wrote is seen by whoever handles the message, in whatever thread."""
    messages = queue.Queue()

    def produce(body):
        messages.put({"body": body, "headers": {HEADER: marks_to_send()}})

    def consume():
        message = messages.get()
        with Job(message["headers"][HEADER]):
            return title()

    with unit_of_work():
        produce("before")
        write()
        produce("after")

    assert [consume() in FOLLOWERS, consume()] == [True, "default"]


# Marks to send


def carried(text):
    return [entry.partition(":")[0] for entry in text.split("|") if entry]


def test_outside_units_there_is_nothing_to_send():
    """There nobody keeps account of writes."""
    write()
    assert marks_to_send() == ""


def test_a_mark_is_sent_as_often_as_wanted():
    """What is sent with jobs is still owed to the user, and sent after that too."""
    with unit_of_work() as block:
        pin("default")
        assert carried(marks_to_send()) == carried(marks_to_send()) == ["default"]
        assert [*take_marks(block.unit)] == ["default"]
        assert carried(marks_to_send()) == ["default"]


def test_what_a_unit_came_with_is_sent_on():
    """A job that is queued by a request without writes sees what the user wrote before."""
    later, past = int(time.time()) + 5, time.time() - 1
    with Job(f"default:{later}"):
        assert marks_to_send() == f"default:{later}"
    with UnitOfWork(unit=Unit(lambda: {"default": Mark(past)})):
        assert marks_to_send() == ""


def test_where_routing_is_disabled_nothing_is_sent(settings):
    """Then nothing is routed at the other end either."""
    with unit_of_work():
        write()
        settings.REPLICAS = {**settings.REPLICAS, "ENABLED": False}
        assert marks_to_send() == ""


@pytest.mark.parametrize(
    "sent",
    [
        None,
        [],
        "default",
        "default:soon",
        "default:-1",
        "default:0",
        "replica1:999999999999",
        "nobody:999999999999",
        ":999999999999",
        b"default:999999999999",
        {"default": math.inf},
        999999999999,
    ],
)
def test_what_cannot_be_marks_is_dropped(sent):
    """A message may come from anybody."""
    with Job(sent):
        assert title() in FOLLOWERS


def test_a_mark_never_lasts_longer_than_ours(settings):
    """Whoever sent it cannot keep a job on the leader for ever."""
    settings.REPLICAS = {**settings.REPLICAS, "PIN_SECONDS": 2}
    with Job("default:999999999999") as job:
        assert title() == "default"
        assert job.unit.marks["default"].deadline <= time.time() + 2


# The job's unit


def test_a_job_begins_with_nothing_of_its_thread():
    """Whatever unit is open around it, and comes back after it."""
    with unit_of_work(role="leader") as outer:
        write()
        with Job() as job:
            assert (get_pinned(), current_unit()) == (frozenset(), job.unit)
            assert title() in FOLLOWERS
            write()
        assert current_unit() is outer.unit


def test_an_inline_job_is_inside_its_callers_unit():
    """It sees what the caller wrote, and the caller what the job wrote."""
    with unit_of_work():
        with Job(inline=True):
            write()
        assert get_pinned() == {"default"}
        with Job(inline=True):
            assert title() == "default"


def test_a_job_in_a_role_that_does_not_exist():
    """It is refused before anything begins."""
    with pytest.raises(ValueError, match="'boss' is no role"):
        Job(role="boss")


WITHOUT_OTHERS = """
import sys
import django_replicas.apps
import django_replicas.jobs
import django_replicas.integrations
assert not {"celery", "django.tasks"} & set(sys.modules)
"""


def test_other_packages_are_left_alone():
    """They are imported only by the modules that are theirs."""
    subprocess.run([sys.executable, "-W", "error", "-c", WITHOUT_OTHERS], check=True)


@pytest.mark.skipif(django.VERSION >= (6, 0), reason="this Django has Tasks")
def test_a_django_without_tasks():
    """The module says what is missing, and what to use instead."""
    with pytest.raises(ImportError, match=r"came with Django 6\.0; this is .*unit_of_work\(\)"):
        import_module("django_replicas.integrations.tasks")
