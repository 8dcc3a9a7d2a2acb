"""A small TCP proxy whose connections can be cut, slowed down and frozen."""

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress

from app.clock import monotonic

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class Proxy:
    """Listens on a port and passes bytes on; one thread with an event loop of its own."""

    def __init__(self, connect: Connect, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.host, self._tls = host, tls
        self.delay_s = 0.0
        self.frozen_until = 0.0
        self.port = 0
        self._connect = connect
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def cut(self) -> int:
        """Reset every connection; returns how many there were."""
        count = len(self._writers) // 2

        def reset() -> None:
            for writer in list(self._writers):
                writer.transport.abort()

        self._loop.call_soon_threadsafe(reset)
        return count

    def heal(self) -> None:
        """Pass everything on at once again."""
        self.delay_s = self.frozen_until = 0.0

    def close(self) -> None:
        """Cut everything and stop listening."""
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._accept, self.host, self.port, ssl=self._tls)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        try:
            await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
        finally:
            self._writers -= {writer, far_writer}
            writer.close()
            far_writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(65_536):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                while monotonic() < self.frozen_until:
                    await asyncio.sleep(0.05)
                writer.write(chunk)
                await writer.drain()
        with suppress(OSError):
            writer.close()
