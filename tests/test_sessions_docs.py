"""The page about sessions: its examples do what it says of them."""

import asyncio
from importlib import import_module

import pytest
from django.contrib.auth import user_logged_in
from django.contrib.auth.models import update_last_login

from django_replicas.checks import check_sessions
from django_replicas.sessions import process
from django_replicas.sessions.outcomes import Outcome
from django_replicas.sessions.write_behind import SessionStore
from django_replicas.signals import session_write

from .pages import python_of

BLOCKS = python_of("sessions")


def run_block(mentioned):
    """Run the example that mentions this, and return its names."""
    (block,) = [each for each in BLOCKS if mentioned in each]
    names = {}
    exec(block, names)
    return names


@pytest.fixture
def drained(monkeypatch):
    """Note for how many seconds the queue was drained."""
    drained = []
    monkeypatch.setattr(process, "drain", drained.append)
    return drained


def test_settings(settings):
    """They are an engine and a cache in which nothing is wrong."""
    names = run_block("SESSION_ENGINE =")
    settings.SESSION_ENGINE, settings.CACHES = names["SESSION_ENGINE"], names["CACHES"]
    assert check_sessions() == []
    assert import_module(settings.SESSION_ENGINE).SessionStore is SessionStore


def test_a_log_in_that_notes_no_time():
    """Django's own receiver is found under the name that it connected itself with."""
    try:
        run_block("update_last_login")
        assert user_logged_in.receivers == []
    finally:
        user_logged_in.connect(update_last_login, dispatch_uid="update_last_login")


def test_gunicorn(drained):
    """The hook has the arguments that gunicorn gives it."""
    run_block("worker_exit")["worker_exit"](server=None, worker=None)
    assert drained == [20]


def test_an_asgi_server_that_ends(drained):
    """What it announces is answered, in this order, and the queue is drained between."""
    application = run_block("lifespan")["application"]
    asked = ["lifespan.startup", "lifespan.shutdown"]
    answered = []

    async def receive():
        return {"type": asked.pop(0)}

    async def send(message):
        answered.append((message["type"], [*drained]))

    asyncio.run(application({"type": "lifespan"}, receive, send))
    assert answered == [("lifespan.startup.complete", []), ("lifespan.shutdown.complete", [20])]


def test_watching():
    """The receiver has the arguments that the signal gives it."""
    names = run_block("@receiver(session_write)")
    try:
        told = {"outcome": Outcome.GIVEN_UP, "session_key": "key", "error": None}
        session_write.send(sender=None, **told)
    finally:
        assert session_write.disconnect(names["watch"])
