"""What a host is to the rest of the house: something that answers requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from deploytool.agent.requests import Answer, Request


@dataclass(frozen=True)
class Payload:
    """Bytes that follow a request. ``open`` gives them anew for each attempt; ``size`` in bytes."""

    size: int
    open: Callable[[], Iterator[bytes]]


class Host(Protocol):
    """One declared host. The real one speaks SSH; tests have one that lives in memory."""

    @property
    def name(self) -> str:
        """Its name in the inventory."""

    def call(
        self,
        request: Request,
        *,
        deadline_s: float,
        payload: Payload | None = None,
        insist: bool = False,
    ) -> Answer:
        """Has its agent carry out ``request``, once, within ``deadline_s`` seconds.

        ``insist``: it is tried also where the host was given up because it did not answer before.

        Raises:
            HostFault: it didn't; ``in_doubt`` says whether it may have taken effect.
        """

    def close(self) -> None:
        """Gives back what the connection holds. Never raises for a host that is gone."""
