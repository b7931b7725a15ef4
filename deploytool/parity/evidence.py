"""Reads the helper's answer into evidence. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import re

from deploytool.errors import FaultKind, HostFault
from deploytool.fleet.model import FLAG_NAME
from deploytool.fleet.protocol import Reply, excerpt
from deploytool.parity.model import (
    Evidence,
    Finished,
    Halt,
    Hold,
    Lock,
    Mark,
    Process,
    RolloutMark,
    Run,
    Signers,
)

_LAST_SECOND = 2**37
"""A calendar goes a little further: what is later can't be shown."""
_RIGHTS = re.compile(r"[0-9]{1,10}:[0-9]{1,10}:[0-7]{1,5}")
"""Owner, group and mode, as stat(1) says them with ``%u:%g:%a``."""
_FLAG_NAME = re.compile(FLAG_NAME)


def parse_evidence(reply: Reply, now: float) -> Evidence:
    """The evidence in a reply that arrived at ``now`` (seconds since the epoch).

    Raises:
        HostFault: the answer lacks what every host has to show, or can't be read.
    """
    try:
        return _parse(reply, now)
    except (ValueError, IndexError, KeyError, binascii.Error) as error:
        raise HostFault(FaultKind.PROTOCOL, f"the evidence can't be read: {error!r}") from error


def _skew_s(clock: float, asked_at: float, now: float) -> float:
    """How far the host's clock is outside the time between question and answer, in seconds.

    A slow answer is not a slow clock.
    """
    if not math.isfinite(clock):
        raise ValueError(f"{clock} is no time")
    return clock - max(asked_at, min(clock, now))


def _must(reply: Reply, key: str) -> str:
    value = reply.one(key)
    if value is None:
        raise KeyError(key)
    return value


def _second(text: str) -> int:
    """Seconds since the epoch, no further off than a calendar goes."""
    found = int(text)
    if not 0 <= found <= _LAST_SECOND:
        raise ValueError(f"{text} is no time")
    return found


def _rights(words: list[str]) -> tuple[str, ...]:
    for word in words:
        if _RIGHTS.fullmatch(word) is None:
            raise ValueError(f"{word!r} is no owner, group and mode")
    return tuple(words)


def _file(text: str | None) -> str | None:
    """What is said of a file: its inode, size, rights and times."""
    if text is not None:
        _rights([text.split()[2]])
    return text


def _pairs(text: str) -> dict[str, str]:
    words = text.split()
    return dict(zip(words[::2], words[1::2], strict=True))


def _lock(text: str | None) -> Lock | None:
    if text is None:
        return None
    said = _pairs(text)
    return Lock(
        int(said["token"]), said["holder"], said["purpose"], said["plan"], _second(said["since"])
    )


def _mark(text: str | None) -> Mark | None:
    if text is None:
        return None
    said = _pairs(text)
    return Mark(
        said["release"], int(said["pid"]), int(said["start"]), said["boot"], _second(said["since"])
    )


def _release(text: str) -> str | None:
    return None if text in {"", "none"} else text


def _rollout(text: str | None) -> RolloutMark | None:
    if text is None:
        return None
    said = _pairs(text)
    return RolloutMark(
        said["plan"],
        _release(said["target"]),
        _release(said["before"]),
        said["phase"],
        _second(said["since"]),
    )


def _finished(text: str | None) -> Finished | None:
    if text is None:
        return None
    said = _pairs(text)
    return Finished(said["plan"], _release(said["target"]), _release(said["before"]))


def _hold(text: str | None) -> Hold | None:
    if text is None:
        return None
    said = _pairs(text)
    return Hold(said["verdict"], said["holder"], said["plan"], said["next"], _second(said["since"]))


def parse_halt(reply: Reply) -> Halt | None:
    """The stop that holds on the host that said this; None where none does.

    A latch that can't be read is a latch all the same.
    """
    text, fenced = reply.one("halted"), reply.one("fenced") is not None
    if text is None and not fenced:
        return None
    words = (text or "").split()
    said = dict(zip(words[::2], words[1::2], strict=False))
    since = said.get("since", "")
    return Halt(
        said.get("latch", ""),
        said.get("by", "unknown"),
        said.get("reason", "unknown").replace("+", " "),
        min(int(since), _LAST_SECOND) if since.isdecimal() and len(since) < 20 else 0,
        fenced,
        said.get("artifact", ""),
    )


def _signers(text: str | None) -> Signers | None:
    if text is None:
        return None
    sha, *rights = text.split()
    return Signers(sha, _rights(rights))


def _label(text: str | None) -> bytes | None:
    """A manifest's bytes, where they are those that the host digested."""
    if text is None:
        return None
    sha, _, coded = text.partition(" ")
    plain = base64.b64decode(coded, validate=True)
    return plain if hashlib.sha256(plain).hexdigest() == sha else None


def _process(text: str) -> Process:
    pid, parent, start, state, command = text.split(" ", 4)
    return Process(int(pid), int(parent), int(start), state, command)


def _run(text: str) -> Run:
    pid, how, inode, sha, path = text.split(" ", 4)
    return Run(int(pid), how, inode, sha, path)


def _status(text: str | None) -> tuple[dict[str, object] | None, str]:
    if text is None:
        return None, "nobody to ask: there is no main process"
    plain = base64.b64decode(text, validate=True).decode("utf-8", "replace")
    try:
        said = json.loads(plain)
    except (ValueError, RecursionError):
        return None, excerpt(plain)
    if not isinstance(said, dict):
        return None, excerpt(plain)
    armed = said.get("armed")
    for name in armed if isinstance(armed, list) else ():
        # It ends up in commands that a person pastes.
        if not isinstance(name, str) or _FLAG_NAME.fullmatch(name) is None:
            return None, f"it says that {excerpt(repr(name))} is armed, which is no flag's name"
    return said, ""


def _parse(reply: Reply, now: float) -> Evidence:
    processes = {p.pid: p for p in map(_process, reply.all("process"))}
    still = {int(text.split()[0]): int(text.split()[1]) for text in reply.all("still")}
    unit = dict(text.split("=", 1) for text in reply.all("unit") if "=" in text)
    for key, once in (("process", processes), ("still", still), ("unit", unit)):
        if len(once) != len(reply.all(key)):
            raise ValueError(f"something is told twice: {key}")
    disk = (reply.one("disk") or "").split()
    manifest = (reply.one("manifest") or "").split()
    status, status_text = _status(reply.one("status"))
    free = (reply.one("free") or "").strip()
    return Evidence(
        helper=_must(reply, "helper"),
        machine=_must(reply, "machine"),
        boot=_must(reply, "boot"),
        root=_must(reply, "root"),
        rights=_rights(_must(reply, "rights").split()),
        skew_s=_skew_s(float(_must(reply, "clock")), reply.asked_at or now, now),
        current=_must(reply, "current"),
        main_pid=int(_must(reply, "main")),
        free_bytes=int(free) if free else None,
        lacks=reply.all("lacks"),
        token=int(reply.one("token") or 0),
        lock=_lock(reply.one("lock")),
        verified=_mark(reply.one("verified")),
        rollout=_rollout(reply.one("rollout")),
        finished=_finished(reply.one("finished")),
        hold=_hold(reply.one("held")),
        halt=parse_halt(reply),
        previous=_release((reply.one("previous") or "").strip()),
        meant=_release((reply.one("meant") or "").strip()),
        unconfirmed=reply.one("deadman") is not None,
        release_state=(reply.one("holds") or "").rpartition(" ")[2] or None,
        label=_label(reply.one("label")),
        file=_file(reply.one("file")),
        disk_sha=disk[0] if disk else None,
        disk_way=disk[1] if disk else None,
        manifest_sha=manifest[0] if manifest else None,
        manifest=base64.b64decode(manifest[1], validate=True) if len(manifest) > 1 else None,
        signers=_signers(reply.one("signers")),
        unit=unit,
        unit_files=tuple(_sha_path(text) for text in reply.all("unitfile")),
        configs=tuple((path, sha) for sha, path in map(_sha_path, reply.all("config"))),
        processes=processes,
        still=still,
        group=frozenset(map(int, reply.all("group"))),
        runs=tuple(map(_run, reply.all("runs"))),
        unseen=frozenset(map(int, reply.all("unseen"))),
        owners=tuple((int(a), int(b)) for a, b in (text.split() for text in reply.all("owner"))),
        interpreters=tuple(_sha_path(text) for text in reply.all("interpreter")),
        status=status,
        status_text=status_text,
    )


def _sha_path(text: str) -> tuple[str, str]:
    sha, _, path = text.partition(" ")
    return sha, path
