"""What each job saw when it began, and what it then did to leave a trace."""

import json
import os
import threading
from itertools import cycle, islice
from pathlib import Path

from django_replicas import follower, get_newly_pinned, get_pinned, leader, pin, use_leader
from django_replicas.scopes import current_scope, current_unit
from servers.waiting import wait_until
from tests.shop.models import Book, Label

VARIABLE = "DJANGO_REPLICAS_TEST_REPORTS"


class Failure(Exception):
    """What a job raises on purpose."""


def report(number, kind, attempt=0):
    """Append what holds here to the report, as a line of its own."""
    unit = current_unit()
    began = {
        "number": number,
        "kind": kind,
        "attempt": attempt,
        "worker": f"{os.getpid()} {threading.get_ident()}",
        "unit": unit is not None,
        "role": current_scope().role,
        "pinned": sorted(get_pinned()),
        "newly": sorted(get_newly_pinned()),
        "sets": sorted(unit.sets) if unit else [],
        "answer": title(),
    }
    append(began)


def append(report):
    file = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        # In one call, so that lines of several processes do not mix.
        os.write(file, json.dumps(report).encode() + b"\n")
    finally:
        os.close(file)


def look_for(word):
    """Report whether a label is there, and which database was asked."""
    labels = Label.objects.filter(word=word)
    append({"word": word, "found": labels.exists(), "answer": labels.db})


def put_down(word):
    Label.objects.create(word=word)


def meet(number, workers):
    """Report, and go on when so many workers are in the midst of a job of this number at once."""
    report(number, "meet")
    here = json.dumps({"number": number, "kind": "meet"}).strip("{}")
    reports = Path(os.environ[VARIABLE])
    wait_until(lambda: reports.read_text().count(here) == workers, "the others", timeout=120)


def read_reports(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def title():
    return Book.objects.get(pk=1).title


def write():
    Book.objects.filter(pk=-1).update(note="never")
    assert title() == "default"


def pin_for_good():
    pin("default")
    assert title() == "default"


def leave_blocks_open():
    """Forget to leave what was entered, as code does that was interrupted."""
    for block in (pin("default"), leader("default"), follower("other")):
        block.__enter__()
    assert title() == "default"


def fail():
    pin_for_good()
    raise Failure


def change_role():
    current_unit().role = "leader"
    use_leader(write)()


DEEDS = {
    "read": title,
    "pin": pin_for_good,
    "write": write,
    "leave open": leave_blocks_open,
    "fail": fail,
    "change role": change_role,
}
KINDS = [*DEEDS, "as leader", "as follower", "retry"]


def mixed(count, workers):
    """Return numbers and kinds of jobs, so many of all kinds.

    At the beginning, in the middle and at the end all workers have to meet, so that none of them
    does all the work.
    """
    jobs = list(enumerate(islice(cycle(KINDS), count)))
    first, middle, last = ([(number, "meet")] * workers for number in (-1, -2, -3))
    half = count // 2
    return [*first, *jobs[:half], *middle, *jobs[half:], *last]


def reports_of(jobs):
    """Return how many reports these jobs leave."""
    return len(jobs) + [kind for _, kind in jobs].count("retry")
