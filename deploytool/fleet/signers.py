"""Who may sign for a fleet: OpenSSH's allowed-signers file, narrowed to what names one person.

A line is ``NAME [OPTIONS] KEYTYPE KEY [COMMENT]`` (ssh-keygen(1), ALLOWED SIGNERS). Patterns and
certificate authorities are mistakes here: with them a name would not be one key of one person.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploytool.errors import EnvironmentProblem, InputError

NAMESPACES = ("parity.deploytool", "start.deploytool")
"""What a signer's key is good for: certificates of parity, and requests to start."""
BYTES_AT_MOST = 64 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
_OPTION = r'(?:namespaces|valid-after|valid-before)="[A-Za-z0-9.,:*?+@_-]*"'
_LINE = re.compile(
    rf"(?P<name>\S+)[ \t]+(?:(?P<options>{_OPTION}(?:,{_OPTION})*)[ \t]+)?"
    r"(?P<type>(?:sk-)?(?:ssh|ecdsa)-[a-z0-9@.-]+)[ \t]+(?P<key>[A-Za-z0-9+/]+={0,2})(?:[ \t].*)?"
)


@dataclass(frozen=True)
class Signer:
    """One person and one key. ``key`` is its type and its base64 text, as in a ``.pub`` file."""

    name: str
    key: str
    line: int


def parse_signers(text: str, name: str) -> tuple[Signer, ...]:
    """The signers in ``text``; ``name`` is what messages call the file.

    Raises:
        InputError: with every mistake at once, by line.
    """
    found: list[Signer] = []
    mistakes = [f"{name}:{line}: {why}" for line, why in _read(text, found)]
    if mistakes:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise InputError(
            f"The signers file {name} has {count}.",
            "Nothing was touched.",
            "Fix the lines named here: each is NAME, options or none, and one public key.",
            tuple(mistakes),
        )
    return tuple(found)


def _read(text: str, found: list[Signer]) -> Iterator[tuple[int, str]]:
    """Fills ``found``, and yields what is wrong and where."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        if not line.isprintable() and not line.replace("\t", " ").isprintable():
            yield number, "has characters that can't be seen"
            continue
        whole = _LINE.fullmatch(line.strip())
        if whole is None:
            yield number, "is not NAME [OPTIONS] KEYTYPE KEY"
            continue
        signer = Signer(whole["name"], f"{whole['type']} {whole['key']}", number)
        if _NAME.fullmatch(signer.name) is None:
            yield number, f"found {signer.name}: a name is one person's, with no pattern in it"
        if not _is_key(whole["type"], whole["key"]):
            yield number, f"the key of {signer.name} is not the {whole['type']} key that it says"
        for other in found:
            if other.name == signer.name:
                yield number, f"{signer.name} stands in line {other.line} too"
            if other.key == signer.key:
                text = f"{signer.name} has the key of {other.name}: two names for one person"
                yield number, text
        found.append(signer)


def _is_key(kind: str, coded: str) -> bool:
    """Whether the base64 text holds a key of that type (RFC 4253, 6.6: it begins with its name)."""
    try:
        plain = base64.b64decode(coded, validate=True)
    except binascii.Error:
        return False
    return plain.startswith(len(kind).to_bytes(4, "big") + kind.encode())


def read_signers(path: Path) -> str:
    """The text of the signers file at ``path``, once it was found to be one.

    Raises:
        InputError: it can't be read, or is wrong.
    """
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_AT_MOST + 1)
        if len(content) > BYTES_AT_MOST:
            raise InputError(
                f"The signers file {path} is larger than {BYTES_AT_MOST} bytes.",
                "Nothing was touched.",
                "Take out the lines of those who sign no more.",
            )
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The signers file {path} can't be read: {error}",
            "Nothing was touched. Without it no host knows whose certificate to believe.",
            f"Make it: touch {path}, then: deploytool host signers add NAME KEY.pub -i INVENTORY",
        ) from error
    parse_signers(text, str(path))
    return text


def with_signer(text: str, name: str, public_key: str, file: str) -> str:
    """The file's text with one more signer.

    Raises:
        InputError: that name or key is in it, or the name or key is none.
    """
    kind, coded = public_key.split()[:2]
    spaces = ",".join(NAMESPACES)
    ends = text if not text or text.endswith("\n") else f"{text}\n"
    added = f'{ends}{name} namespaces="{spaces}" {kind} {coded}\n'
    parse_signers(added, file)
    return added


def without_signer(text: str, name: str, file: str) -> str:
    """The file's text without that signer's line.

    Raises:
        InputError: there is no such signer.
    """
    signers = parse_signers(text, file)
    lines = [signer.line for signer in signers if signer.name == name]
    if not lines:
        known = ", ".join(signer.name for signer in signers) or "no one"
        raise InputError(
            f"{name} is not in {file}.", "Nothing was touched.", f"Who signs now: {known}"
        )
    kept = [line for number, line in enumerate(text.split("\n"), start=1) if number not in lines]
    return "\n".join(kept)


def write_signers(path: Path, text: str) -> None:
    """Puts ``text`` in the file's place, whole or not at all.

    Raises:
        EnvironmentProblem: it can't be written; the file is what it was.
    """
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, encoding="utf-8", delete=False
        ) as new:
            new.write(text)
            new.flush()
            os.fsync(new.fileno())
        made = Path(new.name)
        made.chmod(0o644)
        made.replace(path)
    except OSError as error:
        raise EnvironmentProblem(
            f"{path} can't be written: {error}",
            "Nothing was changed, here or on any host.",
            f"Make it writable, then run this again: {path}",
        ) from error
