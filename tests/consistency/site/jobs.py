"""What a worker does: it reads what its sender wrote, writes, and queues one more that reads."""

import time
from contextlib import suppress

from django.db import Error

from django_replicas.jobs import Job

from . import counting, queue
from .names import counter_of_jobs

TIMES = 2


def do(owner, number, port, reply, marks, then="write"):
    """Do a job in a unit of its own and tell the client what it read, or that it failed."""
    told = {"owner": owner, "number": number, "port": port, "began": time.monotonic()}
    try:
        with Job(marks):
            told |= counting.read(owner, TIMES)
            if then == "write":
                own = counter_of_jobs(owner)
                new_port = counting.write(own, number)
                queue.send(owner=own, number=number, port=new_port, reply=reply, then="nothing")
    except Error as error:
        told |= {"error": str(error)}
    with suppress(FileNotFoundError, ConnectionRefusedError):  # The client may have gone home.
        queue.post(reply, told)
