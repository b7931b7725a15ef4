"""What a host's output means to this side: an answer, or why there is none. Pure.

Framing and parsing of format deploytool/2 are the agent's own (``agent.protocol``). The lines of
format deploytool/1 are what the last rungs of a stop and a preparation answer with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from deploytool.agent.protocol import ANSWER_AT_MOST, NoAnswer
from deploytool.agent.protocol import parse_answer as parse
from deploytool.agent.record import Malformed
from deploytool.agent.requests import Answer, RefusedAnswer, Request
from deploytool.core.text import excerpt, one_line
from deploytool.errors import FaultKind, HostFault

FORMAT = "deploytool/1"
ANSWER_BYTES_AT_MOST = ANSWER_AT_MOST
OTHER_VERSION = "other-version"
"""The code of a host whose agent is of another version of deploytool, and does not understand."""


def parse_answer(output: bytes, nonce: str, request: Request) -> Answer:
    """The agent's answer out of all that the remote command printed.

    Raises:
        HostFault: no whole answer with this nonce (the effect is then in doubt where the request
            changes something and was begun), or the agent refused.
    """
    changes = request.changes
    try:
        found = parse(output, nonce, request)
    except NoAnswer as error:
        if error.begun:
            raise HostFault(FaultKind.LOST, str(error), in_doubt=changes) from error
        # Nobody but the agent knows the nonce: with its last line, it was asked and it ended.
        text = f"{error}: {excerpt(output.decode('utf-8', 'replace'))}"
        raise HostFault(FaultKind.PROTOCOL, text, in_doubt=changes and error.ended) from error
    except Malformed as error:
        text = f"its answer can't be read: {one_line(str(error))}"
        raise HostFault(FaultKind.PROTOCOL, text, in_doubt=changes) from error
    if isinstance(found, RefusedAnswer):
        kind = FaultKind.AGENT if found.code == OTHER_VERSION else FaultKind.REFUSED
        raise HostFault(kind, one_line(found.text), code=found.code)
    return found


@dataclass(frozen=True)
class Call:
    """One of the last rungs of a stop as a value: its verb and its words."""

    verb: str
    arguments: tuple[tuple[str, str], ...] = ()
    changes: bool = True
    """Whether it changes the host: if so, a lost answer leaves its effect in doubt."""


@dataclass(frozen=True)
class Reply:
    """A host's lines for what it carried out: (key, rest of line), in order."""

    lines: tuple[tuple[str, str], ...] = field(default=())

    def all(self, key: str) -> tuple[str, ...]:
        """The rest of each line that begins with ``key``."""
        return self._by_key.get(key, ())

    @cached_property
    def _by_key(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for key, rest in self.lines:
            found.setdefault(key, []).append(rest)
        return {key: tuple(rests) for key, rests in found.items()}

    def one(self, key: str) -> str | None:
        """The rest of the only line with ``key``; None where there is none.

        Raises:
            HostFault: there is more than one.
        """
        found = self.all(key)
        if len(found) > 1:
            raise HostFault(FaultKind.PROTOCOL, f"the host said {key!r} {len(found)} times")
        return found[0] if found else None


def request(call: Call, nonce: str) -> bytes:
    """The bytes that ask for ``call``."""
    lines = [f"{FORMAT} {nonce} {call.verb}"]
    for key, value in call.arguments:
        if value.split() != [value]:
            raise ValueError(f"{key}={value!r} can't stand in a request")
        lines.append(f"{key} {value}")
    return "\n".join([*lines, ".", ""]).encode("ascii")


def parse_reply(output: bytes, nonce: str, call: Call) -> Reply:
    """A host's answer out of all that the remote command printed.

    Raises:
        HostFault: no whole answer with this nonce (the effect is then in doubt where the call
            changes something and was begun), or the host refused.
    """
    text = output.decode("utf-8", "replace")
    begin, end = f"deploytool {nonce} begin\n", f"deploytool {nonce} end "
    _, started, rest = (
        text.partition("\n" + begin) if not text.startswith(begin) else text.partition(begin)
    )
    if not started:
        # Nobody but who was asked knows the nonce: with its last line, it was asked and it ended.
        said = f"no answer in what it printed: {excerpt(text)}"
        raise HostFault(FaultKind.PROTOCOL, said, in_doubt=call.changes and end in text)
    body, ended, tail = ("\n" + rest).partition("\n" + end)
    verdict, newline, _ = tail.partition("\n")
    if not ended or not newline:
        raise HostFault(
            FaultKind.LOST, "the answer broke off before its end", in_doubt=call.changes
        )
    if verdict != "ok":
        word, _, reason = verdict.partition(" ")
        code, _, sentence = reason.partition(" ")
        if word != "refused":
            raise HostFault(
                FaultKind.PROTOCOL, sentence or verdict, in_doubt=call.changes, code=code
            )
        raise HostFault(FaultKind.REFUSED, sentence or verdict, code=code)
    pairs = (one_line(line).partition(" ") for line in body.split("\n") if line)
    return Reply(tuple((key, value) for key, _, value in pairs))
