"""Keeps records of rehearsals in files: one signed line each, as OpenSSH signs it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pydantic import ValidationError

from deploytool.errors import EnvironmentProblem
from deploytool.fleet.sealed import unseal
from deploytool.fleet.signing import BadSignature, sign, verify
from deploytool.gate.record import BYTES_AT_MOST, NAMESPACE, Kept, RehearsalRecord

DEFAULT = Path(".deploytool/records")
ENDING = ".rehearsal"
FILES_AT_MOST = 10_000
_UNSIGNED = "it is not signed: who wrote it, or changed it since, is not known"


def keep(folder: Path, record: RehearsalRecord, key: Path | None) -> Path:
    """Writes the record down, whole or not at all, signed where a key is given.

    Raises:
        InputError: the key can't be used.
        EnvironmentProblem: it can't be written.
    """
    content = record.canonical()
    signature = sign(content, key, NAMESPACE) if key is not None else ""
    part = "faults" if record.faults is not None else "scenarios"
    name = f"{record.version}-{record.release[:12]}-{record.ended}-{record.fleet}-{part}{ENDING}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("wb", dir=folder, delete=False) as new:
            new.write(content + signature.encode())
            new.flush()
            os.fsync(new.fileno())
        made = Path(new.name)
        made.chmod(0o644)
        return made.replace(folder / name)
    except OSError as error:
        raise EnvironmentProblem(
            f"The record can't be written to {folder}: {error}",
            "What was rehearsed is not written down, so the gate will not accept it.",
            "Make room, or name another folder with --record DIR, and rehearse again.",
        ) from error


def read_all(folder: Path, signers: Path) -> tuple[Kept, ...]:
    """Every record in the folder, with whose signature is on it, or why it is not believed."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.name.endswith(ENDING))
    except OSError:
        return ()
    return tuple(_read(path, signers) for path in paths[-FILES_AT_MOST:])


def _read(path: Path, signers: Path) -> Kept:
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_AT_MOST + 1)
        if len(content) > BYTES_AT_MOST:
            return Kept(path.name, None, trouble=f"it is larger than {BYTES_AT_MOST} bytes")
        line, newline, signature = content.partition(b"\n")
        record = RehearsalRecord.parse(line + newline)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "document"
        return Kept(path.name, None, trouble=f"it is no record: {where}: {first['msg']}")
    except (OSError, ValueError) as error:
        return Kept(path.name, None, trouble=f"it is no record: {error}")
    if not signature:
        return Kept(path.name, record, trouble=_UNSIGNED)
    try:
        signed, armour = unseal(content.decode("utf-8"))
        return Kept(path.name, record, verify(signed, armour, signers, NAMESPACE))
    except (BadSignature, UnicodeDecodeError, ValueError) as error:
        why = f"it was edited, or its signer may not sign: {error}"
        return Kept(path.name, record, trouble=why)
