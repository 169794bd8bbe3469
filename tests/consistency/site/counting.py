"""What requests and jobs do to the counters."""

from django.db import connections, transaction
from django.db.models import F
from django.db.models.functions import Greatest

from .models import Counter
from .names import SHARED

PORT = {"postgresql": "SELECT inet_server_port()", "mysql": "SELECT @@port"}


def write(owner, number, *, in_transaction=False):
    """Let a counter be at least *number*; return the port of the server that did it."""
    if in_transaction:
        with transaction.atomic():
            return write(owner, number)
    Counter.objects.filter(pk=owner).update(value=Greatest(F("value"), number))
    if number % 2:
        Counter.objects.filter(pk=SHARED).update(value=F("value") + 1)
    return leader_port()


def leader_port():
    """Return the port that the server behind the leader's connection knows as its own."""
    connection = connections["default"]
    with connection.cursor() as cursor:
        cursor.execute(PORT[connection.vendor])
        return cursor.fetchone()[0]


def read(owner, times):
    """Return the counter and the shared one as they are read in turn, and who answered."""
    rows = [Counter.objects.get(pk=each) for _ in range(times) for each in (owner, SHARED)]
    return {
        "own": [row.value for row in rows[::2]],
        "shared": [row.value for row in rows[1::2]],
        "aliases": [row._state.db for row in rows],
    }
