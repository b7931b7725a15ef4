"""Every way to run a release beside the service, on real processes; and every innocent look-alike.

A role is what the proof and a stop go by: ``acts`` keeps a host from being a MATCH and is killed in
a stop; ``account`` is named; a ``reader`` is named and never touched.
"""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from deploytool.agent.linux import survey
from deploytool.agent.settings import NeighbourSetting
from tests.agent.whole_host.hosts import (
    ACCOUNT,
    PYTHON,
    SCRIPT,
    SHELL,
    Place,
    executes,
    wait_for,
)
from tests.unable import unable


def acts(place: Place, pid: int, way: str, artifact: str | None) -> None:
    assert place.role(pid) == ("acts", (way,), artifact)


def copied(artifact: Path, to: Path) -> Path:
    shutil.copyfile(artifact, to)
    to.chmod(0o755)
    return to


def test_where_it_lies(place: Place) -> None:
    artifact = place.compiled()
    pid = place.start(artifact, "600")
    acts(place, pid, "executes", artifact.parent.name)


def test_copied_elsewhere_under_another_name(place: Place, tmp_path: Path) -> None:
    artifact = place.compiled()
    copy = copied(artifact, tmp_path / "innocent")
    acts(place, place.start(copy, "600"), "executes", artifact.parent.name)


def test_deleted(place: Place, tmp_path: Path) -> None:
    artifact = place.compiled()
    copy = copied(artifact, tmp_path / "x")
    pid = place.start(copy, "600")
    wait_for(lambda: executes(pid) == str(copy))
    copy.unlink()
    acts(place, pid, "executes", artifact.parent.name)


def test_its_folder_was_pruned(place: Place) -> None:
    """The host has seen it once: that is remembered."""
    artifact = place.compiled()
    copy = copied(artifact, place.root.parent / "kept")
    pid = place.start(artifact, "600")
    wait_for(lambda: executes(pid) == str(artifact))
    place.look()
    shutil.rmtree(artifact.parent)
    acts(place, pid, "executes", artifact.parent.name)
    acts(place, place.start(copy, "600"), "executes", artifact.parent.name)


def test_renamed_while_it_runs(place: Place, tmp_path: Path) -> None:
    artifact = place.compiled()
    copy = copied(artifact, tmp_path / "before")
    pid = place.start(copy, "600")
    wait_for(lambda: executes(pid) == str(copy))
    copy.rename(tmp_path / "after")
    acts(place, pid, "executes", artifact.parent.name)


def test_relative_path(place: Place) -> None:
    artifact = place.compiled()
    pid = place.start("./router", "600", cwd=artifact.parent)
    acts(place, pid, "executes", artifact.parent.name)


def test_hard_link(place: Place) -> None:
    artifact = place.compiled()
    link = place.root.parent / "link"
    link.hardlink_to(artifact)
    acts(place, place.start(link, "600"), "executes", artifact.parent.name)


def test_as_another_account(place: Place) -> None:
    artifact = place.compiled()
    pid = place.start(artifact, "600", user="nobody")
    acts(place, pid, "executes", artifact.parent.name)


def test_as_the_service_account_outside_its_unit(place: Place) -> None:
    artifact = place.compiled()
    pid = place.start(artifact, "600", user=ACCOUNT)
    acts(place, pid, "executes", artifact.parent.name)


def test_in_a_mount_namespace_of_its_own(place: Place) -> None:
    artifact = place.compiled()
    inside = f"mount -t tmpfs none /mnt && cp '{artifact}' /mnt/x && exec /mnt/x 600"
    pid = place.start("unshare", "--mount", "sh", "-c", inside)
    wait_for(lambda: executes(pid).endswith("/x"))
    acts(place, pid, "executes", artifact.parent.name)


def test_without_a_file(place: Place) -> None:
    """memfd_create(2): it never had a name."""
    artifact = place.compiled()
    code = (
        "import os, sys; d = os.memfd_create('x'); os.write(d, open(sys.argv[1], 'rb').read());"
        "os.execve(d, ['x', '600'], {})"
    )
    pid = place.start(PYTHON, "-c", code, artifact)
    wait_for(lambda: "memfd:x" in executes(pid))
    acts(place, pid, "executes", artifact.parent.name)


def test_by_the_loader(place: Place) -> None:
    artifact = place.compiled()
    loader = next(Path("/lib64").glob("ld-linux*"), None)
    if loader is None:
        unable("the loader has another name on this architecture")
    pid = place.start(loader, artifact, "600")
    wait_for(lambda: str(artifact) in Path(f"/proc/{pid}/maps").read_text())
    role, ways, release = place.role(pid)
    assert (role, release) == ("acts", artifact.parent.name)
    assert set(ways) == {"maps", "interprets"}


def test_mapped_executable(place: Place) -> None:
    artifact = place.compiled()
    code = (
        "import mmap, sys, time; f = open(sys.argv[1], 'rb');"
        "m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ | mmap.PROT_EXEC,"
        " flags=mmap.MAP_PRIVATE); f.close(); print('up', flush=True); time.sleep(600)"
    )
    pid = place.start(PYTHON, "-c", code, artifact, says_up=True)
    acts(place, pid, "maps", artifact.parent.name)


@pytest.mark.parametrize("more", [[], ["--hold"]])
@pytest.mark.parametrize("content", [SCRIPT, SHELL])
def test_interpreted(place: Place, content: bytes, more: list[str]) -> None:
    artifact = place.release(content)
    pid = place.start(artifact, *more, says_up=True)
    acts(place, pid, "interprets", artifact.parent.name)


@pytest.mark.parametrize("more", [[], ["--hold"]])
def test_interpreted_copy(place: Place, tmp_path: Path, more: list[str]) -> None:
    artifact = place.release(SCRIPT)
    copy = copied(artifact, tmp_path / "x.py")
    pid = place.start(PYTHON, "-I", "-S", copy, *more, says_up=True)
    acts(place, pid, "interprets", artifact.parent.name)


def test_interpreted_by_a_relative_path(place: Place, tmp_path: Path) -> None:
    artifact = place.release(SCRIPT)
    copied(artifact, tmp_path / "x.py")
    pid = place.start(PYTHON, "x.py", cwd=tmp_path, says_up=True)
    acts(place, pid, "interprets", artifact.parent.name)


def test_interpreted_and_deleted(place: Place, tmp_path: Path) -> None:
    """Seen by what it holds open, as the contract has it."""
    artifact = place.release(SCRIPT)
    copy = copied(artifact, tmp_path / "x.py")
    pid = place.start(PYTHON, copy, "--hold", says_up=True)
    copy.unlink()
    acts(place, pid, "interprets", artifact.parent.name)


def test_interpreted_in_a_mount_namespace_of_its_own(place: Place) -> None:
    artifact = place.release(SCRIPT)
    inside = f"mount -t tmpfs none /mnt && cp '{artifact}' /mnt/x && exec {PYTHON} /mnt/x"
    pid = place.start("unshare", "--mount", "sh", "-c", inside, says_up=True)
    acts(place, pid, "interprets", artifact.parent.name)


def test_what_was_loaded_counts_and_not_where_the_link_leads_by_now(place: Place) -> None:
    old, new = place.release(SCRIPT), place.release(SCRIPT + b"# new\n")
    place.activate(old)
    pid = place.start(PYTHON, place.root / "current" / "router", "--hold", says_up=True)
    place.activate(new)
    acts(place, pid, "interprets", old.parent.name)


def test_options_without_end_hide_no_script(place: Place, tmp_path: Path) -> None:
    """The service is known to be interpreted by that very program."""
    artifact = place.release(SCRIPT)
    main = place.start(artifact, "--hold", says_up=True)
    group = place.group()
    (group / "cgroup.procs").write_text(str(main))
    place.unit.told = place.unit.told.but(main=main, group=f"/{group.name}")
    copy = copied(artifact, tmp_path / "x.py")
    for options in (["-W", "ignore"] * 20, ["-W", "ignore" + "," * 2000] * 3, ["-B"] * 70):
        pid = place.start(PYTHON, *options, copy, says_up=True, stderr=subprocess.DEVNULL)
        assert place.role(pid)[0] == ("acts" if len(options) == 40 else "unseen")


def test_a_name_with_a_line_break_hides_nothing(place: Place, tmp_path: Path) -> None:
    artifact = place.release(SCRIPT)
    copy = copied(artifact, tmp_path / "x\n -> y.py")
    pid = place.start(PYTHON, copy, says_up=True)
    acts(place, pid, "interprets", artifact.parent.name)


def test_a_pager_reads(place: Place) -> None:
    artifact = place.compiled()
    pid = place.start("tail", "-f", artifact)
    wait_for(lambda: str(artifact) in links(pid))
    assert place.role(pid) == ("reader", ("holds",), artifact.parent.name)


@pytest.mark.parametrize("content", [None, SCRIPT])
def test_a_backup_in_an_interpreter_reads(
    place: Place, tmp_path: Path, content: bytes | None
) -> None:
    """It has a script of its own, and that is not a release."""
    artifact = place.release(content) if content else place.compiled()
    backup = tmp_path / "backup.py"
    backup.write_text(
        "import sys, time\nf = open(sys.argv[1], 'rb')\nprint('up', flush=True)\ntime.sleep(600)\n"
    )
    pid = place.start(PYTHON, backup, artifact, says_up=True)
    assert place.role(pid) == ("reader", ("holds",), artifact.parent.name)


def test_what_an_inline_program_does_with_it_is_not_known(place: Place) -> None:
    artifact = place.release(SCRIPT)
    code = "import sys, time; f = open(sys.argv[1]); print('up', flush=True); time.sleep(600)"
    pid = place.start(PYTHON, "-c", code, artifact, says_up=True)
    assert place.role(pid)[0] == "unseen"


def test_who_only_runs_as_the_account_is_named(place: Place) -> None:
    place.compiled()
    pid = place.start("tail", "-f", "/dev/null", user=ACCOUNT)
    wait_for(lambda: executes(pid).endswith("/tail"))
    assert place.role(pid) == ("account", ("account",), None)


def test_others_are_nothing_to_it(place: Place) -> None:
    place.compiled()
    pid = place.start("tail", "-f", "/dev/null", user="nobody")
    wait_for(lambda: executes(pid).endswith("/tail"))
    assert place.role(pid)[0] == ""


LISTEN = (
    "import socket, sys, time; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen();"
    "print('up', flush=True); open(sys.argv[1], 'w').write(str(s.getsockname()[1]));"
    "time.sleep(600)"
)
CONNECT = (
    "import socket, sys, time; s = socket.create_connection(('127.0.0.1', int(sys.argv[1])));"
    "print('up', flush=True); time.sleep(600)"
)


def listener(place: Place, tmp_path: Path) -> tuple[int, int]:
    """A process that listens, and its port."""
    told = tmp_path / "port"
    pid = place.start(PYTHON, "-c", LISTEN, told, says_up=True)
    wait_for(lambda: told.exists() and bool(told.read_text()))
    return pid, int(told.read_text())


def test_who_holds_its_port(place: Place, tmp_path: Path) -> None:
    pid, port = listener(place, tmp_path)
    assert place.role(pid, ports=(port,)) == ("acts", ("port",), None)
    seen = place.look(ports=(port,))
    assert [(owner.port, owner.pid) for owner in seen.owners] == [(port, pid)]
    assert pid not in seen.to_kill  # it receives, and sends nothing


def test_who_is_connected_to_the_venue(place: Place, tmp_path: Path) -> None:
    venue, port = listener(place, tmp_path)
    pid = place.start(PYTHON, "-c", CONNECT, str(port), says_up=True)
    connects = (f"127.0.0.1:{port}",)
    assert place.role(pid, connects=connects) == ("acts", ("venue",), None)
    assert place.role(venue, connects=connects)[0] == ""
    expected = NeighbourSetting(executable=executes(pid), account="root", reason="monitoring")
    settings = {"connects": connects, "neighbours": (expected,)}
    assert place.role(pid, **settings)[0] == "neighbour"
    stranger = expected.but(account="nobody")
    assert place.role(pid, connects=connects, neighbours=(stranger,))[0] == "acts"


def test_a_venue_in_another_network_namespace(place: Place, tmp_path: Path) -> None:
    """From there the same address may lead to the same venue."""
    inside = (
        "ip link set lo up 2>/dev/null || true;"
        f' {PYTHON} -c "$1" "$2" & while [ ! -s "$2" ]; do sleep 0.05; done;'
        f' exec {PYTHON} -c "$3" "$(cat "$2")"'
    )
    told = tmp_path / "port"
    up = (
        "import fcntl, socket, struct; s = socket.socket(); "
        "fcntl.ioctl(s, 0x8914, struct.pack('16sH14x', b'lo', 1));"
    )
    argv = ("unshare", "--net", "sh", "-c", inside, "sh", up + LISTEN, told, CONNECT)
    pid = place.start(*argv)
    wait_for(lambda: told.exists() and bool(told.read_text()))
    connects = (f"127.0.0.1:{told.read_text()}",)
    wait_for(lambda: place.role(pid, connects=connects) == ("acts", ("venue",), None))


def test_a_neighbour_that_runs_a_release_is_not_excused(place: Place) -> None:
    artifact = place.compiled()
    pid = place.start(artifact, "600", user="nobody")
    expected = NeighbourSetting(
        executable=str(artifact), account="nobody", reason="it is said to be fine"
    )
    assert place.role(pid, neighbours=(expected,))[0] == "acts"


def test_arguments_without_end_are_read_to_a_bound(place: Place) -> None:
    """They kept a host from being stopped for half a minute once."""
    artifact = place.compiled()
    many = ["x" * 100_000] * 17
    code = "import time; print('up', flush=True); time.sleep(600)"
    argv = (PYTHON, "-c", code, *many)
    pids = [place.start(*argv, user=ACCOUNT, says_up=True) for _ in range(11)]
    pids.append(place.start(artifact, "600", *["0" * 100_000] * 17))
    seen = place.look()
    roles = {other.pid: other.role for other in seen.others}
    assert [roles.get(pid) for pid in pids] == ["account"] * 11 + ["acts"]
    for pid in pids:
        assert sum(map(len, seen.view(pid).arguments)) <= 4096
        assert len(seen.view(pid).process.command) <= 200


def test_a_look_that_takes_too_long_hides_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An account can make each of its processes take long to inspect."""
    pid = place.start(place.compiled(), "600", user=ACCOUNT)
    monkeypatch.setattr(survey, "LOOK_S", 0.0)
    assert place.role(pid)[0] == "unseen"


def test_the_service_is_its_control_group(place: Place) -> None:
    artifact = place.release(SCRIPT)
    group = place.group()
    main = place.start(artifact, "--hold", says_up=True, user=ACCOUNT)
    child = place.start("tail", "-f", "/dev/null", user=ACCOUNT)
    for pid in (main, child):
        (group / "cgroup.procs").write_text(str(pid))
    place.unit.told = place.unit.told.but(main=main, group=f"/{group.name}")
    seen = place.look()
    assert set(seen.service) == {main, child}
    assert not {main, child} & {other.pid for other in seen.others}
    assert [(run.pid, run.how, run.sha) for run in seen.runs] == [
        (main, "fd", artifact.parent.name)
    ]
    # A copy beside it is told by its digest, and by the interpreter that the service runs by.
    copy = copied(Path(PYTHON).resolve(), place.root.parent / "innocent")
    beside = place.start(copy, copied(artifact, place.root.parent / "x"), says_up=True)
    acts(place, beside, "interprets", artifact.parent.name)


def test_one_of_a_process_s_accounts_is_enough(place: Place) -> None:
    """A program that gave the account's rights away only for now can take them back."""
    code = (
        "import os, pwd, time; u = pwd.getpwnam('games').pw_uid;"
        "os.setresuid(65534, 65534, u); print('up', flush=True); time.sleep(600)"
    )
    pid = place.start(PYTHON, "-c", code, says_up=True)
    assert place.role(pid)[0] == "account"


def links(pid: int) -> set[str]:
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(str(descriptor.readlink()))
    return found
