"""Work with a deadline: nobody waits for what is stuck."""

import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from django_replicas.deadlines import Deadline
from servers.waiting import wait_until

LONG = 30
SHORT = 0.01


class Work:
    """Work that is stuck until it is let go."""

    def __init__(self):
        self.begun = 0
        self.go_on = threading.Event()

    def __call__(self):
        self.begun += 1
        number = self.begun
        self.go_on.wait(LONG)
        return number


def waiting_for(deadline):
    current = deadline._current
    return 0 if current is None else len(current._condition._waiters)


@pytest.fixture
def work():
    work = Work()
    before = threading.enumerate()
    yield work
    work.go_on.set()
    for thread in threading.enumerate():
        if thread not in before:
            thread.join(LONG)


def test_the_result_comes_back(work):
    """Each call has the work done anew."""
    work.go_on.set()
    deadline = Deadline(work)
    assert [deadline.result(LONG), deadline.result(LONG)] == [1, 2]


@pytest.mark.parametrize("error", [LookupError("lost"), SystemExit(3)])
def test_the_error_comes_back(error):
    """Whatever the work raises is raised where it was asked for, each time."""

    def fail():
        raise error

    deadline = Deadline(fail, most_stuck=1)
    for _ in range(3):
        with pytest.raises(type(error)) as caught:
            deadline.result(LONG)
        assert caught.value is error


def test_nobody_waits_for_late_work(work):
    """What is stuck is left behind, and the next call has its own."""
    deadline = Deadline(work)
    with pytest.raises(TimeoutError):
        deadline.result(SHORT)
    work.go_on.set()
    assert deadline.result(LONG) == 2


def test_all_who_ask_meanwhile_share_the_work(work):
    """Ten callers, one piece of work, one answer."""
    deadline = Deadline(work)
    with ThreadPoolExecutor(10) as pool:
        asked = [pool.submit(deadline.result, LONG) for _ in range(10)]
        wait_until(lambda: waiting_for(deadline) == 10, "all have asked")
        work.go_on.set()
        assert {each.result() for each in asked} == {1}


def test_only_so_much_is_left_behind(work):
    """A server that answers nothing for a day does not fill the process with threads."""
    deadline = Deadline(work, most_stuck=2)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            deadline.result(SHORT)
    assert work.begun == 2


def test_there_is_room_again_when_stuck_work_ends(work):
    """Nothing is given up for good."""
    deadline = Deadline(work, most_stuck=1)
    with pytest.raises(TimeoutError):
        deadline.result(SHORT)
    with pytest.raises(TimeoutError, match="stuck"):
        deadline.result(LONG)
    work.go_on.set()

    def result():
        try:
            return deadline.result(LONG)
        except TimeoutError:
            return None

    wait_until(lambda: result() is not None, "the stuck work has ended")


def test_no_thread_to_be_had(monkeypatch, work):
    """Without a thread the answer is late for whoever asks, and for nobody after them."""
    work.go_on.set()
    deadline = Deadline(work, most_stuck=1)

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(3):
            with pytest.raises(TimeoutError, match="can't start new thread"):
                deadline.result(LONG)
    assert deadline.result(LONG) == 1


def test_the_work_is_done_outside_the_callers_context():
    """It belongs to no unit of work, whatever threads inherit."""
    variable = contextvars.ContextVar("variable", default="nobody's")
    variable.set("the caller's")
    assert Deadline(variable.get).result(LONG) == "nobody's"


def test_it_does_not_keep_the_process():
    """The interpreter ends without those that are stuck."""
    assert Deadline(lambda: threading.current_thread().daemon).result(LONG)


def test_begun_without_waiting(work):
    """Work may be begun for nobody; whoever comes meanwhile waits for the same piece."""
    deadline = Deadline(work)
    deadline.begin_unawaited()
    deadline.begin_unawaited()
    with ThreadPoolExecutor() as pool:
        late = pool.submit(deadline.result, LONG)
        wait_until(lambda: waiting_for(deadline), "somebody waits")
        work.go_on.set()
        assert late.result() == 1
    wait_until(lambda: deadline._current is None, "the work is left")
    assert deadline.result(LONG) == 2


def test_begun_work_may_fail():
    """An error that nobody waits for is nobody's, and the next work is begun."""

    def fail():
        raise LookupError("lost")

    deadline = Deadline(fail, most_stuck=1)
    for _ in range(3):
        deadline.begin_unawaited()
        wait_until(lambda: deadline._current is None, "the work is left")
