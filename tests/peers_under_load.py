"""New connections from processes, threads and tasks, while one peer of many dies and hangs."""

import asyncio
import multiprocessing
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from asgiref.sync import sync_to_async
from django.db import connections

from servers.waiting import wait_until

from .peers import is_down


def ask_while_shaken(servers, shaken):
    """Check that no new connection fails, and that all servers are found, before and after."""
    context = multiprocessing.get_context("fork")
    stop, answers = context.Event(), context.SimpleQueue()
    count = partial(counted_until, stop, shaken)
    pids = [forked(count, answers) for _ in range(2)]
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(and_close, count) for _ in range(3)]
        tasks = pool.submit(asyncio.run, ask_from_tasks(stop, shaken))
        try:
            shake(servers[shaken], shaken)
        finally:
            stop.set()
    for pid in pids:
        os.waitpid(pid, 0)
    counts = [*(answers.get() for _ in pids), sum((each.result() for each in futures), Counter())]
    for each in (*counts, tasks.result()):
        assert isinstance(each, Counter), each
        assert set(each) == set(servers)


def counted_until(stop, shaken):
    """Count who answers, for so long, and until the one that dies has."""
    counts = Counter()
    while not (stop.is_set() and counts[shaken]):
        counts[open_and_close()] += 1
    return counts


def open_and_close():
    """Open a connection, and say where it leads; who is killed later is another matter."""
    connections["many"].close()
    connections["many"].ensure_connection()
    return connections["many"].peer


def and_close(work, *arguments):
    """Do it, and leave no connection in this thread."""
    try:
        return work(*arguments)
    finally:
        connections.close_all()


async def ask_from_tasks(stop, shaken):
    """Do it from tasks of an event loop, whose queries run in threads."""
    ask = sync_to_async(lambda: and_close(open_and_close), thread_sensitive=False)
    counts = Counter()

    async def work():
        while not (stop.is_set() and counts[shaken]):
            counts[await ask()] += 1

    await asyncio.gather(*(work() for _ in range(3)))
    return counts


def shake(server, name):
    """Kill and hang a server, and wait each time until it is missed and until it is back."""
    server.kill()
    wait_until(lambda: is_down(name), "the killed server is missed")
    server.start()
    wait_until(lambda: not is_down(name), "the restarted server is taken back")
    server.freeze()
    wait_until(lambda: is_down(name), "the hung server is missed")
    server.thaw()
    wait_until(lambda: not is_down(name), "the thawed server is taken back")


def forked(count, answers):
    """Count in a process of its own, which finds out for itself; return its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        answers.put(counted_or_error(count))
        code = 0
    finally:
        os._exit(code)


def counted_or_error(count):
    try:
        return count()
    except Exception as error:
        return repr(error)
