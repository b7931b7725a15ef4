"""What each verb does: a function of the host, the request and its payload."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from deploytool.agent.host import AgentHost
    from deploytool.agent.port import Payload
    from deploytool.agent.requests import Answer

    Verb = Callable[[AgentHost, Any, Payload], Answer]

_MODULES = {
    "probe": "evidence",
    "lock": "locking",
    "renew": "locking",
    "unlock": "locking",
    "hold": "locking",
    "stage": "staging",
    "activate": "switching",
    "confirm": "switching",
    "expire": "switching",
    "retire": "switching",
    "halt": "stopping",
    "halt_release": "stopping",
    "kill_strays": "stopping",
    "survey": "stopping",
    "latch": "stopping",
    "lease": "serving",
    "log": "serving",
    "resume": "starting",
    "let_in": "starting",
    "flag": "arming",
}
"""Where each verb is: a module is compiled when the first of its verbs is asked for."""


def find(verb: str) -> Verb:
    """The function that does a verb."""
    name = f"{__name__}.{_MODULES[verb]}"
    __import__(name)  # importing importlib itself would cost a host more
    found: Verb = getattr(sys.modules[name], verb)
    return found
