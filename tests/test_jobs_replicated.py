"""Jobs over PostgreSQL, with a follower that lags: each sees what was written before it."""

import json
import os
from importlib import import_module
from itertools import count

import django
import pytest
from asgiref.sync import async_to_sync
from celery import Celery, chain, group, signals
from celery.app.trace import trace_task
from django.db import connections, transaction

from django_replicas import unit_of_work
from django_replicas.jobs import HEADER, Job, marks_to_send
from servers.redis import Redis, RedisNotFound, find_server
from servers.waiting import wait_until

from .jobs import celery_tasks
from .jobs.app import app
from .jobs.crew import Crew
from .jobs.reports import VARIABLE, look_for, put_down, read_reports
from .replicated import catch_up, cluster_with_labels, databases_of, lagging_behind

words = (f"word{number}" for number in count())
WORKER = ("celery", "-A", "tests.jobs.app", "worker", "--without-gossip", "--without-mingle")


@pytest.fixture(scope="module")
def cluster():
    with cluster_with_labels() as cluster:
        yield cluster


@pytest.fixture
def lagging(cluster, databases_are, settings, tmp_path, monkeypatch):
    """Have the follower of these tests replay nothing for now."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "reports"))
    with lagging_behind(cluster, databases_are, settings):
        yield
        connections.close_all()


def own_reports():
    return [(each["found"], each["answer"]) for each in read_reports(os.environ[VARIABLE])]


SEEN_ON_LEADER, SEEN_ON_FOLLOWER = (True, "default"), (True, "replica1")


# Real workers, a real broker


@pytest.fixture(scope="module")
def redis():
    try:
        find_server()
    except RedisNotFound as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    with Redis() as redis:
        yield redis


@pytest.fixture(scope="module")
def crew(cluster, redis, pristine, tmp_path_factory):
    """Two threads of a worker, in a process of their own, for all tests of this module."""
    crew = Crew(tmp_path_factory.mktemp("crew"), pristine, redis.url)
    crew.environment |= {
        "DJANGO_SETTINGS_MODULE": "tests.jobs.replicated",
        "DJANGO_REPLICAS_TEST_DATABASES": json.dumps(databases_of(cluster)),
    }
    with crew.worker("worker", *WORKER, "--pool=threads", "--concurrency=2"):
        yield crew


@pytest.fixture(scope="module")
def tasks(redis):
    """Return the worker's tasks as those who queue them have them."""

    def unknown(word):
        raise NotImplementedError

    with Celery("sender", broker=redis.url, set_as_current=False) as sender:
        yield lambda name: sender.task(name=f"tests.jobs.celery_tasks.{name}")(unknown)


def looked(crew, word, times):
    """Return what so many jobs report of a word, as soon as they have."""

    def about_it():
        reports = read_reports(crew.reported)
        return [(each["found"], each["answer"]) for each in reports if each["word"] == word]

    wait_until(lambda: len(about_it()) >= times, f"{times} jobs look for {word!r}", timeout=120)
    return about_it()


def by_delay(tasks, word):
    tasks("look").delay(word)
    return 1


def by_apply_async(tasks, word):
    tasks("look").apply_async([word], countdown=0.01)
    return 1


def on_commit(tasks, word):
    with transaction.atomic():
        transaction.on_commit(lambda: tasks("look").delay(word))
    return 1


def with_retry(tasks, word):
    tasks("look_twice").delay(word)
    return 2


def as_chain(tasks, word):
    look = tasks("look").si(word)
    chain(look, look, look).apply_async()
    return 3


def as_group(tasks, word):
    look = tasks("look").si(word)
    group(look, look, look).apply_async()
    return 3


def as_chord(tasks, word):
    tasks("queue_chord").delay(word)
    return 3


def chain_of_groups(tasks, word):
    tasks("queue_chain_of_groups").delay(word)
    return 4


WAYS = [
    by_delay,
    by_apply_async,
    on_commit,
    with_retry,
    as_chain,
    as_group,
    as_chord,
    chain_of_groups,
]


@pytest.mark.usefixtures("lagging")
@pytest.mark.parametrize("queue", WAYS)
def test_a_task_sees_what_its_sender_wrote(queue, cluster, crew, tasks):
    """However it is queued: on the leader, and on the follower as soon as that has it."""
    word = next(words)
    with unit_of_work():
        put_down(word)
        times = queue(tasks, word)
        assert looked(crew, word, times) == [SEEN_ON_LEADER] * times

        catch_up(cluster)
        more = queue(tasks, word)
        assert looked(crew, word, times + more)[times:] == [SEEN_ON_FOLLOWER] * more


@pytest.mark.usefixtures("lagging")
def test_a_task_without_a_sender_that_wrote(crew, tasks):
    """Others read the follower, and see what it has: this is what all of the above is about."""
    word = next(words)
    with unit_of_work():
        put_down(word)
    tasks("look").delay(word)
    assert looked(crew, word, 1) == [(False, "replica1")]


@pytest.mark.usefixtures("lagging")
def test_a_task_sees_what_the_task_before_it_wrote(crew, tasks):
    """In a chain, and in the attempt before; none of their senders wrote anything."""
    in_chain, in_retry = next(words), next(words)
    chain(tasks("put").si(in_chain), tasks("look").si(in_chain)).apply_async()
    tasks("put_and_look").delay(in_retry)
    assert looked(crew, in_chain, 1) == looked(crew, in_retry, 1) == [SEEN_ON_LEADER]


# In this process


@pytest.fixture
def sent():
    """Return a function that sends a task to a broker in this process: what its message carries."""
    headers = []

    def keep(headers, kept=headers, **kwargs):
        kept.append(headers)

    signals.after_task_publish.connect(keep, weak=False, dispatch_uid="tests.kept")
    with Celery("sender", broker="memory://", set_as_current=False) as sender:
        yield lambda: (sender.send_task("look"), headers[-1].get(HEADER))[1]
    signals.after_task_publish.disconnect(dispatch_uid="tests.kept")


@pytest.fixture
def eager():
    app.conf.task_always_eager = True
    yield
    app.conf.task_always_eager = False


def work_off(word, mark):
    request = {"id": "an-id", HEADER: mark}
    trace_task(celery_tasks.look, "an-id", [word], {}, request=request, app=app)


@pytest.mark.usefixtures("lagging")
def test_a_task_that_is_queued_inside_a_transaction(cluster, sent):
    """Nobody knows the position of a commit to come: until ``PIN_SECONDS`` it is the leader."""
    word = next(words)
    with unit_of_work():
        with transaction.atomic():
            put_down(word)
            inside = sent()
        after = sent()
    assert ":p" not in inside
    assert ":p" in after
    work_off(word, inside)
    work_off(word, after)
    catch_up(cluster)
    work_off(word, inside)
    work_off(word, after)
    assert own_reports() == [SEEN_ON_LEADER] * 3 + [SEEN_ON_FOLLOWER]


@pytest.mark.usefixtures("lagging")
@pytest.mark.parametrize("name", ["look", "look_twice", "put_and_look"])
def test_an_eager_task(name, eager):
    """It sees what its caller wrote, and itself in the attempt before."""
    word = next(words)
    with unit_of_work():
        put_down(word)
        getattr(celery_tasks, name).delay(word)
        getattr(celery_tasks, name).apply_async([word])
    assert set(own_reports()) == {SEEN_ON_LEADER}


@pytest.mark.usefixtures("lagging")
@pytest.mark.skipif(django.VERSION < (6, 0), reason="django.tasks came with Django 6.0")
def test_a_task_of_django(cluster):
    """Queued after the write, on commit and inside the transaction, by either verb."""
    look = import_module("tests.jobs.tasks").look.using(backend="kept")
    word, results = next(words), []
    with unit_of_work():
        with transaction.atomic():
            put_down(word)
            results.append(look.enqueue(word))
            transaction.on_commit(lambda: results.append(look.enqueue(word)))
        results.append(look.enqueue(word))
        results.append(async_to_sync(look.aenqueue)(word))
    assert [":p" in each.kwargs[HEADER] for each in results][:3] == [False, True, True]

    def work_off_all():
        for each in results:
            each.task.call(*each.args, **each.kwargs)

    work_off_all()
    catch_up(cluster)
    work_off_all()
    assert own_reports()[:4] == [SEEN_ON_LEADER] * 4
    assert own_reports()[4:7] == [SEEN_ON_LEADER, SEEN_ON_FOLLOWER, SEEN_ON_FOLLOWER]


@pytest.mark.usefixtures("lagging")
def test_any_other_message(cluster):
    """As the page has it for other consumers."""
    word = next(words)
    with unit_of_work():
        put_down(word)
        message = marks_to_send()
    for _ in range(2):
        with Job(message):
            look_for(word)
        catch_up(cluster)
    assert own_reports() == [SEEN_ON_LEADER, SEEN_ON_FOLLOWER]
