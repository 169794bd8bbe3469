"""Fill the queue of Django's Tasks with jobs of all kinds: `python -m tests.jobs.feed 100 2`.

The second number is that of the workers. Printed is how many reports the jobs will leave.
"""

import sys

import django
from django.core.management import call_command
from django.db import transaction

django.setup()

from .reports import mixed, reports_of  # noqa: E402 - after the setup, because of the models
from .tasks import meet_others, work, work_as_follower, work_as_leader, work_twice  # noqa: E402

TASKS = {"as leader": work_as_leader, "as follower": work_as_follower, "retry": work_twice}

count, workers = map(int, sys.argv[1:])
jobs = mixed(count, workers)
call_command("migrate", database="default", verbosity=0)
with transaction.atomic():
    for number, kind in jobs:
        if kind == "meet":
            meet_others.enqueue(number, workers)
        elif kind in TASKS:
            TASKS[kind].enqueue(number)
        else:
            work.enqueue(number, kind)
print(reports_of(jobs))
