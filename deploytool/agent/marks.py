"""Marks: small files of lines ``key value`` in STATE that say what was done here, and by whom.

They are for people too (``cat state/lock``), are written by the last rungs of a stop in the same
form, and outlive a change of the agent's version.
"""

from __future__ import annotations

from deploytool.agent.model import (
    Deadman,
    Finished,
    Hold,
    Latch,
    Lock,
    Marks,
    Released,
    RolloutMark,
    Verified,
)
from deploytool.agent.record import Malformed, Record
from deploytool.agent.words import is_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from deploytool.agent.port import Folder

    Mark = TypeVar("Mark", bound=Record)

MARK_AT_MOST = 8192
RELEASED_AT_MOST = 16
"""So many stops that ended are remembered."""
_NAME_AT_MOST = 120
_NUMBERS = frozenset({"token", "since", "pid", "start", "seconds", "armed"})
_RELEASES = frozenset({"target", "before"})


def put(state: Folder, **texts: str) -> None:
    """Writes files, in this order, each atomically; on the disk when it returns.

    The names are synced once, after all of them: a power loss in between leaves each whole, old or
    new, and never a later one without an earlier.

    Raises:
        OSError: one can't be written; those before it may have been.
    """
    for name, text in texts.items():
        draft = f"{name}.new"
        if state.entry(draft) is not None:
            state.remove(draft)  # what a killed one left
        sink = state.create(draft, 0o644)
        try:
            sink.write(text.encode("utf-8", "replace"))
            sink.sync()
        finally:
            sink.close()
    for name in texts:
        state.rename(f"{name}.new", name)
    state.sync()


def remove(state: Folder, *names: str) -> None:
    """Removes marks; one that is not there is no error.

    Raises:
        OSError: one can't be removed.
    """
    for name in names:
        if state.entry(name) is not None:
            state.remove(name)


def is_there(state: Folder, name: str) -> bool:
    """Whether there is such a mark, whatever it says."""
    return state.entry(name) is not None


def text_of(mark: Record) -> str:
    """The lines of a mark."""
    lines = []
    for name in mark.fields:
        value = getattr(mark, name)
        if value is not None or name in _RELEASES:
            # One mark can't grow the lines of another: a reason is free text.
            shown = "none" if value is None else str(value).replace("\n", " ")
            lines.append(f"{name} {shown}\n")
    return "".join(lines)


def _pairs(text: str) -> dict[str, object]:
    found: dict[str, object] = {}
    for line in text.removesuffix("\n").split("\n"):
        key, _, value = line.partition(" ")
        if key in found:
            raise Malformed(key, "one line", text)
        if key in _RELEASES:
            found[key] = None if value in ("", "none") else value
        elif key in _NUMBERS:
            found[key] = number(value)
        else:
            found[key] = value
    return found


def number(text: str) -> int:
    """A number as marks have it: digits alone, without a leading zero.

    Raises:
        Malformed: it is something else.
    """
    if not (text.isascii() and text.isdigit()) or (text[0] == "0" and text != "0"):
        raise Malformed("mark", "a number", text)
    return int(text[:20])


def read_text(state: Folder, name: str) -> str | None:
    """A mark's text; None where there is no such mark.

    Raises:
        OSError, Malformed: it is there and can't be read.
    """
    if state.entry(name) is None:
        return None
    try:
        return state.read(name, MARK_AT_MOST).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(name, "a mark", str(error)) from error


def read(state: Folder, name: str, kind: type[Mark]) -> Mark | None:
    """A mark; None where there is none.

    Raises:
        OSError, Malformed: it is there and can't be read.
    """
    text = read_text(state, name)
    return None if text is None else kind.from_json(_pairs(text), name)


def read_lock(state: Folder) -> Lock | None:
    """Who holds this host. See ``read``."""
    return read(state, "lock", Lock)


def read_token(state: Folder) -> int:
    """The newest token that was ever given out here; 0 before the first. See ``read``."""
    text = read_text(state, "token")
    return 0 if text is None else number(text.strip())


def read_latch(state: Folder, name: str = "halted") -> Latch | None:
    """The stop that holds here; None also where its mark is there and can't be read."""
    try:
        return read(state, name, Latch)
    except (OSError, Malformed):
        return None


def read_release(state: Folder, name: str) -> str | None:
    """A mark that is one release's digest. See ``read``."""
    text = (read_text(state, name) or "").strip()
    if text in ("", "none"):
        return None
    if not is_digest(text):
        raise Malformed(name, "a SHA-256", text)
    return text


def add_released(state: Folder, ended: Released) -> None:
    """Notes a stop that ended here: one line each, of the latest ones.

    Raises:
        OSError: it can't be written.
    """
    try:
        kept = read_released(state)
    except (OSError, Malformed):
        kept = ()
    lines = []
    for one in (*kept[1 - RELEASED_AT_MOST :], ended):
        who = (one.by, one.signer or "")
        by, signer = (" ".join(name.split())[:_NAME_AT_MOST].replace(" ", "+") for name in who)
        lines.append(f"{one.latch} {one.stopped} {one.since} {by or '?'} {signer}".rstrip())
    put(state, released="".join(f"{line}\n" for line in lines))


def read_released(state: Folder) -> tuple[Released, ...]:
    """The latest stops that ended here. See ``read``."""
    text = read_text(state, "released")
    return tuple(map(_released, text.removesuffix("\n").split("\n"))) if text else ()


def _released(line: str) -> Released:
    words = line.split(" ")
    if len(words) not in (4, 5):
        raise Malformed("released", "a stop that ended", line)
    latch, stopped, since, by = words[:4]
    return Released(
        latch=latch,
        stopped=number(stopped),
        since=number(since),
        by=by,
        signer=words[4] if len(words) > 4 else None,
    )


_KINDS: dict[str, tuple[str, type[Record]]] = {
    "lock": ("lock", Lock),
    "rollout": ("rollout", RolloutMark),
    "finished": ("finished", Finished),
    "verified": ("verified", Verified),
    "hold": ("held", Hold),
    "latch": ("halted", Latch),
    "deadman": ("deadman", Deadman),
}


def read_all(state: Folder) -> Marks:
    """Every mark of this host."""
    found: dict[str, Any] = {}
    unreadable: list[str] = []
    for field, (name, kind) in _KINDS.items():
        try:
            found[field] = read(state, name, kind)
        except (OSError, Malformed):
            unreadable.append(name)
    for field in ("previous", "meant"):
        try:
            found[field] = read_release(state, field)
        except (OSError, Malformed):
            unreadable.append(field)
    try:
        found["released"] = read_released(state)
    except (OSError, Malformed):
        unreadable.append("released")
    try:
        found["token"] = read_token(state)
    except (OSError, Malformed):
        unreadable.append("token")
    for field in ("fenced", "expired"):
        found[field] = is_there(state, field)
    return Marks(**found, unreadable=tuple(unreadable))
