"""GATE_FLAGS and GATE_RETIRED_CODE: what ``flags lint`` says, and what is in the artifact."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deploytool.errors import InputError
from deploytool.gate.model import Check, GateFinding
from deploytool.gate.rules import place
from deploytool.gate.subject import Subject
from deploytool.registry.artifact import NotReadable, read_artifact
from deploytool.registry.history import Source
from deploytool.registry.reachability import unreached
from deploytool.registry.rules import FlagRefusal, FlagRule, between
from deploytool.release.model import Release

_CODE = {"artifact", "today's build"}
"""The kinds of sources that are about what is in a build, not about what was said once."""
Found = tuple[tuple[str, ...], tuple[GateFinding, ...]]


def flags(subject: Subject) -> Found:
    """The registry's rules, over all history.

    Raises:
        InputError: the registry or its history can't be read.
    """
    linted = subject.linted
    findings = [
        _placed(subject, refusal)
        for refusal in linted.refusals
        if refusal.rule is not FlagRule.RETIRED_UNREACHABLE
    ]
    said = [entry for source in linted.sources for entry in source.entries]
    for release in subject.released:
        own = subject.table(release)
        against = between(own, (*said, *subject.written.entries), release.label)
        findings += [_placed(subject, refusal) for refusal in against]
    findings += _unread(subject, Check.FLAGS, tuple(s for s in linted.unread if not _is_code(s)))
    return (f"every rule was checked against {linted.against}",), tuple(findings)


def retired_code(subject: Subject) -> Found:
    """What is in the built artifact: opened and walked, by the code that Python makes of it.

    Raises:
        InputError: the registry or its history can't be read, or there is no build.
    """
    linted = subject.linted
    findings = [
        _in_code(subject, refusal)
        for refusal in linted.refusals
        if refusal.rule is FlagRule.RETIRED_UNREACHABLE
    ]
    findings += _unread(subject, Check.RETIRED_CODE, tuple(filter(_is_code, linted.unread)))
    evidence = []
    for release in subject.releases:
        said, more = _walk(subject, release)
        evidence.append(said)
        findings += more
    return tuple(evidence), tuple(dict.fromkeys(findings))


def _is_code(source: Source) -> bool:
    return source.kind in _CODE


def _unread(subject: Subject, check: Check, sources: tuple[Source, ...]) -> list[GateFinding]:
    """Sources of the past that nobody can read: what they say of any bit is not known."""
    registry = subject.name(subject.request.registry)
    return [
        GateFinding(
            check.value, registry, 1, f"{source.kind} {source.place}: {source.trouble}",
            f"fix it; where no build was ever made of it: --excuse {source.id[:12] or 'ID'}",
            unknown=True,
        )
        for source in sources
    ]  # fmt: skip


def _placed(subject: Subject, refusal: FlagRefusal) -> GateFinding:
    path, line = place(refusal.place)
    registry = subject.name(subject.request.registry)
    if not path:  # a release's, or the registry's as a whole
        says = f"{refusal.place}: " if refusal.place != str(subject.request.registry) else ""
        return GateFinding(refusal.rule.value, registry, 1, f"{says}{refusal.text}", refusal.remedy)
    return subject.finding(
        GateFinding(refusal.rule.value, path, line, refusal.text, refusal.remedy)
    )


def _in_code(subject: Subject, refusal: FlagRefusal) -> GateFinding:
    """At the line of the source that is in the artifact, whichever of today's builds it is."""
    check = Check.RETIRED_CODE.value
    release = next((r for r in subject.made.releases if refusal.place.startswith(r.label)), None)
    if release is None or not refusal.member:
        path, text = subject.name(subject.request.registry), f"{refusal.place}: {refusal.text}"
        return GateFinding(check, path, 1, text, refusal.remedy)
    path = subject.placed(release, refusal.member)
    return GateFinding(check, path, max(1, refusal.line), refusal.text, refusal.remedy)


def _walk(subject: Subject, release: Release) -> tuple[str, Iterator[GateFinding]]:
    """What was walked in a release, and the modules in it that nothing reaches."""
    table = subject.table(release)
    try:
        contents = read_artifact(Path(release.artifact))
    except NotReadable as error:
        raise InputError(
            f"{release.label} can't be looked into: {error}.",
            "Nothing was touched, and nothing is known of what it does.",
            "Build it of Python sources and JSON only.",
        ) from error
    active = [item for item in table if not item.reserved]
    said = (
        f"{release.label}: {len(contents.modules)} modules, {len(contents.words)} names and texts, "
        f"{len(active)} handlers, {len(table) - len(active)} retired flags"
    )
    return said, (
        GateFinding(
            Check.RETIRED_CODE.value, subject.placed(release, module.member), 1,
            f"nothing in {release.label} reaches the module {module.name}",
            "take it out of the build's recipe, or import it where it is used",
        )
        for module in unreached(contents, table)
    )  # fmt: skip
