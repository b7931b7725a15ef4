"""Every error that deploytool raises on purpose, in one place.

::

    DeploytoolError                 what happened, what it means for the fleet, what to do now
    ├── InputError            2     what a person wrote is wrong; nothing was touched
    │   └── EnvironmentProblem 2    this machine lacks something; nothing was touched
    ├── Refused               3     a rule said no; nothing was changed
    ├── Restored              4     failed, the fleet is proven to be what it was
    ├── NotProven             5     failed or incomplete, the fleet is MIXED or UNKNOWN
    ├── StopNotConfirmed      6     a stop was not seen to take effect on every target
    └── Interrupted         130     the user interrupted it; what is left is stated
    HostFault                       one host, one command: becomes a verdict, never an exit code
    IllegalEvent                    an event that the rollout table lacks in that state (a bug)

The numbers are exit codes. Anything else that escapes is a bug of ours and exits with 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any, ClassVar, Protocol, Self


class Stated(Protocol):
    """What a program reads as a document of its own."""

    def document(self) -> dict[str, Any]:
        """It in values."""


class DeploytoolError(Exception):
    """An end that a person reads: three lines, and an exit code.

    ``what`` happened, what it ``means`` for the fleet, and what to do ``now`` (a command
    that can be pasted). ``details`` are further lines, one a host or one a mistake.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, means: str, now: str, details: tuple[str, ...] = ()) -> None:
        super().__init__(what)
        self.what = what
        self.means = means
        self.now = now
        self.details = details
        self.findings: tuple[Stated, ...] = ()
        """What it rests on, in values: ``core.finding.Finding``."""

    def found(self, findings: Iterable[Stated]) -> Self:
        """The same error, resting on these findings."""
        self.findings = tuple(findings)
        return self

    def told(self) -> str:
        """All that happened in one line."""
        return " ".join((self.what, *self.details))


class InputError(DeploytoolError):
    """An inventory, manifest, registry or option is wrong. Nothing was touched."""

    exit_code: ClassVar[int] = 2


class EnvironmentProblem(InputError):
    """This machine lacks something (a program, a right, room). Nothing was touched."""


class Refused(DeploytoolError):
    """A rule forbids it. Nothing was changed. ``rule`` names which."""

    exit_code: ClassVar[int] = 3

    def __init__(
        self, rule: str, what: str, means: str, now: str, details: tuple[str, ...] = ()
    ) -> None:
        super().__init__(what, means, now, details)
        self.rule = rule


class Restored(DeploytoolError):
    """It failed, and every host was proven to be what it was before."""

    exit_code: ClassVar[int] = 4


class NotProven(DeploytoolError):
    """The fleet is MIXED or UNKNOWN, or still HALTED; ``details`` has a line for each such host."""

    exit_code: ClassVar[int] = 5


class StopNotConfirmed(DeploytoolError):
    """Silence was not observed on every target."""

    exit_code: ClassVar[int] = 6


class Interrupted(DeploytoolError):
    """The user interrupted it (Ctrl-C, SIGTERM)."""

    exit_code: ClassVar[int] = 130


class FaultKind(Enum):
    """Why a host gave no usable answer. The value is what a person reads."""

    UNREACHABLE = "unreachable"
    HOST_KEY = "host key refused"
    AUTH = "authentication refused"
    TIMEOUT = "no answer in time"
    LOST = "connection lost"
    RIGHTS = "rights missing"
    AGENT = "agent missing or of another version"
    PROTOCOL = "answer not understood"
    REFUSED = "refused by the host"


class HostFault(Exception):
    """One host did not do what one command asked.

    ``in_doubt`` is true when the command may have taken effect all the same (it was sent,
    and its answer was lost): the caller looks again before it assumes anything.
    ``code`` is the agent's own word for a refusal (``locked``, ``stale-token``, ``no-space``...).
    """

    def __init__(
        self, kind: FaultKind, text: str, *, in_doubt: bool = False, code: str = ""
    ) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.in_doubt = in_doubt
        self.code = code

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.text}" if self.text else self.kind.value

    @property
    def facts(self) -> dict[str, str | bool]:
        """It in values, as a finding has them."""
        return {"fault": self.kind.name, "code": self.code, "in_doubt": self.in_doubt}


class IllegalEvent(Exception):
    """The rollout table has no row for this state and event; the state stays as it was."""
