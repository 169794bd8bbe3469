"""What a request waits for its session, the leader being near or far away.

Django's ``cache`` and ``cached_db`` engines and ours, each in a process of its own, take turns over
one memcached and one PostgreSQL, which a proxy puts 0, 20 and 100 milliseconds away. Time is the
wall's, because waiting is the point; a leader's connection is kept, and open before. Then the
leader is stopped, and ten thousand sessions are saved at once.
"""

import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.cache import cache
from django.core.management import call_command
from django.db import DatabaseError, connections
from django.utils.module_loading import import_string

from django_replicas.sessions.process import drain, get_queue
from servers.distance import Distance
from servers.memcached import Memcached
from servers.postgres import Cluster

from .contenders import Contender
from .measure import Answers, Target, command_line, facts, processes
from .sessions_page import publish

CACHE = Contender("cache")
CACHED_DB = Contender("cached_db")
OURS = Contender("write_behind")
ENGINES = {
    CACHE.name: "django.contrib.sessions.backends.cache",
    CACHED_DB.name: "django.contrib.sessions.backends.cached_db",
    OURS.name: "django_replicas.sessions.write_behind",
}
AWAY = (0, 20, 100)
OPERATIONS = ("save", "create", "cycle_key", "load", "log out")
CACHE_OPERATIONS = ("one cache operation", "the same for two keys")
CALLS = 3
# What changes nothing takes little time and can be asked more often.
READS = ("load", *CACHE_OPERATIONS)
CALLS_OF_READS = 12
BURST = 10_000
# As long as the key of a session.
NOTHING = "nothing-of-that-many-letters-is-in-cache"
# What a hand-over to a thread may take, on a machine that does something else at the same time.
HAND_OVER = 0.0003

Site = Mapping[str, Any]


def prepare(site: Site, contender: Contender, folder: Path) -> Answers:
    """Make the contender's site and return how to time each operation on it."""
    settings.configure(
        SECRET_KEY="not a secret",
        DATABASES={"default": {**site["database"], "CONN_MAX_AGE": None}},
        CACHES={"default": site["cache"]},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=["django.contrib.sessions", "django_replicas"],
        SESSION_ENGINE=ENGINES[contender.name],
        USE_TZ=True,
    )
    django.setup()
    store = import_string(f"{ENGINES[contender.name]}.SessionStore")
    return {
        **{operation: partial(time_operation, store, operation) for operation in OPERATIONS},
        "migrate": partial(call_command, "migrate", verbosity=0),
        "settle": partial(settle, store),
        "burst": partial(burst, store),
        "one cache operation": partial(time_cache, lambda: cache.get(NOTHING)),
        "the same for two keys": partial(
            time_cache, lambda: cache.get_many([NOTHING, NOTHING[1:]])
        ),
    }


def _new(store: Any) -> Any:
    session = store()
    session["user"] = 1
    session["basket"] = ["a book", "another book"]
    session.save()
    return session


def time_operation(store: Any, operation: str, number: int) -> list[float]:
    """Return the seconds of each call; what it needs is made ready before."""
    seconds: list[float] = []
    session = None
    for each in range(number):
        if session is None or operation not in READS:
            session = _new(store)
        # What is measured is a request's wait, not what a machine with few processors has to do
        # for the one before at the same time.
        settle(store)
        work = _work(store, session, operation, each)
        gc.collect(0)
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return seconds


def _work(store: Any, session: Any, operation: str, number: int) -> Any:
    if operation == "create":
        return store().create
    if operation == "load":
        return store(session.session_key).load
    if operation == "save":
        session["number"] = number
        return session.save
    return session.cycle_key if operation == "cycle_key" else session.flush


def time_cache(work: Callable[[], Any], number: int) -> list[float]:
    seconds = []
    for _ in range(number):
        time.sleep(0.02)  # As before every other call, see ``settle``.
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return seconds


def settle(store: Any) -> int:
    """Let the queue end its work, so that nobody else is disturbed by it."""
    connections["default"].ensure_connection()
    is_ours = store.__module__ == ENGINES[OURS.name]
    left: int = drain(60) if is_ours else 0
    # The thread that did the last of it still has to close its connections, of which nobody hears;
    # where that takes longer, the next call is measured too slow, never too fast. Everybody waits,
    # because what a processor did a moment ago it does several times as fast.
    time.sleep(0.02)
    return left


def burst(store: Any) -> dict[str, int]:
    """Save ten thousand sessions; tell what became of them, and what they cost."""
    queue = get_queue()
    connections.close_all()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"saved": 0, "refused": 0, "most threads": 0}
    for _ in range(BURST):
        try:
            _new(store)
            found["saved"] += 1
        except DatabaseError:
            found["refused"] += 1
        found["most threads"] = max(found["most threads"], queue.threads)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {**found, "queued": len(queue), "kilobytes more": after - before}


def main() -> int:
    arguments = command_line(__doc__ or "", rounds=10, page="docs/figures/sessions.rst")
    medians: dict[tuple[int, str, str], float] = {}
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(standbys=0))
        memcached = stack.enter_context(Memcached())
        backend = "django.core.cache.backends.memcached.PyMemcacheCache"
        site = {"cache": {"BACKEND": backend, "LOCATION": memcached.location}}
        near = {**site, "database": cluster.leader.django_database()}
        with processes(partial(prepare, near), [CACHE]) as asked:
            asked[CACHE.name].ask("migrate")
        for away in AWAY:
            far = stack.enter_context(Distance(cluster.leader.port, away))
            database = {**cluster.leader.django_database(), "PORT": str(far.port)}
            medians |= measure_at(away, {**site, "database": database}, arguments.rounds)
        with processes(partial(prepare, near), [OURS]) as asked:
            cluster.leader.execute("TRUNCATE django_session")
            cluster.leader.kill()
            crowd = asked[OURS.name].ask("burst")
            cluster.leader.start()
            crowd["still unwritten"] = asked[OURS.name].ask("settle")
            crowd["in the database"] = _rows(cluster)
    if arguments.publish:
        publish(medians, [*ENGINES], crowd, targets(medians, crowd))
    return report(medians, crowd)


def _rows(cluster: Cluster) -> int:
    found: int = cluster.leader.execute("SELECT count(*) FROM django_session")[0][0]
    return found


def measure_at(away: int, site: Site, rounds: int) -> dict[tuple[int, str, str], float]:
    seconds: dict[tuple[int, str, str], list[float]] = {}
    with processes(partial(prepare, site), [CACHE, CACHED_DB, OURS]) as asked:
        for process in asked.values():
            process.ask("settle")
        for _ in range(rounds):
            for name, process in asked.items():
                for operation in (*OPERATIONS, *CACHE_OPERATIONS):
                    number = CALLS_OF_READS if operation in READS else CALLS
                    taken = process.ask(operation, number)
                    seconds.setdefault((away, operation, name), []).extend(taken)
                process.ask("settle")
    return {each: statistics.median(taken) for each, taken in seconds.items()}


def report(medians: dict[tuple[int, str, str], float], crowd: dict[str, int]) -> int:
    print(", ".join(f"{name}: {value}" for name, value in facts().items()))
    print(f"\n{'milliseconds, medians':<24}{'away':>6}" + "".join(f"{n:>14}" for n in ENGINES))
    for operation in (*OPERATIONS, *CACHE_OPERATIONS):
        for away in AWAY:
            row = "".join(f"{medians[away, operation, name] * 1000:>14.2f}" for name in ENGINES)
            print(f"{operation:<24}{away:>6}{row}")
    print(f"\n{BURST} saves with the leader stopped: {crowd}\n")
    kept = [*map(_print, targets(medians, crowd))]
    return 0 if all(kept) else 1


def targets(medians: dict[tuple[int, str, str], float], crowd: dict[str, int]) -> list[Target]:
    one = medians[100, "one cache operation", OURS.name]
    found = []
    for operation in ("save", "create", "cycle_key"):
        near, far = (medians[away, operation, OURS.name] for away in (0, 100))
        by_cache = medians[100, operation, CACHE.name]
        found.append(_at_most(f"{operation} does not grow with the distance", far, near + one))
        limit = by_cache + one + HAND_OVER
        found.append(_at_most(f"{operation} waits no longer than the cache's", far, limit))
    loads = [medians[100, "load", name] for name in (OURS.name, CACHED_DB.name)]
    one_key = medians[100, "the same for two keys", OURS.name] - one
    found.append(
        _at_most("load costs what cached_db's does and a key", loads[0], loads[1] + one_key)
    )
    out = medians[100, "log out", OURS.name]
    found.append(_at_most("log out waits for the leader once", out, 0.150))
    lost = crowd["saved"] - crowd["in the database"]
    found.append(Target("nothing that was saved is lost", f"{lost} of {crowd['saved']}", lost <= 0))
    found.append(
        Target("threads are bounded", str(crowd["most threads"]), crowd["most threads"] < 5)
    )
    return found


def _at_most(promise: str, seconds: float, limit: float) -> Target:
    found = f"{seconds * 1000:.2f} ms, may be {limit * 1000:.2f}"
    return Target(promise, found, seconds <= limit)


def _print(target: Target) -> bool:
    print(f"{'kept  ' if target.kept else 'MISSED'} {target.promise}: {target.found}")
    return target.kept


if __name__ == "__main__":
    sys.exit(main())
