"""Jobs on their way to another process, as datagrams: what they are about, and their marks."""

import json
import os
import socket

from django_replicas.jobs import marks_to_send

from .settings import GIVEN


def send(**job):
    """Queue a job that must see what this unit wrote."""
    marks = marks_to_send() if GIVEN["jobs_have_marks"] else ""
    post(GIVEN["queue"], {**job, "marks": marks})


def post(path, message):
    """Hand a message to whoever owns the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.sendto(json.dumps(message).encode(), os.fspath(path))


def receive(own):
    """Wait for the next message."""
    return json.loads(own.recv(1 << 16))
