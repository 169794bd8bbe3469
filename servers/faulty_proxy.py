"""The process behind `servers.faults`: a TCP proxy on loopback that misbehaves when told to.

    python faulty_proxy.py PORT TARGET_PORT CONTROL_SOCKET

It imports nothing but the standard library. Each line that comes through the control socket is a
command: `refuse`, `reset`, `blackhole`, `delay SECONDS`, `heal`, `lead PORT`, `accepted`, `open`.
The answer is a line with a number.
"""

import asyncio
import socket
import struct
import sys

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Proxy:
    def __init__(self, port: int, target: int) -> None:
        self._port = port
        self._target = target
        self._server: asyncio.Server | None = None
        self._passing = asyncio.Event()
        self._delay = 0.0
        self._resetting = False
        self._accepted = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def command(self, words: list[str]) -> int:
        match words:
            case ["refuse"]:
                await self._stop_listening()
            case ["reset"]:
                self._resetting = True
                for writer in list(self._writers):
                    reset(writer)
            case ["blackhole"]:
                self._passing.clear()
            case ["delay", seconds]:
                self._delay = float(seconds)
            case ["heal"]:
                await self._heal()
            case ["lead", port]:
                self._target = int(port)
            case ["open"]:
                return len(self._writers) // 2
        return self._accepted

    async def _heal(self) -> None:
        self._delay, self._resetting = 0.0, False
        self._passing.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accepted += 1
        if self._resetting:
            reset(writer)
            return
        self._writers.add(writer)
        await self._passing.wait()
        try:
            its_reader, its_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            self._writers.discard(writer)
            reset(writer)
            return
        self._writers.add(its_writer)
        await asyncio.gather(self._pass_on(reader, its_writer), self._pass_on(its_reader, writer))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                await asyncio.sleep(self._delay)
                await self._passing.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, as a machine does that knows nothing of the connection."""
    own: socket.socket = writer.get_extra_info("socket")
    own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()


async def main(port: int, target: int, control: str) -> None:
    proxy = Proxy(port, target)
    await proxy.command(["heal"])

    async def obey(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(b"%d\n" % await proxy.command(line.decode().split()))
        writer.close()

    async with await asyncio.start_unix_server(obey, control) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
