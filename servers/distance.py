"""A TCP proxy that makes a server seem far away.

with Distance(server.port, milliseconds=20) as distance:
    DATABASES = {"default": {**server.django_database(), "PORT": str(distance.port)}}
"""

import asyncio
import contextlib
import random
import subprocess
import sys
import time
from typing import Self

from servers.ports import free_port
from servers.process import owned


class Distance:
    """A round trip through it takes so many milliseconds more, and up to *jitter* more than that.

    It is a process of its own, so that nobody's thread is in its way, and ends with its owner.
    """

    def __init__(self, to_port: int, milliseconds: float, jitter: float = 0.0) -> None:
        self.port = free_port()
        self._arguments = [str(each) for each in (self.port, to_port, milliseconds, jitter)]

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "servers.distance", *self._arguments]
        self._process = subprocess.Popen(owned(command, as_nobody=False), stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        with self._process.stdout as output:
            output.readline()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float, jitter: float
) -> None:
    """Hand on what comes, each piece as late as the next, in its order."""
    late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        while True:
            due, piece = await late.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if not piece:
                return
            writer.write(piece)
            await writer.drain()

    delivery = asyncio.ensure_future(deliver())
    with contextlib.suppress(OSError):
        while piece := await reader.read(65536):
            late.put_nowait((time.monotonic() + seconds + random.random() * jitter, piece))
    late.put_nowait((time.monotonic() + seconds, b""))
    with contextlib.suppress(OSError):
        await delivery
    writer.close()


async def _serve(port: int, to_port: int, milliseconds: float, jitter: float) -> None:
    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection("127.0.0.1", to_port)
        except OSError:
            writer.close()
            return
        half, half_jitter = milliseconds / 2000, jitter / 2000
        await asyncio.gather(
            _carry(reader, there[1], half, half_jitter), _carry(there[0], writer, half, half_jitter)
        )

    server = await asyncio.start_server(meet, "127.0.0.1", port)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    own_port, far_port = map(int, sys.argv[1:3])
    asyncio.run(_serve(own_port, far_port, *map(float, sys.argv[3:5])))
