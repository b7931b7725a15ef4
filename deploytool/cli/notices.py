"""Says, in every command, what hosts say of a stop or of a rollout that did not end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from deploytool.cli.output import say
from deploytool.parity.host_notices import notices

if TYPE_CHECKING:
    from deploytool.parity.model import RoundAnswers


def say_notices(seen: RoundAnswers) -> tuple[str, ...]:
    """Says a line for each thing that hosts say; gives the lines."""
    lines = notices(seen, time.time())
    for line in lines:
        say(line)
    return lines
