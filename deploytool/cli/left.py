"""Says, in every command, what hosts say of a stop or of a rollout that did not end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from deploytool.cli.output import say
from deploytool.parity.left import under_way

if TYPE_CHECKING:
    from deploytool.parity.look import Seen


def say_left(seen: Seen) -> tuple[str, ...]:
    """Says a line for each thing that hosts say; gives the lines."""
    lines = under_way(seen, time.time())
    for line in lines:
        say(line)
    return lines
