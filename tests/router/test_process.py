"""What runs: identity, evidence, one owner, a clean end."""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT, Router, free_port

Configure = Callable[..., dict[str, Any]]
CLOSED = 1  # nothing listens there


@pytest.fixture
def running(router: Router, config: Configure) -> Router:
    router.configure(config(CLOSED))
    router.start()
    return router


def test_version_is_one_line_and_fast(binaries: dict[str, Path]) -> None:
    for version, binary in binaries.items():
        done = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10)
        assert (done.stdout, done.returncode) == (f"router {version}\n", 0)
    took = []
    for _ in range(5):  # processor time: the machine may be busy with other things
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-I", binary, "--version"], check=True, timeout=10)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(took) < 0.1, took


def test_status_is_the_evidence_that_the_contract_asks_for(running: Router) -> None:
    done = running.run("status", "--json")
    assert done.returncode == 0
    status = json.loads(done.stdout)
    data = running.binary.read_bytes()
    assert running.process is not None
    fields = Path(f"/proc/{running.process.pid}/stat").read_text().rpartition(")")[2].split()
    assert status["release"] == hashlib.sha256(data).hexdigest()
    assert status["version"] == "2026.1"
    assert status["pid"] == running.process.pid
    assert status["start_ticks"] == int(fields[19])
    assert status["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert (status["armed"], status["epoch"], status["reason"]) == ([], 0, "")
    assert status["trading_state"] == "ACTIVE"
    info = json.loads((running.binary.parent / "buildinfo.json").read_text())
    assert status["flag_table"] == info["flags"]["table"]
    assert status["wire"] == info["flags"]["wire"]
    assert status["revision"] == info["source"]


def test_the_kernel_sees_what_runs(running: Router) -> None:
    assert running.process is not None
    links = Path(f"/proc/{running.process.pid}/fd").iterdir()
    inodes = {(link.stat().st_dev, link.stat().st_ino) for link in links if link.exists()}
    seen = running.binary.stat()
    assert (seen.st_dev, seen.st_ino) in inodes


def test_nobody_answers_is_not_an_answer(router: Router) -> None:
    router.state.mkdir(parents=True)
    done = router.run("status", "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no router answers" in done.stderr


def test_the_state_folder_is_made_and_private(running: Router) -> None:
    assert stat.S_IMODE(running.state.stat().st_mode) == 0o750
    assert stat.S_IMODE((running.state / "control.sock").stat().st_mode) == 0o600


def test_a_second_process_fails_loudly(
    running: Router, binaries: dict[str, Path], tmp_path: Path
) -> None:
    same_state = Router(binaries["2026.1"], tmp_path)
    same_state.start(wait=False)
    assert same_state.process is not None
    assert same_state.process.wait(10) == 2
    assert "belongs to a running router" in same_state.stderr()
    same_port = Router(binaries["2026.1"], tmp_path)
    same_port.state, same_port.port = tmp_path / "other", running.port
    same_port.start(wait=False)
    assert same_port.process is not None
    assert same_port.process.wait(10) == 2
    assert "can't listen" in same_port.stderr()
    assert running.status()["trading_state"] == "ACTIVE"


def test_nothing_of_a_new_build_enters_an_old_process(
    binaries: dict[str, Path], tmp_path: Path, config: Configure
) -> None:
    """Start through `current/`, switch the link, then use every command of the old process."""
    for name, version in (("old", "2026.1"), ("new", "2012.8")):
        (tmp_path / name).mkdir()
        shutil.copy2(binaries[version], tmp_path / name / "router")
    (tmp_path / "current").symlink_to("old")
    router = Router(tmp_path / "current" / "router", tmp_path)
    router.configure(config(CLOSED))
    router.start()
    try:
        assert router.process is not None
        before = router.status()
        (tmp_path / "next").symlink_to("new")
        (tmp_path / "next").replace(tmp_path / "current")
        (tmp_path / "old" / "router").unlink()  # nothing can be loaded from there any more
        old = hashlib.sha256(binaries["2026.1"].read_bytes()).hexdigest()
        for request in ("metrics", "orders", "halt", "reduce"):
            assert router.ask(command=request)["ok"]
        assert router.ask(command="flag", action="show")["ok"]
        after = router.status()
        assert after["release"] == before["release"] == old
        assert after["flags"] == before["flags"]
        held = [str(p.readlink()) for p in Path(f"/proc/{router.process.pid}/fd").iterdir()]
        assert f"{tmp_path}/old/router (deleted)" in held
        maps = Path(f"/proc/{router.process.pid}/maps").read_text()
        assert str(tmp_path / "new") not in maps + "".join(held)
        assert router.stop() == 0
    finally:
        router.kill()


def test_every_module_is_there_before_it_listens(binaries: dict[str, Path]) -> None:
    """What serves imports nothing later: all modules of the file are loaded first."""
    code = (
        "import runpy, sys, json\n"
        "sys.argv = [sys.argv[1], 'serve', '--state', '/nonexistent', '--config', '/nonexistent',"
        " '--listen', '127.0.0.1:0', '--host', 'nobody']\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "print(json.dumps({n: m.__spec__.origin for n, m in sys.modules.items()"
        " if n.startswith('router')}))\n"
    )
    done = subprocess.run(
        ["python3", "-I", "-c", code, binaries["2026.1"]],
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    loaded = json.loads(done.stdout.splitlines()[-1])
    digest = hashlib.sha256(binaries["2026.1"].read_bytes()).hexdigest()
    assert all(origin.startswith(f"<router {digest[:12]}>/") for origin in loaded.values())
    info = json.loads((binaries["2026.1"].parent / "buildinfo.json").read_text())
    assert {name.removesuffix(".__init__") for name in info["modules"]} - {"__main__"} <= set(
        loaded
    )


def test_a_link_switched_during_the_start_is_noticed(binaries: dict[str, Path]) -> None:
    """Python reads the first page of code itself; the file read after it may be another build."""
    code = (ROOT / "router_binary" / "boot" / "__main__.py").read_text()
    switched = f"sys.path.insert(0, {str(binaries['2026.1'])!r})\n\n\nif __name__"
    code = code.replace("if __name__", switched)
    done = subprocess.run(
        ["python3", "-I", "-c", code, "--version"], capture_output=True, text=True, timeout=20
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "switched while this process started" in done.stderr


def test_a_damaged_file_starts_nothing(binaries: dict[str, Path], tmp_path: Path) -> None:
    content = binaries["2026.1"].read_bytes()
    for inside in (b"SoupBinTCP 3.00", b'"version_line"'):
        damaged = tmp_path / "router"
        damaged.write_bytes(content.replace(inside, inside.swapcase()))
        damaged.chmod(0o755)
        done = subprocess.run([damaged, "--version"], capture_output=True, text=True, timeout=20)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "router: this file is damaged, or no router\n"


@pytest.mark.parametrize("version", ["2011.4", "2012.8"])
def test_history_does_not_start_by_accident(
    binaries: dict[str, Path], tmp_path: Path, config: Configure, version: str
) -> None:
    router = Router(binaries[version], tmp_path)
    router.configure(config(CLOSED))
    router.start(wait=False)
    assert router.process is not None
    assert router.process.wait(10) == 3
    assert "rehearsal" in router.stderr()
    router.extra = ["--rehearsal"]
    router.start()
    assert router.status()["rehearsal_only"]
    assert router.stop() == 0


def test_eight_start_at_once(binaries: dict[str, Path], tmp_path: Path, config: Configure) -> None:
    routers = [Router(binaries["2026.1"], tmp_path, f"router{n}") for n in range(1, 9)]
    try:
        for router in routers:
            router.configure(config(CLOSED))
            router.start(wait=False)
        releases = {router.until(bool)["release"] for router in routers}
        assert len(releases) == 1
        assert [router.stop() for router in routers] == [0] * 8
    finally:
        for router in routers:
            router.kill()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": 2}, "schema: expected 1"),
        ({"surprise": 1}, "unknown key 'surprise'"),
        ({"venues": []}, "venues"),
        ({"firm": "TOOLONG"}, "firm"),
        ({"hosts": {}}, "'router1' (given with --host) is not there"),
        ({"drain_s": 0}, "drain_s"),
        ({"drain_s": True}, "drain_s"),
        ({"limits": {"order_qty": -1}}, "limits.order_qty"),
        ({"limits": {"typo": 1}}, "unknown key 'typo'"),
        ({"clients": {"GATE01": "secret"}}, "clients.GATE01"),
        ({"venues": [{"name": "X", "address": "nowhere"}]}, "address"),
    ],
)
def test_a_bad_configuration_stops_the_start(
    router: Router, config: Configure, change: dict[str, Any], says: str
) -> None:
    router.configure({**config(CLOSED), **change})
    router.start(wait=False)
    assert router.process is not None
    assert router.process.wait(10) == 2
    assert says in router.stderr()


def test_all_problems_at_once(router: Router, config: Configure) -> None:
    router.configure({**config(CLOSED), "drain_s": -1, "firm": 7, "surprise": None})
    router.start(wait=False)
    assert router.process is not None
    router.process.wait(10)
    said = router.stderr()
    assert all(word in said for word in ("drain_s", "firm", "surprise"))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema": 1, "schema": 1}', "[" * 9999])
def test_a_file_that_is_no_configuration(router: Router, text: str) -> None:
    router.config.write_text(text)
    router.start(wait=False)
    assert router.process is not None
    assert router.process.wait(10) == 2
    assert "can't start" in router.stderr()


def test_listen_address_is_checked(running: Router, binaries: dict[str, Path]) -> None:
    for address in ("nowhere", "127.0.0.1:99999", "127.0.0.1:x"):
        done = subprocess.run(
            [binaries["2026.1"], "serve", "--state", f"{running.state}-{free_port()}", "--config",
             running.config, "--host", "router1", "--listen", address],
            capture_output=True, text=True, timeout=10,
        )  # fmt: skip
        assert done.returncode == 2
        assert "can't listen" in done.stderr
