"""Workers in processes of their own, over databases of their own, and what they reported."""

import os
import shutil
import sys
from collections import Counter
from contextlib import contextmanager

from django.conf import settings

from django_replicas import get_newly_pinned, pin, unit_of_work
from django_replicas.scopes import current_unit
from servers.process import ServerError, ServerProcess
from servers.waiting import wait_until

from .reports import VARIABLE, read_reports

FOLLOWERS = {"replica1", "replica2"}
ROLES = {"as leader": "leader", "as follower": "follower"}


class Crew:
    """The workers of one test, and the folder in which they find and leave everything."""

    def __init__(self, folder, pristine, broker=""):
        self.folder = folder
        self.reported = folder / "reports"
        self.reported.touch()
        for alias in settings.DATABASES:
            shutil.copy(pristine / alias, folder / f"{alias}.sqlite3")
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.jobs.settings",
            "DJANGO_REPLICAS_TEST_FOLDER": str(folder),
            "DJANGO_REPLICAS_TEST_BROKER": broker,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            VARIABLE: str(self.reported),
        }

    @contextmanager
    def worker(self, name, *arguments):
        """Run `python -m` with these arguments for as long as the block lasts."""
        worker = ServerProcess(
            [sys.executable, "-m", *arguments],
            log=self.folder / f"{name}.log",
            env=self.environment,
            as_nobody=False,
        )
        try:
            yield worker
        finally:
            worker.interrupt()
            worker.wait()

    def wait_for(self, lines, *workers):
        """Return the reports as soon as there are so many."""
        self._wait(lambda: self._text().count(b"\n") >= lines, f"{lines} reports", workers)
        return read_reports(self.reported)

    def wait_for_kind(self, kind, *workers):
        """Return as soon as a job of this kind has reported."""
        self._wait(lambda: b'"%s"' % kind.encode() in self._text(), f"a {kind!r} job", workers)

    def _text(self):
        return self.reported.read_bytes()

    def _wait(self, condition, what, workers):
        def holds():
            for worker in workers:
                if not worker.is_running:
                    raise ServerError(f"A worker has ended:\n{worker.last_words()}")
            return condition()

        wait_until(holds, what, timeout=120)


def check_all_began_with_nothing(reports):
    """Fail for every job that saw anything of another: role, pins, writes, blocks or followers."""
    wrong = [report for report in reports if not began_with_nothing(report)]
    assert not wrong, f"{len(wrong)} of {len(reports)}, such as {wrong[:3]}"


def began_with_nothing(report):
    must_see = report["kind"] == "as leader" or report["attempt"]
    return (
        report["unit"]
        and report["role"] == ROLES.get(report["kind"])
        and report["pinned"] == report["newly"] == report["sets"] == []
        and report["answer"] in ({"default"} if must_see else FOLLOWERS)
    )


def check_callers_unit_stays_its_own(do, reports):
    """Do jobs at once inside a unit: they see what it wrote, not its role or pins, and write back.

    *do* has one job of a number and a kind done.
    """
    with unit_of_work(role="leader") as outer:
        pin("default", count_as_new=False)
        do(1, "pin")
        assert get_newly_pinned() == frozenset()

        do(2, "write")
        assert get_newly_pinned() == {"default"}
        assert current_unit() is outer.unit

        do(3, "read")

    assert [(each["role"], each["pinned"]) for each in reports()] == [(None, [])] * 3
    assert [each["answer"] in FOLLOWERS for each in reports()] == [True, True, False]


def check_all_took_part(reports, workers):
    """Fail where few jobs could have inherited anything, because one worker did nearly all."""
    jobs = Counter(report["worker"] for report in reports)
    met = {report["worker"] for report in reports if report["kind"] == "meet"}
    assert len(met) == workers, jobs
    assert all(jobs[worker] > 3 for worker in met), "they met three times, and did nothing else"
