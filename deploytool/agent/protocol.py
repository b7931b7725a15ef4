"""Framing of requests and answers: bytes in, values out. Pure.

A request is two lines, and the payload where its verb has one::

    deploytool/2 NONCE VERB
    {"token":3,...}

and its answer three, after whatever a login shell printed::

    deploytool NONCE begin
    {...}
    deploytool NONCE end ok|refused

Only what stands between the two lines that carry the nonce is an answer. JSON escapes line breaks,
so neither object can end its line. An empty line before a request is ignored: it keeps an idle
connection from being cut. Before a conversation's first answer the shell that starts Python prints
``deploytool NONCE arrived``: the host was reached, and what is missing from then on is the agent's.
The verbs of a stop's last rungs keep the format of version 1
(``deploytool/1``), which hosts prepared by any release understand: see ``last_rungs.sh``.
"""

from __future__ import annotations

from deploytool.agent import jsontext
from deploytool.agent.record import Malformed
from deploytool.agent.requests import ANSWERS, VERBS, RefusedAnswer
from deploytool.agent.words import is_hex

TYPE_CHECKING = False
if TYPE_CHECKING:
    from deploytool.agent.record import Record
    from deploytool.agent.requests import Answer, Request

FORMAT = "deploytool/2"
REQUEST_AT_MOST = 256 * 1024
"""Bytes of a request's second line: a list of releases, and no payload."""
ANSWER_AT_MOST = 16 * 1024 * 1024
"""Bytes of an answer: the evidence of a host with thousands of processes."""
FIRST_LINE_AT_MOST = 256
DEPTH_AT_MOST = 32
"""Deeper JSON is refused before it is parsed: parsers recurse."""


class NoAnswer(Exception):
    """What was printed holds no whole answer. ``begun``: the agent had begun to answer.

    ``ended``: its last line is there, so that it was carried out though its answer was not read.
    """

    def __init__(self, text: str, *, begun: bool, ended: bool = False) -> None:
        super().__init__(text)
        self.begun = begun
        self.ended = ended


def request_bytes(request: Request, nonce: str) -> bytes:
    """What asks for ``request``; its payload follows.

    Raises:
        ValueError: it is too long to be sent.
    """
    line = _line(request)
    if len(line) > REQUEST_AT_MOST:
        raise ValueError(f"a request of {len(line)} bytes is too long")
    return first_line(nonce, request.verb) + line


def first_line(nonce: str, verb: str) -> bytes:
    """How a request begins. It may be sent before the rest is known: the agent gets ready then."""
    return f"{FORMAT} {nonce} {verb}\n".encode("ascii")


def parse_first_line(line: bytes) -> tuple[str, type[Request]]:
    """The nonce and the verb's request.

    Raises:
        Malformed: it is no first line of this format, or no verb of this agent.
    """
    words = line.decode("ascii", "replace").rstrip("\n").split(" ")
    if len(words) != 3 or words[0] != FORMAT or not is_hex(words[1]):
        raise Malformed("request", f"{FORMAT} NONCE VERB", line[:60])
    if words[2] not in VERBS:
        raise Malformed("verb", "a verb of this agent", words[2])
    return words[1], VERBS[words[2]]


def parse_request(kind: type[Request], line: bytes) -> Request:
    """The request in its second line; a field that the verb does not have is refused.

    Raises:
        Malformed: it is something else.
    """
    return kind.from_json(parse_json(line, REQUEST_AT_MOST), strict=True)


def arrived(nonce: str) -> bytes:
    """What the shell prints before Python starts (``stub.sh``)."""
    return f"deploytool {nonce} arrived\n".encode("ascii")


def answer_begin(nonce: str) -> bytes:
    """What is sent as soon as a request is read: whoever waits knows that it has arrived."""
    return f"\ndeploytool {nonce} begin\n".encode("ascii")


def answer_rest(nonce: str, answer: Answer | RefusedAnswer) -> bytes:
    """What follows when it was carried out."""
    end = b"refused\n" if isinstance(answer, RefusedAnswer) else b"ok\n"
    return _line(answer) + answer_end(nonce) + end


def answer_bytes(nonce: str, answer: Answer | RefusedAnswer) -> bytes:
    """The frame around an answer."""
    return answer_begin(nonce) + answer_rest(nonce, answer)


def answer_end(nonce: str) -> bytes:
    """How the last line of an answer begins."""
    return f"deploytool {nonce} end ".encode("ascii")


def parse_answer(output: bytes, nonce: str, request: Request) -> Answer | RefusedAnswer:
    """The answer to ``request`` in all that the remote command printed.

    Raises:
        NoAnswer: there is no whole answer with this nonce.
        Malformed: there is one, and it is not what this verb answers.
    """
    begin, end = b"deploytool %s begin\n" % nonce.encode(), answer_end(nonce)
    at = 0 if output.startswith(begin) else output.find(b"\n" + begin) + 1
    if not at and not output.startswith(begin):
        if arrived(nonce) in output:
            raise NoAnswer("Python on this host ended without a word", begun=False)
        raise NoAnswer("no answer in what it printed", begun=False, ended=b"\n" + end in output)
    body, newline, rest = output[at + len(begin) :].partition(b"\n")
    if not newline or not rest.startswith(end) or b"\n" not in rest:
        raise NoAnswer("the answer broke off before its end", begun=True)
    verdict = rest[len(end) : rest.index(b"\n")]
    found = parse_json(body, ANSWER_AT_MOST)
    if verdict == b"refused":
        return RefusedAnswer.from_json(found)
    if verdict != b"ok":
        raise Malformed("end", "ok or refused", verdict)
    return ANSWERS[type(request)].from_json(found)


def parse_json(text: bytes, at_most: int) -> object:
    """Bounded JSON (RFC 8259): no deeper, longer or looser than an honest answer is.

    Raises:
        Malformed: it is too long, too deep, no JSON, or says one name twice.
    """
    if len(text) > at_most:
        raise Malformed("JSON", f"at most {at_most} bytes", len(text))
    depth = 0
    for bracket in text.translate(None, _NOT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > DEPTH_AT_MOST:
            raise Malformed("JSON", f"at most {DEPTH_AT_MOST} levels", depth)
    try:
        return jsontext.loads(text.decode("utf-8"), _once, _no_constant)
    except (ValueError, RecursionError) as error:
        if isinstance(error, Malformed):
            raise
        raise Malformed("JSON", "one value", str(error)) from error


_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Two readers may take different ones of two members with one name (RFC 8259, section 4)."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("JSON", "each name once", [name for name, _ in pairs])
    return found


def _no_constant(word: str) -> object:
    raise Malformed("JSON", "a number", word)


def _line(record: Record) -> bytes:
    text = jsontext.dumps(record.to_json())
    return text.encode("ascii") + b"\n"
