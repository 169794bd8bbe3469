"""Jobs as Celery tasks."""

from threading import Event

from celery.exceptions import SoftTimeLimitExceeded

from .app import app
from .reports import DEEDS, meet, pin_for_good, report, write


@app.task
def work(number, kind):
    report(number, kind)
    DEEDS[kind]()


@app.task(replicas_role="leader")
def work_as_leader(number):
    report(number, "as leader")


@app.task(replicas_role="follower")
def work_as_follower(number):
    report(number, "as follower")


@app.task(bind=True)
def work_twice(self, number):
    """Write, and be done again: the second attempt has to see the write of the first."""
    report(number, "retry", self.request.retries)
    if not self.request.retries:
        write()
        raise self.retry(countdown=0)


@app.task
def meet_others(number, workers):
    meet(number, workers)


@app.task
def hang(number):
    """Pin, and never come to an end."""
    pin_for_good()
    report(number, "hang")
    Event().wait()


@app.task(replicas_role="boss")
def work_in_no_role(number):
    report(number, "no role")


@app.task(soft_time_limit=1)
def work_too_long(number):
    report(number, "too long")
    try:
        while True:
            write()
    except SoftTimeLimitExceeded:
        report(number, "interrupted")
        raise
