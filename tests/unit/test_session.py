"""What a remote command prints is read up to a bound, and what it did meanwhile is in doubt."""

from __future__ import annotations

from typing import Any, cast

import pytest

from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.protocol import ANSWER_BYTES_AT_MOST
from deploytool.fleet.session import Conversation


class Endless:
    """A channel whose command never stops printing."""

    closed = eof_received = False

    def settimeout(self, _seconds: float) -> None:
        pass

    def send(self, view: memoryview) -> int:
        return len(view)

    def recv(self, _size: int) -> bytes:
        return b"x" * (ANSWER_BYTES_AT_MOST // 4)


@pytest.mark.parametrize("changes", [True, False])
def test_p1_an_answer_without_an_end_leaves_in_doubt_what_it_changed(*, changes: bool) -> None:
    talk = Conversation(cast("Any", Endless()))
    with pytest.raises(HostFault, match="more than an answer") as caught:
        talk.ask([b"lock"], b"end", deadline_s=5, changes=changes)
    assert caught.value.kind is FaultKind.PROTOCOL
    assert caught.value.in_doubt is changes
