"""What follows a request: exactly so many bytes, within one deadline."""

from __future__ import annotations

from deploytool.agent.host import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploytool.agent.port import Machine, Payload

CHUNK = 1 << 20


def pieces(machine: Machine, payload: Payload, size: int, until: float) -> Iterator[bytes]:
    """All of it, piece by piece. ``until``: when the time is up, by ``machine.uptime()``.

    Raises:
        Refusal: not all of it arrived (``short-copy``), or not in time (``slow-copy``).
    """
    left = size
    while left:
        arrived = f"{size - left} of {size} bytes arrived"
        patience = until - machine.uptime()
        try:
            got = payload(min(CHUNK, left), patience) if patience > 0 else None
        except TimeoutError:
            got = None
        if got is None:
            raise Refusal("slow-copy", f"{arrived}, and the time for it is up")
        if not got:
            raise Refusal("short-copy", f"{arrived}, and then the input ended")
        left -= len(got)
        yield got
