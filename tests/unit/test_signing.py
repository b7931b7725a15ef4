"""Signing and verifying, by the machine's own ssh-keygen."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deploytool.errors import EnvironmentProblem, InputError
from deploytool.fleet.signing import BadSignature, sign, verify

SPACE = "rehearsal.deploytool"


def key(folder: Path, name: str, passphrase: str = "") -> Path:
    path = folder / name
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", name, "-f", str(path)]
    subprocess.run(command, check=True, timeout=30)
    return path


def signers(folder: Path, **keys: Path) -> Path:
    path = folder / "signers"
    lines = [
        f'{name} namespaces="{SPACE}" {file.with_suffix(".pub").read_text()}'
        for name, file in keys.items()
    ]
    path.write_text("".join(lines))
    return path


def test_what_a_signer_signed_is_his(tmp_path: Path) -> None:
    ann = key(tmp_path, "ann")
    signature = sign(b"so it was\n", ann, SPACE)
    assert verify(b"so it was\n", signature, signers(tmp_path, ann=ann), SPACE) == "ann"


BROKEN = ("content", "space", "stranger", "swapped", "cut", "none", "two")


@pytest.mark.parametrize("broken", BROKEN)
def test_nothing_else_is(broken: str, tmp_path: Path) -> None:
    ann, bob = key(tmp_path, "ann"), key(tmp_path, "bob")
    content, space, allowed = b"so it was\n", SPACE, signers(tmp_path, ann=ann)
    signature = sign(content, bob if broken == "stranger" else ann, SPACE)
    if broken == "content":
        content = b"so it is\n"
    elif broken == "space":
        signature = sign(content, ann, "git")
    elif broken == "swapped":
        allowed = signers(tmp_path, ann=bob)
    elif broken == "cut":
        signature = signature[:-40]
    elif broken == "none":
        signature = ""
    elif broken == "two":
        signature += signature
    with pytest.raises(BadSignature):
        verify(content, signature, allowed, space)


@pytest.mark.parametrize("line", ["*", "ann,bob", "a*"])
def test_a_pattern_names_nobody(line: str, tmp_path: Path) -> None:
    ann = key(tmp_path, "ann")
    allowed = tmp_path / "signers"
    allowed.write_text(f"{line} {ann.with_suffix('.pub').read_text()}")
    with pytest.raises(BadSignature):
        verify(b"x", sign(b"x", ann, SPACE), allowed, SPACE)


def test_a_signers_file_that_is_not_there_allows_nobody(tmp_path: Path) -> None:
    ann = key(tmp_path, "ann")
    with pytest.raises(BadSignature, match="no signers file"):
        verify(b"x", sign(b"x", ann, SPACE), tmp_path / "absent", SPACE)


def test_a_key_that_can_t_be_used_says_so_and_never_waits(tmp_path: Path) -> None:
    locked = key(tmp_path, "locked", "a passphrase")
    for path in (locked, tmp_path / "absent"):
        with pytest.raises(InputError) as caught:
            sign(b"x", path, SPACE)
        assert "ssh-add" in caught.value.now


def test_a_machine_without_ssh_keygen_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentProblem):
        sign(b"x", tmp_path / "key", SPACE)
