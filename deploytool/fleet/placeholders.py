"""Words in braces in an inventory's commands: each is filled in, or is a mistake. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from deploytool.fleet.model import (
    ASKED_PLACEHOLDERS,
    BUILT_IN_PLACEHOLDERS,
    OPERATORS_COMMANDS,
    PLACEHOLDER,
)
from deploytool.fleet.yaml_source import Location, Mistake

LEASE_AT_LEAST_S = 1.0
"""A shorter lease would lapse between two renewals on a busy machine."""
_OWN_MEANING = BUILT_IN_PLACEHOLDERS.union(*ASKED_PLACEHOLDERS.values())


def placeholder_checks(
    value: dict[object, object], hosts: dict[object, object]
) -> Iterator[Mistake]:
    """Every word in braces is built in, asked for in its place, or one of each host's ``vars``."""
    keys = ("service", "config_files", *OPERATORS_COMMANDS)
    for at, text in _strings({key: value.get(key) for key in keys}, ()):
        place = tuple(map(str, at))  # of a text, or of an argument list and a number
        asked = ASKED_PLACEHOLDERS.get(place, ASKED_PLACEHOLDERS.get(place[:-1], frozenset()))
        for word in PLACEHOLDER.findall(text):
            if word in asked:
                continue
            if at[0] in OPERATORS_COMMANDS:
                why = _not_on_this_machine(word, asked)
            elif word == "signers" and not value.get("signers"):
                why = "found {signers}, but the inventory names no 'signers' file"
            else:
                why = _not_on_hosts(word, hosts)
            if why:
                yield Mistake(at, why)
    yield from _taken_names(hosts)


def _not_on_this_machine(word: str, asked: frozenset[str]) -> str:
    if word == "fleet":
        return ""
    known = ", ".join(f"{{{name}}}" for name in sorted({*asked, "fleet"}))
    return f"found {{{word}}}; this command knows {known}"


def _not_on_hosts(word: str, hosts: dict[object, object]) -> str:
    lacking = [
        str(name)
        for name, spec in hosts.items()
        if word not in BUILT_IN_PLACEHOLDERS
        and not (isinstance(spec, dict) and word in (spec.get("vars") or {}))
    ]
    where = ", ".join(lacking)
    return f"found {{{word}}}, but there is no such 'vars' entry at {where}" if lacking else ""


def _taken_names(hosts: dict[object, object]) -> Iterator[Mistake]:
    for name, spec in hosts.items():
        own = spec.get("vars") if isinstance(spec, dict) else None
        for word in own if isinstance(own, dict) else ():
            if word in _OWN_MEANING:
                at = ("hosts", str(name), "vars", str(word))
                yield Mistake(at, f"{{{word}}} has a meaning of its own; take another name")


def flag_checks(value: dict[object, object]) -> Iterator[Mistake]:
    """Commands about one flag say which; who may sign is named where there is what is signed."""
    for at, words in ASKED_PLACEHOLDERS.items():
        if "flag" not in words:
            continue
        found: object = value
        for key in at:
            found = found.get(key) if isinstance(found, dict) else None
        if isinstance(found, tuple) and not any(
            word in words for text in found for word in PLACEHOLDER.findall(str(text))
        ):
            known = ", ".join(f"{{{name}}}" for name in sorted(words))
            yield Mistake(at, f"must say which flag it is about, with one of {known}")
    service = value.get("service")
    if isinstance(service, dict) and service.get("flags") and not value.get("signers"):
        text = "needs a 'signers' file beside it: who may sign certificates for these hosts"
        yield Mistake(("service", "flags"), text)


def stop_checks(value: dict[object, object]) -> Iterator[Mistake]:
    """A lease needs somebody who renews it, by the nonce, and who tells the process how long."""
    service, lease_s = value.get("service"), value.get("lease_s")
    if not isinstance(service, dict):
        return
    lease = service.get("lease")
    if lease_s and not lease:
        yield Mistake(("lease_s",), "needs 'service.lease', the command that renews it")
    if isinstance(lease, tuple) and "{nonce}" not in " ".join(map(str, lease)):
        yield Mistake(("service", "lease"), "must hand over the nonce, as {nonce}")
    if isinstance(lease_s, int | float) and 0 < lease_s < LEASE_AT_LEAST_S:
        text = f"found {lease_s:g}; it must be 0 (off) or at least {LEASE_AT_LEAST_S:g}"
        yield Mistake(("lease_s",), text)


def _strings(value: object, at: Location) -> Iterator[tuple[Location, str]]:
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(item, (*at, str(key)))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _strings(item, (*at, index))
