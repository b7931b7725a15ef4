"""Who prepares a host lets in what nobody forbids to run there, and nothing else."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from deploytool.fleet.prepare import Prepared, what_left

SCRIPT = resources.files("deploytool.fleet").joinpath("prepare.sh").read_text(encoding="utf-8")
LET_IN = re.search(r"^let_in\(\) \{.*?^\}\n", SCRIPT, re.MULTILINE | re.DOTALL)
PYTHON = re.search(r"^python_there\(\) \{.*?^\}\n", SCRIPT, re.MULTILINE | re.DOTALL)
TRUSTED = resources.files("deploytool.agent").joinpath("trusted.sh").read_text(encoding="utf-8")
SYSTEMD = """
DRY=''
changed() { printf 'changed %s\\n' "$1"; }
no() { printf 'no %s\\n' "$*"; exit 1; }
systemctl() { # a unit whose state lies in a file
    case $1 in
    is-enabled) cat "$ROOT/unit" ;;
    unmask) echo disabled >"$ROOT/unit" ;;
    enable) echo enabled >"$ROOT/unit" ;;
    esac
}
"""
MARKS = ("fenced", "expired", "held", "rollout", "lock", "deadman")


def let_in(root: Path, unit: str, *marks: str) -> tuple[list[str], str]:
    """What it says, and what the unit is afterwards."""
    assert LET_IN is not None
    (root / "state").mkdir()
    (root / "unit").write_text(f"{unit}\n")
    for mark in marks:
        (root / "state" / mark).touch()
    script = f"set -uf\nROOT=$1\n{SYSTEMD}\n{LET_IN.group(0)}\nlet_in router.service"
    done = subprocess.run(
        ["sh", "-c", script, "sh", str(root)], capture_output=True, text=True, timeout=10
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines(), (root / "unit").read_text().strip()


def python_there(python: str | Path) -> str:
    """What a preparation says of an interpreter; empty where it takes it."""
    assert PYTHON is not None
    script = f"set -uf\nPYTHON=$1\n{SYSTEMD}\n{TRUSTED}\n{PYTHON.group(0)}\npython_there"
    done = subprocess.run(
        ["sh", "-c", script, "sh", str(python)], capture_output=True, text=True, timeout=10
    )
    return done.stdout


def test_an_interpreter_that_others_may_change_is_refused(tmp_path: Path) -> None:
    real = Path("/usr/bin/python3").resolve()
    assert python_there("") == python_there(real) == ""
    link = tmp_path / "python3"
    link.symlink_to(real)
    assert python_there(link) == f"no {link} can be changed by others than root\n", "/tmp is theirs"
    assert "as /no/such/python3" in python_there("/no/such/python3")


def test_it_is_called_where_a_unit_is_placed() -> None:
    assert '    let_in "$NAME.service"\n' in SCRIPT
    assert len(re.findall(r"systemctl (?:unmask|enable) ", SCRIPT)) == 2


def test_a_bare_or_retired_host_is_let_in(tmp_path: Path) -> None:
    said = ["changed router.service unmasked", "changed router.service enabled"]
    assert let_in(tmp_path, "masked") == (said, "enabled")


def test_a_host_that_serves_is_left_alone_and_nothing_said(tmp_path: Path) -> None:
    assert let_in(tmp_path, "enabled", "lock", "rollout") == ([], "enabled")


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("unit", ["masked", "disabled"])
def test_p1_what_nobody_has_verified_is_not_let_in_by_whoever_prepares_the_host(
    mark: str, unit: str, tmp_path: Path
) -> None:
    assert let_in(tmp_path, unit, mark) == ([f"left {unit} {mark}"], unit)


def test_whoever_prepares_is_told_what_lets_it_in_again() -> None:
    assert what_left(None) == ""
    assert "deploytool start" in what_left("masked fenced rollout")
    rollout = what_left("masked expired rollout lock")
    assert "state/expired, state/rollout, state/lock" in rollout
    assert "deploytool resume, or rollback" in rollout
    assert str(Prepared(("a",), rollout)) == f"changed: a; {rollout}"
    assert str(Prepared(())) == "nothing had to be changed"


def part(name: str) -> str:
    """One function of the script."""
    found = re.search(rf"^{name}\(\) \{{.*?^\}}\n", SCRIPT, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found.group(0)


HOST = """
LF='
'
DRY=''
changed() { printf 'changed %s\\n' "$1"; }
no() { printf 'no %s\\n' "$*"; exit 0; }
getent() {
    if [ "$1" = shadow ]; then cat "$PLACE/shadow"; else echo "x:x:1:1::$PLACE:/bin/sh"; fi
}
setpriv() { while [ "${1#--}" != "$1" ]; do shift; done; "$@"; }
usermod() { echo "deploy:$2" >"$PLACE/shadow"; }
sshd() { cat "$PLACE/sshd"; }
visudo() { # the last word is the file; quiet or not
    for file do :; done
    [ ! -e "$PLACE/unknown" ] || ! grep -nf "$PLACE/unknown" "$file" >&2
}
"""


def on_host(place: Path, name: str, *words: str) -> list[str]:
    """What a function of the script says, on a host that is made of files."""
    host = f"set -uf\nPLACE={shlex.quote(str(place))}\n{HOST}"
    script = f"{host}{part(name)}{name} {shlex.join(words)}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=10)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


OURS = "ssh-ed25519 AAAAours me@desk"
THEIRS = "ssh-ed25519 AAAAtheirs you@desk"
ADDED = ["changed authorized key of deploy"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"{OURS}\n"),
        (f"{THEIRS}\n", f"{THEIRS}\n{OURS}\n"),
        (THEIRS, f"{THEIRS}\n{OURS}\n"),
        ("ssh-ed25519 AAAAtheirs", f"ssh-ed25519 AAAAtheirs\n{OURS}\n"),
        (f"# {OURS}\n", f"# {OURS}\n{OURS}\n"),
        (f" \t# {OURS}", f" \t# {OURS}\n{OURS}\n"),
        ("ssh-ed25519 AAAAours2 x\n", f"ssh-ed25519 AAAAours2 x\n{OURS}\n"),
    ],
)
def test_our_key_gets_in_and_every_key_that_got_in_still_does(
    tmp_path: Path, before: str, after: str
) -> None:
    keys = tmp_path / ".ssh" / "authorized_keys"
    keys.parent.mkdir()
    keys.write_text(before)
    assert on_host(tmp_path, "authorize", "deploy", OURS) == ADDED
    assert keys.read_text() == after
    assert on_host(tmp_path, "authorize", "deploy", OURS) == []
    assert on_host(tmp_path, "authorize", "deploy", "ssh-ed25519 AAAAours other comment") == []
    assert keys.read_text() == after


def test_a_key_that_options_hold_back_is_named_and_left_to_a_person(tmp_path: Path) -> None:
    keys = tmp_path / ".ssh" / "authorized_keys"
    keys.parent.mkdir()
    for line in (f'command="false" {OURS}', f'from="192.0.2.1",command="a b" {OURS}\n'):
        keys.write_text(line)
        (said,) = on_host(tmp_path, "authorize", "deploy", OURS)
        assert said.startswith("no ")
        assert "take that line out" in said
        assert keys.read_text() == line
    keys.write_text(f'{OURS}\ncommand="false" {OURS}\n')
    assert on_host(tmp_path, "authorize", "deploy", OURS) == [], "the first line counts"


def test_no_key_is_written_where_root_happens_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An account without a home of its own has none to write it to."""
    monkeypatch.chdir(tmp_path)
    (said,) = on_host(Path(), "authorize", "deploy", OURS)
    assert said == "no the account deploy can't write its authorized_keys"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("field", "pam", "word", "after"),
    [
        ("!", "no", "changed password field", "*"),
        ("!!", "yes", "changed password field", "*"),
        ("!*", "no", "changed password field", "*"),
        ("*", "no", "", "*"),
        ("$6$hash", "no", "", "$6$hash"),
        ("!$6$hash", "yes", "", "!$6$hash"),
        ("!$6$hash", "no", "no the account deploy is locked", "!$6$hash"),
    ],
)
def test_an_account_that_sshd_would_turn_away_is_unlocked_or_named(
    tmp_path: Path, field: str, pam: str, word: str, after: str
) -> None:
    (tmp_path / "shadow").write_text(f"deploy:{field}:1::::::\n")
    (tmp_path / "sshd").write_text(f"usepam {pam}\n")
    said = on_host(tmp_path, "unlock", "deploy")
    assert (bool(said), " ".join(said).startswith(word)) == (bool(word), True), said
    assert (tmp_path / "shadow").read_text().strip().split(":")[1] == after


RIGHTS = 'Defaults!/a !requiretty, env_reset\ndeploy ALL=(root) NOPASSWD: /a ""\n'


@pytest.mark.parametrize("unknown", ["", "requiretty", "NOPASSWD"])
def test_a_sudo_without_requiretty_gets_a_line_without_and_an_objection_is_shown(
    tmp_path: Path, unknown: str
) -> None:
    if unknown:
        (tmp_path / "unknown").write_text(f"{unknown}\n")
    path = tmp_path / "deploytool-x"
    show = f"; printf '%s' \"$SUDOERS\" >{path}"
    script = part("rights_line") + "show() { rights_line" + show + "; }\n"
    said = subprocess.run(
        ["sh", "-c", f"set -uf\nPLACE={tmp_path}\n{HOST}{script}show"],
        capture_output=True, text=True, timeout=10, check=True,
        env={"SUDOERS": RIGHTS, "SUDOERS_PATH": str(path), "PATH": os.environ["PATH"]},
    ).stdout  # fmt: skip
    assert not path.with_name(f"{path.name}.checked").exists()
    if unknown == "NOPASSWD":
        assert said.startswith("no sudo does not accept the line of rights: ")
        assert "2:deploy" in said, "visudo's own words"
        return
    assert said == ""
    expected = RIGHTS.replace("!requiretty, ", "") if unknown else RIGHTS
    assert path.read_text() == expected


def test_the_rights_are_checked_before_anything_is_changed() -> None:
    assert SCRIPT.index("\n    rights_line\n") < SCRIPT.index('\n    account "$DEPLOY" /bin/sh\n')


# --- one service, one fleet -----------------------------------------------------------------------

UNIT = '# Written by "deploytool host prepare" for the fleet {}. Do not edit: it is evidence.\n'
SUDO = "# Written by deploytool host prepare for the fleet {}.\n"


def claimed(place: Path, fleet: str = "ours") -> list[str]:
    """What a preparation for a fleet says of what stands on a host that is made of files."""
    (place / "agents" / "router").mkdir(parents=True, exist_ok=True)
    settings = (
        f"FLEET={fleet} ROOT=/opt/router UNIT_PATH={place}/unit SUDOERS_PATH={place}/sudo "
        f"RECORD_PATH={place}/agents/router/prepared\n"
    )
    script = f"set -uf\n{HOST}{settings}{part('owned')}{part('not_anothers')}not_anothers"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=10)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("file", "text", "word"),
    [
        ("unit", UNIT, "unit is of the fleet"),
        ("sudo", SUDO, "sudo is of the fleet"),
        ("agents/router/prepared", "fleet {}\nservice router\n", "its agent are of the fleet"),
    ],
)
def test_what_another_fleet_owns_is_refused_by_name(
    tmp_path: Path, file: str, text: str, word: str
) -> None:
    (tmp_path / "agents" / "router").mkdir(parents=True)
    for owner, refused in (("ours", False), ("theirs", True), ("ours.2", True)):
        (tmp_path / file).write_text(text.format(owner))
        said = claimed(tmp_path)
        assert bool(said) is refused, said
        assert not refused or f"{word} {owner}" in said[0].replace(",", "").replace(":", "")


def test_the_root_of_another_service_is_refused_by_name(tmp_path: Path) -> None:
    other = tmp_path / "agents" / "gateway" / "prepared"
    other.parent.mkdir(parents=True)
    other.write_text("fleet theirs\nservice gateway\nroot /opt/router/inner\n")
    assert claimed(tmp_path) == []
    other.write_text("fleet theirs\nservice gateway\nroot /opt/router\n")
    (said,) = claimed(tmp_path)
    assert "/opt/router is the folder of gateway, of the fleet theirs" in said


def test_what_is_owned_is_looked_at_before_anything_is_changed() -> None:
    assert SCRIPT.index("\nnot_anothers\n") < SCRIPT.index('\n    account "$DEPLOY" /bin/sh\n')


# --- what a preparation made ----------------------------------------------------------------------


@pytest.mark.parametrize("end", ["record", "no it-failed", "dry"])
def test_what_was_made_is_in_the_record_and_is_undone_where_the_rest_fails(
    tmp_path: Path, end: str
) -> None:
    (tmp_path / "kept").write_text("before")
    names = ("made", "undo", "no", "rights", "allow", "parents", "folder", "place", "record")
    functions = "".join(map(part, names))
    functions += "changed() { printf 'changed %s\\n' \"$1\"; }\n"
    script = (
        f"set -uf\nLF='\n'\nMADE='' NONCE=n FLEET=ours NAME=router UNIT_PATH='' OWNER='' "
        f"DRY={'yes' if end == 'dry' else chr(39) * 2} ROOT={tmp_path}/a/b "
        f"RECORD_PATH={tmp_path}/a/prepared\n{functions}"
        f'folder "$ROOT" 0755 ""\nplace "$ROOT/file" 0600 "" text\n'
        f'place {tmp_path}/kept 0644 "" before\n{"record" if end == "dry" else end}\n'
    )
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=10)
    assert done.stderr == ""
    for path in (f"{tmp_path}/a", f"{tmp_path}/a/b", f"{tmp_path}/a/b/file"):
        assert f"changed {path}\n" in done.stdout
    assert (tmp_path / "kept").read_text() == "before"
    if end != "record":
        assert [path.name for path in tmp_path.iterdir()] == ["kept"]
        return
    a, b = f"{tmp_path}/a", f"{tmp_path}/a/b"
    made = [f"made file {b}/file", f"made folder {b}", f"made folder {a}"]
    head = ["fleet ours", "service router", f"root {b}"]
    assert (tmp_path / "a/prepared").read_text().splitlines() == [*head, *made]


# --- where the root may lie -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("root", "options", "word"),
    [
        ("/opt/router", "rw,relatime", ""),
        ("/opt/router", "rw,noexec", "mounted noexec"),
        ("/opt/router", "ro,relatime", "mounted read-only"),
        ("/opt/router", "rw,errors=remount-ro", ""),
        ("/home/x/router", "rw", "ProtectHome"),
        ("/homes/router", "rw", ""),
        ("/var/tmp/router", "rw", "PrivateTmp"),
        ("/tmp", "rw", "PrivateTmp"),
    ],
)
def test_a_root_that_the_service_could_not_run_from_is_refused_with_the_reason(
    root: str, options: str, word: str
) -> None:
    script = (
        f"set -uf\nSANDBOX=yes ROOT={root} AGENT_PATH=/usr/local/libexec/x/helper\n"
        "no() { printf 'no %s\\n' \"$*\"; exit 0; }\n"
        f"findmnt() {{ echo {options}; }}\n{part('root_fits')}root_fits"
    )
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=10)
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) is bool(word), done.stdout
    assert word in done.stdout
    bare = script.replace("SANDBOX=yes", "SANDBOX=''")
    done = subprocess.run(["sh", "-c", bare], capture_output=True, text=True, timeout=10)
    assert bool(done.stdout) is ("mounted" in word), "without the sandbox no folder is hidden"
