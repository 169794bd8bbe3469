"""Use a cache from threads and tasks until told to stop: a program for tests, and their own load.

Arguments: CACHES as JSON. Prints a line of JSON when it began, whenever the cache has other nodes,
and at the end, when its standard input is closed: the errors, and how many calls there were.
"""

import asyncio
import json
import sys
import threading
from collections import Counter

from django.core.cache import caches

THREADS = TASKS = 3
KEYS = 20


class Load:
    """Threads, and tasks of one loop, that write and read their own keys until told to stop."""

    def __init__(self):
        self.stop = threading.Event()
        self.errors = Counter()
        self.calls = Counter()
        self._nodes = {}
        self._threads = [
            *(threading.Thread(target=self._in_thread, args=(n,)) for n in range(THREADS)),
            threading.Thread(target=lambda: asyncio.run(self._in_tasks())),
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def nodes(self):
        """The sets of nodes in use: one, when all of the workers have the same."""
        return {*self._nodes.values()}

    @property
    def workers(self):
        return len(self._nodes)

    def _in_thread(self, n):
        name, cache = f"thread{n}", caches["default"]
        while not self.stop.is_set():
            for number in range(KEYS):
                self._counted(name, cache.set, f"{name}-{number}", number)
                self._counted(name, cache.get_many, [f"{name}-{number}", f"{name}-0"])
                found = self._counted(name, cache.get, f"{name}-{number}")
                assert found in {None, number}
            self._nodes[name] = frozenset(cache.client_servers)

    async def _in_tasks(self):
        await asyncio.gather(*(self._in_task(f"task{n}") for n in range(TASKS)))

    async def _in_task(self, name):
        while not self.stop.is_set():
            for number in range(KEYS):
                await self._awaited(name, caches["default"].aset, f"{name}-{number}", number)
                found = await self._awaited(name, caches["default"].aget, f"{name}-{number}")
                assert found in {None, number}
            self._nodes[name] = frozenset(caches["default"].client_servers)

    def _counted(self, name, call, *arguments):
        self.calls[name] += 1
        try:
            return call(*arguments)
        except Exception as error:
            self.errors[f"{type(error).__name__}: {error}"] += 1

    async def _awaited(self, name, call, *arguments):
        self.calls[name] += 1
        try:
            return await call(*arguments)
        except Exception as error:
            self.errors[f"{type(error).__name__}: {error}"] += 1


def main():
    settings.configure(CACHES=json.loads(sys.argv[1]))
    django.setup()
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    said = None
    with Load() as load:
        while not ended.wait(0.005):
            if load.workers == THREADS + TASKS and len(load.nodes) == 1 and load.nodes != said:
                said = load.nodes
                print(json.dumps(sorted(*said)), flush=True)
    print(json.dumps([load.errors, load.calls.total()]), flush=True)


if __name__ == "__main__":
    import django
    from django.conf import settings

    main()
