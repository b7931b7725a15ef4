"""Who may sign: one name, one key, one person; whatever else OpenSSH would take is a mistake."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deploytool.errors import EnvironmentProblem, InputError
from deploytool.fleet.signers import (
    NAMESPACES,
    parse_signers,
    read_signers,
    with_signer,
    without_signer,
    write_signers,
)


def key(folder: Path, name: str, kind: str = "ed25519") -> str:
    made = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(made)], check=True)
    return made.with_suffix(".pub").read_text()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("keys")
    return key(folder, "anna"), key(folder, "bert", "ecdsa")


def test_signers_come_and_go(keys: tuple[str, str]) -> None:
    one = with_signer("# ours", "anna", keys[0], "f")
    both = with_signer(one, "bert@desk", keys[1], "f")
    assert [s.name for s in parse_signers(both, "f")] == ["anna", "bert@desk"]
    assert [s.key for s in parse_signers(both, "f")] == [" ".join(k.split()[:2]) for k in keys]
    assert without_signer(both, "bert@desk", "f") == one
    with pytest.raises(InputError) as caught:
        without_signer(one, "bert", "f")
    assert caught.value.now == "Who signs now: anna"


def test_openssh_reads_it_alike(keys: tuple[str, str], tmp_path: Path) -> None:
    """What is written is what ``ssh-keygen`` verifies by, for our namespaces and no other."""
    text = key(tmp_path, "carl")
    file = tmp_path / "signers"
    file.write_text(with_signer(with_signer("", "anna", keys[0], "f"), "carl", text, "f"))
    for space, good in ((NAMESPACES[0], True), (NAMESPACES[1], True), ("git", False)):
        sign = ["ssh-keygen", "-Y", "sign", "-q", "-f", str(tmp_path / "carl"), "-n", space]
        signed = subprocess.run(sign, input=b"x", capture_output=True, check=True).stdout
        (tmp_path / "x.sig").write_bytes(signed)
        verify = ["ssh-keygen", "-Y", "verify", "-f", str(file), "-n", space, "-I", "carl"]
        done = subprocess.run(
            [*verify, "-s", str(tmp_path / "x.sig")], input=b"x", capture_output=True
        )
        assert (done.returncode == 0) is good, space


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("* {0}", "no pattern"),
        ("anna,bert {0}", "no pattern"),
        ("!anna {0}", "no pattern"),
        ("-anna {0}", "no pattern"),
        ("anna cert-authority {0}", "is not NAME"),
        ('anna namespaces="git",cert-authority {0}', "is not NAME"),
        ("anna", "is not NAME"),
        ("{0}", "is not NAME"),
        ("anna ssh-ed25519 AAAA", "is not the ssh-ed25519 key"),
        ("anna ssh-rsa {1}", "is not the ssh-rsa key"),
        ("anna {0}\nanna {2}", "stands in line 1 too"),
        ("anna {0}\nbert {0}", "two names for one person"),
        ("anna\x00 {0}", "can't be seen"),
        ("anna {0}\rbert {2}", "can't be seen"),
    ],
)
def test_what_is_not_one_person_is_a_mistake(line: str, word: str, keys: tuple[str, str]) -> None:
    words = [" ".join(keys[0].split()[:2]), keys[0].split()[1], " ".join(keys[1].split()[:2])]
    with pytest.raises(InputError) as caught:
        parse_signers(line.format(*words), "signers")
    assert any(word in text for text in caught.value.details), caught.value.details
    assert all(text.startswith("signers:") for text in caught.value.details)


def test_every_mistake_is_named_at_once(keys: tuple[str, str]) -> None:
    with pytest.raises(InputError) as caught:
        parse_signers(f"x\n* {keys[0].strip()}\n\n# fine\ny", "f")
    assert [text.split(":")[1] for text in caught.value.details] == ["1", "2", "5"]


def test_a_file_that_is_none(tmp_path: Path) -> None:
    for path, content in ((tmp_path / "a", b"\xff"), (tmp_path / "b", b"#" * 70_000)):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"signers file"):
            read_signers(path)
    with pytest.raises(InputError, match="can't be read"):
        read_signers(tmp_path / "c")


def test_it_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "signers"
    write_signers(path, "# one\n")
    write_signers(path, "# two\n")
    assert path.read_text() == "# two\n"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [p.name for p in tmp_path.iterdir()] == ["signers"]
    with pytest.raises(EnvironmentProblem, match="can't be written"):
        write_signers(tmp_path / "none" / "signers", "")
