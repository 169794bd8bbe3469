"""What users do at bad moments, and what must not come of it."""

import random
import signal
import threading
import time
from collections import Counter

from servers.waiting import wait_until

from .driver import OURS

COUNTED = (
    "read old data",
    "older over newer",
    "in again, in the site",
    "in again, in the database",
    "saved and missing",
    "connections open",
    "threads",
)


class User:
    """Asks one process and then another, and remembers what was reported to be saved."""

    def __init__(self, site, counts, chance, *, judges_reads=True):
        self.site, self.counts, self.chance = site, counts, chance
        self.judges_reads = judges_reads
        self.dead = []
        self.key, self.saved, self.tried = None, 0, 0

    def ask(self, do, **arguments):
        return self.site.any().ask(do, **arguments)

    def pause(self):
        """Wait for less than a round trip to the leader, or for more."""
        # What is tried is the moment itself: there is nothing that one could wait for instead.
        time.sleep(self.chance.choice([0, 0.3, 0.8, 1.5, 2.5]) * self.site.round_trip)

    def begin(self):
        self.tried += 1
        answer = self.ask("begin", number=self.tried)
        if answer and "key" in answer:
            self.key, self.saved = answer["key"], self.tried
        else:
            self.key = None

    def meet(self, answer):
        """Judge what a request saw of the session; tell whether the request was served."""
        self.counts["requests"] += 1
        if not answer or "failed" in answer or "refused" in answer:
            self.counts["failed"] += bool(answer)
            return False
        seen = answer.get("seen")
        if "seen" in answer and self.judges_reads:
            self.counts["saved and missing"] += seen is None
            self.counts["read old data"] += seen is not None and seen < self.saved
        return True

    def save(self):
        self.tried += 1
        answer = self.ask("save", key=self.key, number=self.tried)
        if self.meet(answer):
            self.key, self.saved = answer["key"], self.tried
        return answer

    def log_in(self):
        self.tried += 1
        before = self.key
        answer = self.ask("log_in", key=before, number=self.tried)
        if self.meet(answer):
            self.dead.append(before)
            self.key, self.saved = answer["key"], self.tried
        else:
            self.begin()  # Nobody knows how far it came.

    def log_out(self):
        answer = self.ask("log_out", key=self.key)
        if self.meet(answer):
            self.dead.append(self.key)
            self.look_at_dead()
        self.key = None

    def save_in_other_tab(self):
        """Tab A loads, tab B logs out, tab A saves: it must be refused, at once."""
        tab_a = self.site.any()
        self.meet(tab_a.ask("hold", key=self.key))
        out = self.ask("log_out", key=self.key)
        answer = tab_a.ask("save_held", number=self.tried + 1)
        if out and "failed" not in out:
            self.dead.append(self.key)
            is_same = bool(answer) and answer.get("key") == self.key
            self.counts["in again, in the site"] += is_same
        self.look_at_dead()
        self.key = None

    def look_at_dead(self):
        for key in self.dead[-3:]:
            answer = self.ask("read", key=key)
            if answer and answer.get("seen") is not None:
                self.counts["in again, in the site"] += 1


def in_a_row(user):
    """One request after the other, with pauses shorter and longer than a round trip."""
    for _ in range(6):
        user.save()
        user.pause()


def twenty_saves(user):
    """Twenty saves in a row; the last wins."""
    for _ in range(20):
        user.save()


def save_then_out(user):
    """Log out at once after a save."""
    user.save()
    user.log_out()


def in_then_out(user):
    """Log in, then out."""
    user.log_in()
    user.log_out()


def two_tabs(user):
    """Tab A has loaded, tab B logs out, tab A saves."""
    user.save_in_other_tab()


def cycle_after_save(user):
    """A new key at once after a save."""
    user.save()
    user.log_in()
    user.look_at_dead()
    user.save()


def everything(user):
    """All of these at random, while processes are killed."""
    for _ in range(5):
        if user.key is None:
            user.begin()
        if user.key is not None:
            user.chance.choice(
                [User.save, User.save, User.log_in, User.log_out, User.save_in_other_tab]
            )(user)
        user.pause()


def run(site, play, *, users, rounds, seed, end="exit", during=None, judges_reads=True):
    """Have so many users at once play so many rounds each, and count."""
    counts = Counter(dict.fromkeys(COUNTED, 0))
    site.begin()
    cast = [
        User(site, counts, random.Random(f"{seed} {number}"), judges_reads=judges_reads)
        for number in range(users)
    ]
    # In this thread: servers end with the thread that started them.
    beside = during(site) if during else iter(())

    def act(user):
        for _ in range(rounds):
            user.begin()
            if user.key is not None:
                play(user)

    threads = [threading.Thread(target=act, args=(user,)) for user in cast]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        next(beside, None)
        for process in list(site.processes):
            threads_now = (process.ask("count_threads") or {}).get("threads", 0)
            counts["threads"] = max(counts["threads"], threads_now)
        # The processes are asked again and again, which must not take the users' processor.
        time.sleep(0.02)
    if during:
        beside.close()
    _judge(site, cast, counts, end)
    return counts


def _judge(site, cast, counts, end):
    """Look at the dead once more, end the processes, and look at the database."""
    for user in cast:
        user.look_at_dead()
    if end == signal.SIGKILL:
        site.end_all(end)
    else:
        try:
            wait_until(lambda: site.connections() == 0, "connections are closed", timeout=20)
        except TimeoutError:
            counts["connections open"] += site.connections()
        site.end_all(end)
    if site.engine == OURS:
        site.manage("write_sessions")
    rows = site.rows()
    for user in cast:
        counts["in again, in the database"] += sum(key in rows for key in user.dead)
        if user.key is not None:
            counts["saved and missing"] += rows.get(user.key, 0) < user.saved
    counts["older over newer"] = site.steps_back()


def passing(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield


def leader_comes_and_goes(site):
    try:
        while True:
            yield from passing(0.3)
            site.cluster.leader.kill()
            yield from passing(0.5)
            site.cluster.leader.start()
    finally:
        site.cluster.leader.start()


def killer(site):
    while True:
        yield from passing(0.4)
        site.replace(signal.SIGKILL)


def cache_is_emptied(user):
    """The cache is emptied after each save; what was saved must be in the database in the end."""
    for _ in range(3):
        user.save()
        user.site.empty_cache()
        user.pause()


SCENARIOS = {
    "requests in a row, with pauses": (in_a_row, {}),
    "twenty saves in a row": (twenty_saves, {}),
    "save, then log out at once": (save_then_out, {}),
    "log in, then log out": (in_then_out, {}),
    "tab B logs out, tab A saves": (two_tabs, {}),
    "new key after a save": (cycle_after_save, {}),
    "leader down while everyone saves": (in_a_row, {"during": leader_comes_and_goes}),
    "cache emptied after each save": (cache_is_emptied, {"judges_reads": False}),
    "ends by sys.exit": (twenty_saves, {"end": "exit"}),
    "ends by SIGTERM": (twenty_saves, {"end": signal.SIGTERM}),
    "ends by SIGKILL": (twenty_saves, {"end": signal.SIGKILL}),
    "all at random, processes killed": (everything, {"during": killer, "end": signal.SIGKILL}),
}
