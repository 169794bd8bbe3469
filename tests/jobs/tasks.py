"""The same jobs for Django's Tasks."""

from asgiref.sync import sync_to_async
from django.tasks import task

from django_replicas import pin, use_follower, use_leader

from .reports import DEEDS, look_for, meet, report, write


@task
def work(number, kind):
    report(number, kind)
    DEEDS[kind]()


@task
@use_leader
def work_as_leader(number):
    report(number, "as leader")


@task
@use_follower
def work_as_follower(number):
    report(number, "as follower")


@task
async def work_async(number):
    await sync_to_async(report)(number, "async")
    await sync_to_async(write)()


@task
def work_twice(number, attempt=0):
    """Write, and queue itself again: the second time it has to see the write of the first."""
    report(number, "retry", attempt)
    if not attempt:
        write()
        work_twice.enqueue(number, attempt=1)


@task
def look(word):
    look_for(word)


@task
def meet_others(number, workers):
    meet(number, workers)


@task
def interrupt(number):
    report(number, "interrupt")
    pin("default")
    raise KeyboardInterrupt


@task(backend="plain")
def work_plainly():
    pass
