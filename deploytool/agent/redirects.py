"""Packet rules that send a port's traffic elsewhere: what nft(8) and iptables-save(8) print. Pure.

A rule counts unless it shows that it is for other ports: what can't be told may be for ours.
"""

from __future__ import annotations

from deploytool.agent.protocol import parse_json
from deploytool.agent.record import Malformed
from deploytool.agent.words import DOCUMENT_AT_MOST, TEXT_AT_MOST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from deploytool.agent.port import Printed

_NFT = frozenset({"redirect", "dnat", "tproxy"})
"""Statements that change where a packet goes."""
_IPTABLES = frozenset({"REDIRECT", "DNAT", "TPROXY"})
_PORTS = ("--dport", "--dports", "--destination-port", "--destination-ports")
RULES_AT_MOST = 64


def redirects(printed: Iterable[Printed], ports: Sequence[int]) -> tuple[str, ...]:
    """The rules that may send the traffic of one of these ports elsewhere.

    Raises:
        ValueError: what a tool printed is not understood, or it failed.
    """
    found: dict[str, None] = {}
    for one in printed:
        if one.text is None:
            raise ValueError(f"{one.program} failed, or prints more than is read")
        rules = _nft(one.text, ports) if one.program == "nft" else _iptables(one.text, ports)
        found.update(dict.fromkeys(rule[:TEXT_AT_MOST] for rule in rules))
    return tuple(found)[:RULES_AT_MOST]


def _iptables(text: str, ports: Sequence[int]) -> Iterator[str]:
    for line in text.splitlines():
        words = line.split()
        if words[:1] != ["-A"] or _after(words, ("-j", "--jump")) not in _IPTABLES:
            continue
        named = _after(words, _PORTS)
        others = any(pair[0] == "!" and pair[1] in _PORTS for pair in zip(words, words[1:]))
        if others or not named or any(_within(part, ports) for part in named.split(",")):
            yield line


def _after(words: list[str], names: Sequence[str]) -> str:
    """The word behind the first of these."""
    pairs = zip(words, words[1:])
    return next((value for name, value in pairs if name in names), "")


def _within(part: str, ports: Sequence[int]) -> bool:
    """Whether one of the ports is ``part``: a number, or a range such as ``7000:7010``."""
    first, _, last = part.partition(":")
    try:
        return any(int(first or 0) <= port <= int(last or first or 65535) for port in ports)
    except ValueError:
        return True  # the name of a service


def _nft(text: str, ports: Sequence[int]) -> Iterator[str]:
    try:
        found = parse_json(text.encode("utf-8", "replace"), 4 * DOCUMENT_AT_MOST)
    except Malformed as error:
        raise ValueError(f"nft: {error}") from error
    listed = found.get("nftables") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        raise ValueError("nft prints no ruleset")  # noqa: TRY004 what it printed is a value
    for item in listed:
        rule = item.get("rule") if isinstance(item, dict) else None
        expressions = rule.get("expr") if isinstance(rule, dict) else None
        if not isinstance(rule, dict) or not isinstance(expressions, list):
            continue
        acts = [_kind(one) for one in expressions if _kind(one) in _NFT]
        if acts and not any(_excludes(one, ports) for one in expressions):
            where = " ".join(str(rule.get(key)) for key in ("family", "table", "chain", "handle"))
            yield f"nft rule {where}: {acts[0]}"


def _kind(expression: object) -> str:
    """A statement's name; of an iptables target that nft only names, as nft calls its own."""
    keys = list(expression) if isinstance(expression, dict) else []
    if keys == ["xt"]:
        target = expression["xt"]  # type: ignore[index] # it is a dictionary
        name = target.get("name") if isinstance(target, dict) else None
        return str(name).lower() if name in _IPTABLES else ""
    return str(keys[0]) if len(keys) == 1 else ""


def _excludes(expression: object, ports: Sequence[int]) -> bool:
    """Whether a match of destination ports shows that none of ours is among them."""
    match = expression.get("match") if isinstance(expression, dict) else None
    if not isinstance(match, dict) or match.get("op") not in ("==", "in"):
        return False
    left = match.get("left")
    payload = left.get("payload") if isinstance(left, dict) else None
    if not isinstance(payload, dict) or payload.get("field") != "dport":
        return False
    return not _may_have(match.get("right"), ports)


def _may_have(right: object, ports: Sequence[int]) -> bool:
    if isinstance(right, bool):
        return True
    if isinstance(right, int):
        return right in ports
    if isinstance(right, dict):
        if isinstance(members := right.get("set"), list):
            return any(_may_have(member, ports) for member in members)
        span = right.get("range")
        if isinstance(span, list) and len(span) == 2 and all(type(end) is int for end in span):
            return any(span[0] <= port <= span[1] for port in ports)
    return True  # a set by its name, an expression: it may be any
