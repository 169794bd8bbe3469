"""Fill the queue of Django's Tasks with jobs of all kinds: `python -m tests.jobs.feed 100`."""

import sys
from itertools import cycle, islice

import django
from django.core.management import call_command
from django.db import transaction

django.setup()

from .reports import KINDS  # noqa: E402 - after the setup, because of the models
from .tasks import work, work_as_follower, work_as_leader, work_twice  # noqa: E402

TASKS = {"as leader": work_as_leader, "as follower": work_as_follower, "retry": work_twice}

call_command("migrate", database="default", verbosity=0)
with transaction.atomic():
    for number, kind in enumerate(islice(cycle(KINDS), int(sys.argv[1]))):
        if kind in TASKS:
            TASKS[kind].enqueue(number)
        else:
            work.enqueue(number, kind)
