"""GATE_DEAD_CODE: nothing ships that nothing uses, by vulture's judgement of what is released.

What vulture can't see being used is excused in ``unused.yaml`` beside the registry, line by line,
each with a reason and a day on which the excuse ends. ``# noqa`` excuses nothing here.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError

from deploytool.errors import EnvironmentProblem, InputError
from deploytool.fleet.fields import Frozen
from deploytool.fleet.yaml_source import Document, from_pydantic, named
from deploytool.gate.check_flags import Found
from deploytool.gate.model import Check, GateFinding
from deploytool.gate.rules import clock_is_off
from deploytool.gate.subject import Subject
from deploytool.registry.artifact import NotReadable, members
from deploytool.registry.model import FlagEntry, Text
from deploytool.release.model import Release

LIST = "unused.yaml"
CONFIDENCE_PERCENT = 60
"""What vulture gives to what it found no use of; less than that it does not say."""
EXCUSED_AT_MOST_DAYS = 366
"""An excuse without an end is none."""
_NOQA = re.compile(r"#\s*noqa", re.IGNORECASE)


def _day(text: str) -> str:
    dt.date.fromisoformat(text)
    return text


class Excuse(Frozen):
    """One thing that vulture finds unused, why it may stay, and until when (YYYY-MM-DD)."""

    name: Annotated[str, Field(min_length=1)]
    files: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
    why: Text
    until: Annotated[str, AfterValidator(_day)]

    @property
    def ends(self) -> dt.date:
        """The last day on which it holds."""
        return dt.date.fromisoformat(self.until)


class Excuses(Frozen):
    """The list in ``unused.yaml``; ``files`` in it are members' names in the artifact."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    unused: tuple[Excuse, ...]


@dataclass(frozen=True)
class _Unused:
    """One thing that nothing uses, by its place in the artifact."""

    member: str
    name: str
    kind: str
    line: int


def dead_code(subject: Subject) -> Found:
    """What ships in a release and nothing uses, less what is excused.

    Raises:
        InputError: there is no build, or the list is wrong.
    """
    path = subject.source / LIST
    listed = _read(path)
    found: dict[_Unused, Release] = {}
    evidence = []
    for release in subject.releases:
        shipped = _python(release)
        unused = dict.fromkeys(_vulture(subject, release, shipped), release)
        found = {**unused, **found}
        evidence.append(
            f"vulture looked at {len(shipped)} files of {release.label}; "
            f"{len(listed)} excuses in {LIST}"
        )
    findings = [*_old(subject, path, listed, found)]
    excused = {(file, excuse.name) for excuse, _ in listed for file in excuse.files}
    for item, release in found.items():
        if (item.member, item.name) not in excused:
            findings.append(_dead(subject, release, item))
    return tuple(evidence), tuple(findings)


def _dead(subject: Subject, release: Release, item: _Unused) -> GateFinding:
    return GateFinding(
        Check.DEAD_CODE.value,
        subject.placed(release, item.member),
        item.line,
        f"nothing uses the {item.kind} {item.name}",
        f"take it out, or excuse {item.name} in {item.member}, with a reason, in {LIST}",
    )


def _old(
    subject: Subject,
    path: Path,
    listed: list[tuple[Excuse, int]],
    found: dict[_Unused, Release],
) -> Iterator[GateFinding]:
    """Excuses that hold no longer, that excuse nothing, or that never end."""
    rule, name = Check.DEAD_CODE.value, subject.name(path)
    if off := clock_is_off(subject.request.now, subject.checkout.committed_at):
        yield GateFinding(rule, name, 1, off, "set this machine's clock", unknown=True)
        return
    today = dt.datetime.fromtimestamp(subject.request.now, dt.UTC).date()
    used = {(item.member, item.name) for item in found}
    for excuse, line in listed:
        if excuse.ends < today:
            text = f"the excuse for {excuse.name} ended on {excuse.until}"
            yield GateFinding(
                rule, name, line, text, "take the code out, or say again why it may stay"
            )
        elif (excuse.ends - today).days > EXCUSED_AT_MOST_DAYS:
            text = f"the excuse for {excuse.name} lasts until {excuse.until}"
            remedy = f"let it end within {EXCUSED_AT_MOST_DAYS} days"
            yield GateFinding(rule, name, line, text, remedy)
        for file in excuse.files:
            if (file, excuse.name) not in used:
                text = f"{excuse.name} in {file} is excused, and is not unused"
                yield GateFinding(rule, name, line, text, f"take {file} out of the excuse")


def _read(path: Path) -> list[tuple[Excuse, int]]:
    """The excuses with their lines; none where there is no list."""
    if not path.exists():
        return []
    try:
        document = Document(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _bad(path, (f"{path}:1: {' '.join(str(error).split())}",)) from error
    mistakes = list(document.mistakes)
    try:
        read = Excuses.model_validate(document.value)
    except ValidationError as error:
        raise _bad(
            path, named([*mistakes, *from_pydantic(error, LIST)], document, str(path))
        ) from error
    if mistakes:
        raise _bad(path, named(mistakes, document, str(path)))
    return [(item, document.line(("unused", index))) for index, item in enumerate(read.unused)]


def _bad(path: Path, lines: tuple[str, ...]) -> InputError:
    return InputError(
        f"{path} can't be read.",
        "Nothing was touched, and no code is excused.",
        "Fix the lines named here: each excuse has name, files, why and until",
        lines,
    )


def _python(release: Release) -> dict[str, str]:
    try:
        inside = members(Path(release.artifact))
        code = {name: text for name, text in inside.items() if not name.endswith(".json")}
        return {name: text.decode("utf-8") for name, text in code.items()}
    except (NotReadable, UnicodeDecodeError) as error:
        raise InputError(
            f"{release.label} can't be searched for dead code: {error}.",
            "Nothing was touched, and nothing is known of what it does not use.",
            "Build it of Python sources, so that there is something to read.",
        ) from error


def _vulture(subject: Subject, release: Release, shipped: dict[str, str]) -> Iterator[_Unused]:
    try:
        from vulture import Vulture
        from vulture.utils import ExitCode
    except ImportError:
        raise EnvironmentProblem(
            "vulture is not installed, which finds code that nothing uses.",
            "Nothing was touched, and nothing is known of what the artifact does not use.",
            "pip install 'deploytool[gate]', or leave this out: --skip GATE_DEAD_CODE",
        ) from None

    folder = (subject.scratch / "source" / str(release.digest)).resolve()
    for name, text in shipped.items():
        file = folder / name
        if not file.resolve().is_relative_to(folder):
            raise InputError(
                f"{release.label} has a member {name}, which leads out of it.",
                "Nothing was touched.",
                "Build it again.",
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_NOQA.sub("#", text), encoding="utf-8")
    handlers = set(_handlers(subject.table(release)))
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        searched = Vulture()
        searched.scavenge([folder])
    if searched.exit_code != ExitCode.NoDeadCode:
        raise InputError(
            f"vulture can't read {release.label}: {' '.join(said.getvalue().split())}",
            "Nothing was touched, and nothing is known of what it does not use.",
            "Fix what it names.",
        )
    for item in searched.get_unused_code(min_confidence=CONFIDENCE_PERCENT):
        member = PurePosixPath(Path(item.filename).relative_to(folder)).as_posix()
        if (member, item.name) not in handlers:
            yield _Unused(member, str(item.name), str(item.typ), int(item.first_lineno))


def _handlers(table: tuple[FlagEntry, ...]) -> Iterator[tuple[str, str]]:
    """What the flag table names is used: the code that carries flags out finds it by that name."""
    for item in table:
        module, _, name = item.handler.partition(":")
        yield f"{module.replace('.', '/')}.py", name
