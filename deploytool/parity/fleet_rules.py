"""What only shows when hosts are compared with each other: identity and sameness. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from deploytool.core.finding import Finding, Level
from deploytool.parity.model import Evidence
from deploytool.parity.rules import short, unseen, wrong

_DIGEST = re.compile(r"[0-9a-f]{64}")


def _odd_ones(values: Mapping[str, str], what: str) -> Iterator[tuple[str, Finding]]:
    """Hosts whose value is not the one that most have; all of them where there is no majority."""
    counts = Counter(values.values()).most_common()
    if len(counts) < 2:
        return
    majority = counts[0][0] if counts[0][1] > counts[1][1] else None
    for host, value in values.items():
        if majority is None:
            others = sorted(name for name, other in values.items() if other != value)
            yield host, wrong(what, f"the same as on {', '.join(others[:3])}", short(value))
        elif value != majority:
            yield host, wrong(what, f"{short(majority)} as on most hosts", short(value))


def identities(evidence: Mapping[str, Evidence]) -> Iterator[tuple[str, Finding]]:
    """Each host is a machine, or a release root, of its own."""
    names: dict[tuple[str, str], list[str]] = {}
    for host, seen in evidence.items():
        names.setdefault(seen.identity, []).append(host)
        if not seen.machine:
            yield host, unseen("identity", "a machine-id", "the host has none")
    for same in names.values():
        for host in same if len(same) > 1 else ():
            others = ", ".join(name for name in same if name != host)
            yield host, wrong("identity", "a machine of its own", f"the same machine as {others}")


def configurations(evidence: Mapping[str, Evidence]) -> Iterator[tuple[str, Finding]]:
    """Each configuration file holds the same on all hosts."""
    for number in range(max((len(seen.shown.configs) for seen in evidence.values()), default=0)):
        values = {
            h: s.shown.configs[number].sha or "unreadable"
            for h, s in evidence.items()
            if number < len(s.shown.configs)
        }
        yield from _odd_ones(values, f"configuration file {number + 1}")


def drop_ins(evidence: Mapping[str, Evidence]) -> Iterator[tuple[str, Finding]]:
    """Drop-ins that a distribution ships for every service are the same on all hosts."""
    values = {
        h: " ".join(sorted(f"{f.path}={f.sha}" for f in s.shown.unit_files if _for_all(f.path)))
        or "none"
        for h, s in evidence.items()
    }
    yield from _odd_ones(values, "drop-ins for every service")


def _for_all(path: str) -> bool:
    """Whether a drop-in is one for every service."""
    return "/service.d/" in path


def preloads(evidence: Mapping[str, Evidence]) -> Iterator[tuple[str, Finding]]:
    """Every program loads the same libraries on all hosts."""
    values = {
        h: s.shown.preload.sha or ("missing" if s.shown.preload.missing else "unreadable")
        for h, s in evidence.items()
        if s.shown.preload is not None
    }
    yield from _odd_ones(values, "/etc/ld.so.preload")


def armed_flags(evidence: Mapping[str, Evidence]) -> Iterator[tuple[str, Finding]]:
    """A process that restarted while flags were armed has none."""
    yield from _odd_ones({h: _armed(s) for h, s in evidence.items() if s.status}, "armed flags")


def _armed(evidence: Evidence) -> str:
    names = (evidence.status or {}).get("armed")
    if isinstance(names, (list, tuple)):
        return ", ".join(sorted(map(str, names))) or "none"
    return "none" if names is None else str(names)


def interpreters(evidence: Mapping[str, Evidence]) -> Iterator[tuple[str, Finding]]:
    """The same programs run the release on all hosts."""
    values = {
        h: " ".join(sorted({file.sha or "unreadable" for file in s.shown.interpreters}))
        for h, s in evidence.items()
        if s.shown.interpreters
    }
    yield from _odd_ones(values, "interpreter")


def libraries(evidence: Mapping[str, Evidence]) -> Iterator[tuple[str, Finding]]:
    """The library folders of those programs hold the same on all hosts."""
    for host, seen in evidence.items():
        for file in seen.shown.libraries:
            if file.sha is None:
                yield host, unseen(f"libraries of {file.path}", "readable", "they can't be read")
    values = {
        h: " ".join(sorted(file.sha for file in s.shown.libraries if file.sha is not None))
        or "none"
        for h, s in evidence.items()
        if s.shown.interpreters and all(file.sha for file in s.shown.libraries)
    }
    yield from _odd_ones(values, "libraries of the interpreter")


def environments(evidence: Mapping[str, Evidence]) -> Iterator[tuple[str, Finding]]:
    """Variables that decide which code is loaded are the same on all hosts."""
    values = {
        h: " ".join(v.replace(s.root, "{root}") for v in s.shown.running.environment if "=" in v)
        or "none"
        for h, s in evidence.items()
        if s.shown.running is not None
    }
    yield from _odd_ones(values, "environment")


def mapped(evidence: Mapping[str, Evidence]) -> Iterator[tuple[str, Finding]]:
    """The main processes have the same libraries loaded.

    Processes load some late, and not all at the same time. So a library of one name must be the
    same file wherever it is loaded; one that others have not loaded must at least come from a
    folder that they load from.
    """
    loaded = {h: _mapped(s) for h, s in evidence.items() if s.shown.running is not None}
    names = sorted({name for files in loaded.values() for name in files})
    for name in names:
        values = {h: files[name] for h, files in loaded.items() if name in files}
        yield from _odd_ones(values, f"mapped file {name}")
    for host, files in loaded.items():
        others = [found for name, found in loaded.items() if name != host]
        known = {folder for found in others for folder in _folders(found)}
        for name, text in files.items() if others else ():
            if any(name in found for found in others):
                continue
            if _folders({name: text}) <= known:
                yield host, Finding(Level.NOTE, "mapped files", "", f"only here: {text}")
            else:
                yield host, wrong("mapped files", "from folders that the others load from", text)


def _mapped(evidence: Evidence) -> dict[str, str]:
    """By name of each file that is mapped executable: where it is, with its digest."""
    found: dict[str, list[str]] = {}
    running = evidence.shown.running
    for file in running.mapped if running is not None else ():
        path = file.path.replace(f"{evidence.root}/", "{root}/", 1)
        found.setdefault(path.rpartition("/")[2], []).append(f"{path} {short(file.sha)}")
    return {name: ", ".join(sorted(texts)) for name, texts in found.items()}


def _folders(files: Mapping[str, str]) -> set[str]:
    texts = (text for listed in files.values() for text in listed.split(", "))
    return {text.rpartition(" ")[0].rpartition("/")[0] for text in texts}


def halts(evidence: Mapping[str, Evidence]) -> Iterator[tuple[str, Finding]]:
    """Each host that a stop was for shows it, a later one, or that it ended there lawfully."""
    done: set[tuple[str, str]] = set()
    for other, seen in evidence.items():
        latch = seen.marks.latch
        if latch is None:
            continue
        for host in (latch.hosts or "").split():
            if host == other or host not in evidence or (host, latch.latch) in done:
                continue
            done.add((host, latch.latch))
            named = evidence[host]
            ended = (
                one.latch == latch.latch or one.stopped > latch.since
                for one in named.marks.released
            )
            if named.halt is None and not any(ended):
                text = f"stop {latch.latch} by {latch.by}, which {other} shows, or its lawful end"
                yield host, wrong("stop", text, "neither")


def most_common_release(evidence: Iterable[Evidence]) -> str | None:
    """The release that most hosts have as ``current``; the smallest digest of several such.

    What a link names that is no digest is no release, however many hosts have it.
    """
    named = (seen.release for seen in evidence)
    counts = Counter(name for name in named if name is not None and _DIGEST.fullmatch(name))
    if not counts:
        return None
    most = max(counts.values())
    return min(release for release, count in counts.items() if count == most)
