"""Jobs as Celery tasks."""

from threading import Event

from celery import chain, chord, group
from celery.exceptions import SoftTimeLimitExceeded

from .app import app
from .reports import DEEDS, look_for, meet, pin_for_good, put_down, report, write


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


@app.task(ignore_result=False)
def look(word):
    look_for(word)


@app.task(ignore_result=False)
def put(word):
    put_down(word)


@app.task(bind=True)
def look_twice(self, word):
    """Look, and be done again: the second attempt has to see what the first one had to."""
    look_for(word)
    if not self.request.retries:
        raise self.retry(countdown=0)


@app.task(bind=True)
def put_and_look(self, word):
    """Write, and be done again: the second attempt has to see the write of the first."""
    if not self.request.retries:
        put_down(word)
        raise self.retry(countdown=0)
    look_for(word)


@app.task
def queue_chord(word):
    """Queue what needs the results of others, which only this process can ask for."""
    chord([look.si(word), look.si(word)], look.si(word)).apply_async()


@app.task
def queue_chain_of_groups(word):
    chain(look.si(word), group(look.si(word), look.si(word)), look.si(word)).apply_async()
