"""The words between deploytool and the host helper: pure framing and parsing.

Whatever a login shell prints before or after, only what stands between the two lines that
carry the round's nonce is an answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from deploytool.errors import FaultKind, HostFault

FORMAT = "deploytool/1"
ANSWER_BYTES_AT_MOST = 1024 * 1024


@dataclass(frozen=True)
class Call:
    """A job for one host as a value: a verb of the helper and its arguments."""

    verb: str
    arguments: tuple[tuple[str, str], ...] = ()
    changes: bool = True
    """Whether it changes the host: if so, a lost answer leaves its effect in doubt."""
    insist: bool = False
    """Whether it is tried also on a host that was given up because it did not answer before."""

    @staticmethod
    def of(verb: str, **arguments: str | int) -> Call:
        """A call that changes something: ``Call.of("unlock", token=3)``."""
        return Call(verb, tuple((key, str(value)) for key, value in arguments.items()))


@dataclass(frozen=True)
class Reply:
    """The helper's lines for one call that it carried out: (key, rest of line), in order."""

    lines: tuple[tuple[str, str], ...] = field(default=())
    asked_at: float | None = None
    """When the question was sent, in seconds since the epoch; None where nobody noted it."""

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
            raise HostFault(FaultKind.PROTOCOL, f"the helper said {key!r} {len(found)} times")
        return found[0] if found else None


def request(call: Call, nonce: str) -> bytes:
    """The bytes that ask the helper for ``call``; a payload may follow them."""
    lines = [f"{FORMAT} {nonce} {call.verb}"]
    for key, value in call.arguments:
        if value.split() != [value]:
            raise ValueError(f"{key}={value!r} can't stand in a request")
        lines.append(f"{key} {value}")
    return "\n".join([*lines, ".", ""]).encode("ascii")


def parse_reply(output: bytes, nonce: str, call: Call) -> Reply:
    """The helper's answer out of all that the remote command printed.

    Raises:
        HostFault: no whole answer with this nonce (the effect is then in doubt where the call
            changes something and was begun), or the helper refused.
    """
    text = output.decode("utf-8", "replace")
    begin, end = f"deploytool {nonce} begin\n", f"deploytool {nonce} end "
    _, started, rest = (
        text.partition("\n" + begin) if not text.startswith(begin) else text.partition(begin)
    )
    if not started:
        # Nobody but the helper knows the nonce: with its last line, it was asked and it ended.
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


def one_line(text: str) -> str:
    """``text`` as one line: with nothing in it that moves a cursor, or that can't be seen."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def excerpt(text: str) -> str:
    """What a host printed, short and harmless enough for one line of a message."""
    clean = " ".join(one_line(text).split())
    return (clean[:157] + "...") if len(clean) > 160 else (clean or "nothing")
