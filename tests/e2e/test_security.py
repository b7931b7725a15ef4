"""What the deploy account may do on a host: call the agent, and nothing else as root."""

from __future__ import annotations

import re
import shlex

import pytest

from .conftest import Trio
from .workstation import HELPER, NEW, OLD, ROOT, UNIT

pytestmark = pytest.mark.containers

NONCE = "0123456789abcdef"
PROOF = "/tmp/root-was-here"
ASK = f"printf 'deploytool/2 {NONCE} probe\\n{{}}\\n'"

FORBIDDEN = {
    "a shell": "sudo -n sh -c id",
    "a shell of sudo's": "sudo -n -s id",
    "a login of sudo's": "sudo -n -i id",
    "an editor": "sudo -n -e /etc/shadow",
    "systemctl": "sudo -n systemctl restart router",
    "the helper with an argument": f"sudo -n {HELPER} probe",
    "the helper with an empty argument": f'sudo -n {HELPER} ""',
    "the helper with an option of sh": f"sudo -n {HELPER} -c id",
    "the helper through its shell": f"sudo -n sh {HELPER}",
    "the helper as another account": f"sudo -n -u router {HELPER}",
    "the helper's group": f"sudo -n -g shadow {HELPER}",
    "a file beside the helper": f"sudo -n {HELPER}.new",
    "a path that leads to a shell": f"sudo -n {HELPER}/../../../../../../bin/sh -c id",
    "another helper of the same name": "mkdir -p /tmp/mine; ln -sfn /bin/sh /tmp/mine/helper; "
    "sudo -n /tmp/mine/helper -c id",
    "its own helper": f"printf '#!/bin/sh\\ntouch {PROOF}\\n' >/tmp/mine/own; "
    "chmod 755 /tmp/mine/own; ln -sfn /tmp/mine/own /tmp/mine/helper; sudo -n /tmp/mine/helper",
    "its environment": f"{ASK} | PATH=/tmp/mine sudo -n -E {HELPER}",
    "a variable for the loader": f"{ASK} | sudo -n LD_PRELOAD=/tmp/mine/lib.so {HELPER}",
    "a PATH": f"{ASK} | sudo -n PATH=/tmp/mine {HELPER}",
    "a chdir": f"sudo -n -D /tmp {HELPER}",
    "a chroot": f"sudo -n -R /tmp {HELPER}",
}


def as_deploy(trio: Trio, command: str) -> tuple[int, str]:
    """What the deploy account gets for a command, over OpenSSH."""
    done = trio.desk.seen(trio.victim).run(command)
    return done.rc, done.stdout + done.stderr


def test_the_deploy_account_may_run_the_helper_without_arguments_and_nothing_else(
    trio: Trio,
) -> None:
    _, allowed = as_deploy(trio, "sudo -n -l")
    lines = re.findall(r"^\s+\(.*$", allowed, re.MULTILINE)
    assert [line.strip() for line in lines] == [f'(root) NOPASSWD: {HELPER} ""'], allowed
    before = trio.look(trio.victim)
    for name, command in FORBIDDEN.items():
        code, said = as_deploy(trio, f"{command} </dev/null 2>&1")
        assert code != 0 or "uid=0" not in said, (name, said)
        assert code != 0, (name, said)
        assert f"deploytool {NONCE} end" not in said, (name, said)
    assert not trio.desk.seen_as_root(trio.victim).file(PROOF).exists
    assert trio.look(trio.victim) == before


def test_nothing_that_the_caller_puts_around_the_helper_reaches_root(trio: Trio) -> None:
    """Programs, start files and libraries of the caller's, in each variable that loads one."""
    names = "cat date df dd stat head tr base64 sha256sum readlink ls id systemctl timeout setpriv"
    plant = f"""
        rm -rf /tmp/evil; mkdir -p /tmp/evil; cd /tmp/evil
        printf '#!/bin/sh\\n/usr/bin/id -u >>/tmp/evil/ran\\n' >run; chmod 755 run
        for name in {names}; do ln -s run $name; done
        cp run rc"""
    assert as_deploy(trio, plant)[0] == 0
    variables = (
        "PATH=/tmp/evil:$PATH ENV=/tmp/evil/rc BASH_ENV=/tmp/evil/rc LD_PRELOAD=/tmp/evil/no.so "
        "LD_LIBRARY_PATH=/tmp/evil IFS=x PS4='$(/tmp/evil/run)' SHELLOPTS=xtrace CDPATH=/tmp/evil "
        "PYTHONPATH=/tmp/evil PYTHONSTARTUP=/tmp/evil/rc NAME=x ROOT=/tmp STATE=/tmp ACCOUNT=root"
    )
    code, said = as_deploy(trio, f"{ASK} | env {variables} /usr/bin/sudo -n {HELPER} 2>&1")
    assert code == 0, said
    assert f"deploytool {NONCE} end ok" in said
    assert f'"root":"{ROOT}"' in said
    assert not trio.desk.seen_as_root(trio.victim).file("/tmp/evil/ran").exists


@pytest.mark.parametrize(
    ("verb", "content"),
    [
        (
            "lock",
            '{"holder":"$(touch /tmp/root-was-here)","purpose":"deploy","plan":"y","release":null}',
        ),
        (
            "lock",
            '{"holder":"`touch${IFS}/tmp/root-was-here`","purpose":"x","plan":"y","release":null}',
        ),
        ("lock", '{"holder":"x;touch /tmp/root-was-here","purpose":"x","plan":"y","release":null}'),
        ("activate", '{"token":1,"release":"../../../tmp","show":{}}'),
        ("activate", '{"token":1,"release":null,"show":{}}'),
        ("probe", '{"PATH":"/tmp"}'),
        ("probe", '{"root":"/tmp"}'),
        ("probe", '{"requires":["../../bin/sh"]}'),
        ("probe;id", "{}"),
        ("sh", "{}"),
        ("unlock", '{"token":99999999999999999999999}'),
        ("probe", "[" * 5000),
        ("probe", ""),
        ("", ""),
    ],
)
def test_a_request_can_not_name_a_path_or_a_program_and_changes_nothing_without_a_lock(
    trio: Trio, verb: str, content: str
) -> None:
    before = trio.look(trio.victim)
    words = shlex.quote(f"deploytool/2 {NONCE} {verb}\n{content}\n")
    ask = f"printf %s {words} | sudo -n {HELPER}"
    _, said = as_deploy(trio, ask)
    assert "end ok" not in said, said
    assert not trio.desk.seen_as_root(trio.victim).file(PROOF).exists
    assert trio.look(trio.victim) == before


def test_files_on_a_host_belong_to_root_and_only_root_may_write_them(trio: Trio) -> None:
    host = trio.desk.seen_as_root(trio.victim)
    release = f"{ROOT}/releases/{trio.desk.digest(OLD)}"
    wanted = {
        ROOT: ("root", 0o755),
        f"{ROOT}/releases": ("root", 0o755),
        release: ("root", 0o755),
        f"{release}/router": ("root", 0o555),
        f"{release}/release.json": ("root", 0o444),
        f"{ROOT}/state": ("root", 0o755),
        f"{ROOT}/state/service": ("router", 0o750),
        f"{ROOT}/state/mutex": ("root", 0o600),
        HELPER: ("root", 0o755),
        HELPER.rpartition("/")[0]: ("root", 0o755),
        UNIT: ("root", 0o644),
        "/etc/sudoers.d/deploytool-router": ("root", 0o440),
        "/home/deploy/.ssh": ("deploy", 0o700),
        "/home/deploy/.ssh/authorized_keys": ("deploy", 0o600),
    }
    found = {path: (host.file(path).user, host.file(path).mode) for path in wanted}
    assert found == wanted
    tries = [f"touch {path}/x" for path, (owner, _) in wanted.items() if owner != "deploy"]
    tries += [f"echo x >>{path}" for path, (owner, _) in wanted.items() if owner != "deploy"]
    tries += [f"ln -sfn /tmp {ROOT}/current", f"cat {ROOT}/state/service/*", f"rm {ROOT}/current"]
    script = "; ".join(f"({attempt}) 2>/dev/null && echo 'could: {attempt}'" for attempt in tries)
    assert as_deploy(trio, f"{script}; true")[1] == ""
    as_service = host.run(f"setpriv --reuid=router --regid=router --clear-groups sh -c '{script}'")
    could = [line for line in as_service.stdout.splitlines() if "/state/service" not in line]
    assert could == []


def test_no_private_key_and_no_secret_is_in_what_is_printed_or_left_on_hosts(
    trio: Trio,
) -> None:
    desk, folder = trio.desk, trio.desk.containers.folder
    said = "".join(
        str(ended)
        for ended in (
            desk.prepare("-i", desk.inventory, "--host", trio.victim, "--json"),
            trio.deploy(NEW),
            desk.tool("status", "-i", trio.inventory, "--json"),
            desk.tool("plan", "-i", trio.inventory, OLD, "--json"),
        )
    )
    keys = [folder / "id_ed25519", folder / "admin_ed25519"]
    secrets = [desk.record.client.password, *(k.read_text().splitlines()[2] for k in keys)]
    for secret in secrets:
        assert secret not in said
        for path in (desk.folder / ".deploytool").rglob("*"):
            assert not path.is_file() or secret.encode() not in path.read_bytes(), path
    found = desk.seen_as_root(trio.victim).run(
        f"grep -rlF -e {secrets[1]} -e {secrets[2]} /home /opt /tmp /var/log /var/tmp /usr/local; "
        f"journalctl --no-pager | grep -cF -e {secrets[1]} -e {secrets[2]}"
    )
    assert found.stdout.strip() == "0", found.stdout


def test_a_private_key_is_not_taken_for_a_public_one(trio: Trio) -> None:
    key = trio.desk.containers.folder / "id_ed25519"
    ended = trio.desk.tool(
        *("host", "prepare", "-i", trio.inventory, "--admin", "root", "--authorize", key)
    )
    assert ended.code == 2, ended
    assert "a private key" in ended.err
    assert key.read_text().splitlines()[2] not in str(ended)
