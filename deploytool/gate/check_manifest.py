"""GATE_MANIFEST: complete, true to the artifact, and of the very commit that is checked out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deploytool.errors import InputError
from deploytool.gate.check_flags import Found
from deploytool.gate.model import Check, GateFinding
from deploytool.gate.subject import Subject
from deploytool.registry.artifact import NotReadable, members, read_artifact
from deploytool.release.build import BUILDER, check_version
from deploytool.release.model import Release

RULE = Check.MANIFEST.value
_NAMED_AT_MOST = 20


def manifest(subject: Subject) -> Found:
    """What is to be said against the manifest of each release, and against the checkout.

    Raises:
        InputError: there is no release, or no checkout whose history is whole.
    """
    findings = [*_checkout(subject)]
    evidence = []
    for release in subject.releases:
        check_version(release)
        said = release.manifest
        path = subject.name(_recipe(subject, release))
        findings += [GateFinding(RULE, path, 1, *words) for words in objections(release)]
        findings += [GateFinding(RULE, path, 1, *words) for words in _commit(subject, release)]
        committed, foreign = _sources(subject, release)
        findings += foreign
        evidence.append(
            f"{release.label}: {said.size} bytes, {len(said.modules)} modules, of "
            f"{(said.revision or 'no revision')[:12]}; {committed} of its files are that commit's"
        )
    return tuple(evidence), tuple(findings)


def objections(release: Release) -> Iterator[tuple[str, str]]:
    """Why this manifest does not say enough, or not the truth, with what would mend it.

    That its digest, size and form are true was seen when the release was loaded.
    """
    said = release.manifest
    if said.clean is False:
        yield (
            f"{release.label} was built of uncommitted changes: no one can say what is in it",
            "commit, then build it again",
        )
    if said.modules:
        yield from _contents(release)


def _contents(release: Release) -> Iterator[tuple[str, str]]:
    """Whether the modules and the flags that it lists are those in the artifact."""
    said, build_anew = release.manifest, "build it again, with a builder that lists what it packs"
    try:
        contents = read_artifact(Path(release.artifact))
    except NotReadable as error:
        yield f"{release.label} lists its modules, but can't be looked into: {error}", build_anew
        return
    found = {module.name for module in contents.modules}
    listed = {name.removesuffix(".__init__") for name in said.modules}
    for name in sorted(found ^ listed):
        where = "in the artifact, and not in its manifest" if name in found else "in no artifact"
        yield f"the module {name} of {release.label} is {where}", build_anew
    flags = None if said.flags is None else said.flags.model_dump(mode="json")
    if any(table != flags for table in contents.tables):
        yield f"the flag table in {release.label} is not the one in its manifest", build_anew


def _commit(subject: Subject, release: Release) -> Iterator[tuple[str, str]]:
    said, head = release.manifest, subject.checkout.head
    build_anew = f"build it of a clean checkout: deploytool release build {said.version}"
    if not said.modules:
        yield f"{release.label} does not list its modules: no one can say what is in it", build_anew
    if said.revision is None or said.clean is None:
        yield f"{release.label} does not say which commit it was built from", build_anew
    elif said.revision != head:
        yield (
            f"{release.label} was built from {said.revision[:12]}, {head[:12]} is checked out",
            build_anew,
        )
    if said.rehearsal_only:
        yield f"{release.label} is for rehearsals only", "release another build"


def _checkout(subject: Subject) -> Iterator[GateFinding]:
    """Whether the source is as it was committed, and all of it lies in this repository."""
    checkout, source = subject.checkout, subject.source
    if around := checkout.around():
        yield GateFinding(
            RULE, subject.name(subject.source / BUILDER), 1,
            f"this checkout is a submodule of {around}: its commit is not that repository's",
            "run the gate in a clone of its own",
        )  # fmt: skip
    for name in checkout.submodules(source):
        yield GateFinding(
            RULE, name, 1, f"{name} is a submodule: the commit does not say what is in it",
            "keep the source of what is released in this repository",
        )  # fmt: skip
    changed = checkout.changed(source)
    for name in changed[:_NAMED_AT_MOST]:
        yield GateFinding(
            RULE, name, 1, f"{name} is not as it was committed, or git was told to look away",
            "commit it, or put it back: git status; git update-index --no-assume-unchanged FILE",
        )  # fmt: skip
    if len(changed) > _NAMED_AT_MOST:
        text = f"{len(changed) - _NAMED_AT_MOST} more files are not as they were committed"
        yield GateFinding(RULE, subject.name(source / BUILDER), 1, text, "git status names them")


def _sources(subject: Subject, release: Release) -> tuple[int, list[GateFinding]]:
    """How many Python files in the artifact are the commit's to the byte, and those that aren't."""
    try:
        inside = members(Path(release.artifact))
    except NotReadable as error:
        raise InputError(
            f"{release.label} can't be opened: {error}.",
            "Nothing was touched, and nothing is known of what is in it.",
            "Build it of Python sources, as a zipapp.",
        ) from error
    code = {name: text for name, text in inside.items() if not name.endswith(".json")}
    known = subject.checkout.contents(subject.source)
    foreign = [name for name, text in code.items() if subject.checkout.object_of(text) not in known]
    if subject.checkout.changed(subject.source):
        foreign = []  # that is what the changed files are named for
    return len(code) - len(foreign), [
        GateFinding(
            RULE, subject.placed(release, name), 1,
            f"{name} in {release.label} is no file of the commit that is checked out",
            "commit what is built, to the byte: no file is made, or filtered, on the way",
        )
        for name in foreign
    ]  # fmt: skip


def _recipe(subject: Subject, release: Release) -> Path:
    """The file that a person looks at first: the build's recipe, else the registry."""
    recipe = subject.source / "builds" / f"{release.manifest.version}.yaml"
    return recipe if recipe.is_file() else subject.request.registry
