"""The words that an inventory is made of: what a name, a path or a command may be. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from deploytool.fleet.names import ACCOUNT, HOST, NAME, ROOT, UPWARDS


def _one_line(text: str) -> str:
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise ValueError("must not contain control characters or line breaks")
    return text


def _absolute(text: str) -> str:
    if not text.startswith("/") or "//" in text or UPWARDS in text or text == "/" or " " in text:
        raise ValueError("must be an absolute path without '..', '//' or blanks, and not '/'")
    return text.rstrip("/")


def _plain(text: str) -> str:
    if re.fullmatch(ROOT, text) is None:
        raise ValueError("must hold letters, digits, and . _ - only, and at most 200 of them")
    return text


def _absolute_or_in_root(text: str) -> str:
    return text if text.startswith("{root}/") and UPWARDS not in text else _absolute(text)


Name = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]
HostName = Annotated[str, StringConstraints(pattern=f"^{HOST}$")]
Account = Annotated[str, StringConstraints(pattern=f"^{ACCOUNT}$")]
Line = Annotated[str, StringConstraints(min_length=1, max_length=1024), AfterValidator(_one_line)]
RootPath = Annotated[Line, AfterValidator(_absolute), AfterValidator(_plain)]
Program = Annotated[
    Line, AfterValidator(_absolute), StringConstraints(pattern=r"^[A-Za-z0-9/._+-]+$")
]
HostPath = Annotated[Line, AfterValidator(_absolute_or_in_root)]
Argv = Annotated[tuple[Line, ...], Field(min_length=1, max_length=64)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
Wave = Annotated[int, Field(ge=1)] | Literal["rest"]


class Frozen(BaseModel):
    """A value read from a file that a person wrote: unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)
