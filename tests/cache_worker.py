"""Use caches from threads and tasks until told to stop: a program for tests, and their own load.

Arguments: CACHES as JSON, all on one cluster. Prints a line of JSON when it began, whenever all of
them have other nodes, and at the end, when its standard input is closed: the errors, and how many
calls there were of the cache that was called least.
"""

import asyncio
import json
import sys
import threading
from collections import Counter
from contextlib import ExitStack

from django.core.cache import caches

KEYS = 20


class Load:
    """Threads, and as many tasks, that write and read their own keys until told to stop."""

    def __init__(self, alias="default", each=3):
        self._alias = alias
        self._each = each
        self.stop = threading.Event()
        self.errors = Counter()
        self.calls = Counter()
        self._nodes = {}
        self._threads = [
            *(threading.Thread(target=self._in_thread, args=(n,)) for n in range(each)),
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
    def agreed(self):
        """The nodes that all of the workers use, None where they differ, or some did not begin."""
        nodes = self.nodes
        return min(nodes) if len(self._nodes) == 2 * self._each and len(nodes) == 1 else None

    @property
    def _cache(self):
        return caches[self._alias]

    def _in_thread(self, n):
        name, cache = f"thread{n}", self._cache
        while not self.stop.is_set():
            for number in range(KEYS):
                self._counted(name, cache.set, f"{name}-{number}", number)
                self._counted(name, cache.get_many, [f"{name}-{number}", f"{name}-0"])
                found = self._counted(name, cache.get, f"{name}-{number}")
                assert found in {None, number}
            self._nodes[name] = frozenset(cache.nodes)

    async def _in_tasks(self):
        await asyncio.gather(*(self._in_task(f"task{n}") for n in range(self._each)))

    async def _in_task(self, name):
        while not self.stop.is_set():
            for number in range(KEYS):
                await self._awaited(name, self._cache.aset, f"{name}-{number}", number)
                found = await self._awaited(name, self._cache.aget, f"{name}-{number}")
                assert found in {None, number}
            self._nodes[name] = frozenset(self._cache.nodes)

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
    with ExitStack() as stack:
        loads = [stack.enter_context(Load(alias, each=1)) for alias in settings.CACHES]
        while not ended.wait(0.005):
            agreed = {load.agreed for load in loads}
            if len(agreed) == 1 and agreed not in ({None}, said):
                said = agreed
                print(json.dumps(sorted(*said)), flush=True)
    errors = sum((load.errors for load in loads), Counter())
    print(json.dumps([errors, min(load.calls.total() for load in loads)]), flush=True)


if __name__ == "__main__":
    import django
    from django.conf import settings

    main()
