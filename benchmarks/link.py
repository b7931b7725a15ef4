"""A link with a delay between the deployer and some hosts, and what goes over it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

_CHUNK = 256 * 1024
_QUEUED_AT_MOST = 8 * 1024 * 1024
"""Bytes on their way in one direction of one connection; then the sender waits, as for a window."""
_START_S = 10.0


@dataclass
class Counted:
    """What went over the connections to one host since ``reset``."""

    connections: int = 0
    turns: int = 0
    """Times that the deployer sent something after it had heard something: round trips at least."""
    up: int = 0
    down: int = 0


class SlowLink:
    """Listens on loopback for one host; every byte arrives ``delay_s`` after it was sent.

    A connection's first byte arrives a round trip later, which stands for TCP's handshake.
    """

    def __init__(self, address: str, port: int, delay_s: float) -> None:
        self._target = (address, port)
        self._delay_s = delay_s
        self.counted = Counted()
        self.port = 0

    def reset(self) -> None:
        """Counts from zero."""
        self.counted = Counted()

    async def open(self) -> asyncio.Server:
        """Begins to listen; ``port`` says where."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_CHUNK)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _accept(self, near: asyncio.StreamReader, reply: asyncio.StreamWriter) -> None:
        counted = self.counted
        counted.connections += 1
        spoken = [False]  # whether the host was the last to speak
        await asyncio.sleep(3 * self._delay_s)  # SYN, SYN and ACK, ACK
        try:
            far, send = await asyncio.open_connection(*self._target, limit=_CHUNK)
        except OSError:
            reply.close()
            return

        def up(size: int) -> None:
            counted.up += size
            counted.turns += spoken[0]
            spoken[0] = False

        def down(size: int) -> None:
            counted.down += size
            spoken[0] = True

        await asyncio.gather(
            _pass_on(near, send, self._delay_s, up), _pass_on(far, reply, self._delay_s, down)
        )
        for writer in (send, reply):
            with suppress(OSError):
                await writer.wait_closed()


async def _pass_on(reader, writer, delay_s: float, count) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Passes on what is read, ``delay_s`` later, in its order and to its end."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUED_AT_MOST // _CHUNK)

    async def take_in() -> None:
        data = b"."
        while data:
            try:
                data = await reader.read(_CHUNK)
            except OSError:
                data = b""
            await queue.put((loop.time() + delay_s, data))

    taking = asyncio.create_task(take_in())
    try:
        while True:
            due, data = await queue.get()
            await asyncio.sleep(due - loop.time())
            if not data:
                break
            count(len(data))
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        taking.cancel()
        writer.close()


@contextmanager
def slow_links(targets: Sequence[tuple[str, int]], delay_s: float) -> Iterator[list[SlowLink]]:
    """One link to each target, in a thread of their own, until the block ends."""
    links = [SlowLink(address, port, delay_s) for address, port in targets]
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="links", daemon=True)
    thread.start()

    def close() -> None:
        asyncio.run_coroutine_threadsafe(_end(servers), loop).result(_START_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_START_S)
        loop.close()

    servers: list[asyncio.Server] = []
    with ExitStack() as stack:
        stack.callback(close)
        for link in links:
            opening = asyncio.run_coroutine_threadsafe(link.open(), loop)
            servers.append(opening.result(_START_S))
        yield links


async def _end(servers: list[asyncio.Server]) -> None:
    """Ends listeners, and whatever still goes over a link."""
    for server in servers:
        server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
