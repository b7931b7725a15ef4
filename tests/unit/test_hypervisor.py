"""What a Vagrant fleet asks of libvirt, and what `fleet down` leaves: beside a libvirt of files.

The fake keeps machines, networks and pools as files, and refuses what the real one refuses. That
the real one does the same shows in `make rehearse-vagrant`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploytool.errors import EnvironmentProblem, InputError
from deploytool.rehearsal.fleets import box, hypervisor, kvm, processes, vagrantneeds
from deploytool.rehearsal.fleets.model import silent
from deploytool.rehearsal.fleets.vagrant import VagrantFleet
from deploytool.rehearsal.fleets.vagrantplan import plan

VIRSH = """\
#!/bin/sh
# A folder for each kind; a pool's file holds where its disks lie.
set -eu
cd "{state}"
while [ "${{1#--}}" != "$1" ]; do
    if [ "$1" = --connect ]; then shift; fi
    shift
done
verb=$1
shift
echo "$verb $*" >>asked
die() {{ echo "error: $*" >&2; exit 1; }}
[ -e alive ] || die "failed to connect"
known() {{ [ -e "$1/$2" ] || die "no $1 $2"; }}
case $verb in
uri) echo fake ;;
domcapabilities) [ -e kvm ] || die "KVM is not supported" ;;
list) ls machines ;;
net-list) ls networks ;;
pool-list) ls pools ;;
destroy) known machines "$1" ;;
undefine) known machines "$1"; rm "machines/$1" ;;
net-destroy) known networks "$1" ;;
net-undefine) known networks "$1"; rm "networks/$1" ;;
pool-define-as) echo "$4" >"pools/$1" ;;
pool-build) mkdir "$(cat "pools/$1")" ;;
pool-start) known pools "$1"; [ -d "$(cat "pools/$1")" ] || die "no folder" ;;
pool-refresh | pool-destroy) known pools "$1" ;;
vol-list) known pools "$1"; ls "$(cat "pools/$1")" | while read -r n; do echo " $n  /p"; done ;;
vol-delete) rm "$(cat "pools/$2")/$3" 2>/dev/null || die "cannot unlink $3" ;;
pool-delete) rmdir "$(cat "pools/$1")" 2>/dev/null || die "Directory not empty" ;;
pool-undefine) known pools "$1"; rm "pools/$1" ;;
*) die "unknown $verb" ;;
esac
"""
LIBVIRTD = """\
#!/bin/sh
[ -d "$(dirname "$3")" ] || exit 1 # --daemon --pid-file FILE
exec </dev/null >/dev/null 2>&1
(
    touch "{state}/alive"
    trap 'rm -f "{state}/alive"; exit' TERM
    while :; do sleep 0.1; done
) &
"""
VIRTLOGD = "#!/bin/sh\nexit 0\n"


@dataclass(frozen=True)
class Libvirt:
    """The fake: its state, where disks lie, and where its programs are."""

    state: Path
    images: Path
    programs: Path

    def install(self, name: str, text: str = "#!/bin/sh\nexit 0\n") -> None:
        path = self.programs / name
        path.write_text(text)
        path.chmod(0o755)

    def run(self) -> None:
        (self.state / "alive").touch()

    def make(self, fleet: VagrantFleet) -> None:
        """What a fleet with one machine has."""
        pool = fleet._prefix.removesuffix("-")
        (self.state / "machines" / f"{fleet._prefix}router1").touch()
        (self.state / "networks" / pool).touch()
        (self.state / "pools" / pool).write_text(f"{self.images / pool}\n")
        (self.images / pool).mkdir()
        (self.images / pool / "router1.img").touch()

    def has(self) -> list[str]:
        """All that is in it."""
        kinds = (self.state / kind for kind in ("machines", "networks", "pools"))
        return sorted(item.name for folder in (*kinds, self.images) for item in folder.iterdir())


@pytest.fixture
def libvirt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Libvirt]:
    made = Libvirt(*(tmp_path / name for name in ("state", "images", "programs")))
    for folder in (*(made.state / k for k in ("machines", "networks", "pools")), made.images):
        folder.mkdir(parents=True)
    made.programs.mkdir()
    for name, text in (("virsh", VIRSH), ("libvirtd", LIBVIRTD), ("virtlogd", VIRTLOGD)):
        made.install(name, text.format(state=made.state))
    monkeypatch.setenv("PATH", f"{made.programs}:{os.environ['PATH']}")
    monkeypatch.setattr(hypervisor, "_IMAGES", made.images)
    monkeypatch.setattr(hypervisor, "KVM", tmp_path / "no-kvm")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    yield made
    processes.end_all(lambda p: str(made.programs) in " ".join(p.argv), 1.0, 10.0)


@pytest.fixture
def fleet(tmp_path: Path) -> VagrantFleet:
    return VagrantFleet(tmp_path / "fleet")


def write(fleet: VagrantFleet, *, record: bool = True) -> None:
    """A folder as `up` leaves it."""
    fleet._folder.path.mkdir()
    if record:
        network = fleet._prefix.removesuffix("-")
        fleet._folder.save(plan(fleet._id, network, 1, "libvirt"))
    fleet._folder.write("machines.json", json.dumps({"prefix": fleet._prefix}))
    fleet._folder.write("vagrant-machines/machines/router1/libvirt/id", "1")
    fleet._folder.write("id_ed25519", "secret")


# --- down -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["nothing", "record", "folder"])
@pytest.mark.parametrize("running", [True, False], ids=["libvirt runs", "libvirt is down"])
def test_down_ends_clean_whatever_is_lost_and_leaves_what_is_not_the_fleets(
    lost: str, running: bool, libvirt: Libvirt, fleet: VagrantFleet
) -> None:
    libvirt.make(fleet)
    libvirt.make(VagrantFleet(fleet.folder / "another"))
    others = [name for name in libvirt.has() if not name.startswith(fleet._prefix[:-1])]
    if lost != "folder":
        write(fleet, record=lost != "record")
    if running:
        libvirt.run()
    removed = fleet.down(silent)
    assert f"machine {fleet._prefix}router1" in removed
    assert libvirt.has() == others
    assert len(others) == 4
    assert not fleet.folder.exists()


def test_down_without_vagrant_ends_clean(
    libvirt: Libvirt, fleet: VagrantFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    libvirt.make(fleet)
    libvirt.run()
    write(fleet)
    which = shutil.which
    monkeypatch.setattr(
        "shutil.which", lambda name, **words: None if name == "vagrant" else which(name, **words)
    )
    fleet.down(silent)
    assert libvirt.has() == []
    assert not fleet.folder.exists()


@pytest.mark.parametrize("lost", ["nothing", "record", "folder"])
def test_down_ends_the_libvirt_and_the_vagrant_that_a_killed_up_left_at_work(
    lost: str, libvirt: Libvirt, fleet: VagrantFleet
) -> None:
    write(fleet)
    hypervisor.start_daemons(fleet.folder, hide_kvm=False)
    libvirt.make(fleet)
    marked = {**os.environ, processes.MARK: fleet._id}
    vagrant = subprocess.Popen(["sleep", "300"], env=marked)
    try:
        if lost == "record":
            (fleet.folder / "fleet.json").unlink()
        if lost == "folder":
            shutil.rmtree(fleet.folder)
        assert hypervisor.started_here(fleet.folder)
        fleet.down(silent)
        assert vagrant.wait(10) != 0
        assert not hypervisor.started_here(fleet.folder)
        assert libvirt.has() == []
        assert not fleet.folder.exists()
    finally:
        vagrant.kill()
        vagrant.wait()


def test_libvirt_is_not_started_for_a_fleet_that_never_had_anything_in_it(
    libvirt: Libvirt, fleet: VagrantFleet
) -> None:
    """As one that was broken off while its box was built."""
    fleet._folder.path.mkdir()
    fleet._folder.save(plan(fleet._id, "deploytool", 1, "libvirt"))
    assert fleet.down(silent) == (str(fleet.folder),)
    assert set((libvirt.state / "asked").read_text().splitlines()) == {"uri "}


def test_down_never_removes_files_that_nothing_shows_to_be_the_fleets(
    libvirt: Libvirt, fleet: VagrantFleet
) -> None:
    """A person's .ssh has files of the same names."""
    libvirt.run()
    libvirt.make(fleet)
    for text in (None, "{", "[]", json.dumps({"prefix": "deploytool-00000000-"})):
        fleet.folder.mkdir(exist_ok=True)
        (fleet.folder / "id_ed25519").write_text("theirs")
        if text is not None:
            (fleet.folder / "machines.json").write_text(text)
        with pytest.raises(InputError, match="files that are no fleet's") as problem:
            fleet.down(silent)
        assert problem.value.now == f"See what they are: ls -lA {fleet.folder}"
        assert (fleet.folder / "id_ed25519").read_text() == "theirs"
    assert libvirt.has() == []  # what has the fleet's names is the fleet's all the same


def test_a_fleet_that_was_moved_is_not_taken_for_gone(
    libvirt: Libvirt, fleet: VagrantFleet, tmp_path: Path
) -> None:
    libvirt.run()
    libvirt.make(fleet)
    write(fleet)
    fleet.folder.rename(tmp_path / "moved")
    with pytest.raises(InputError, match="was brought up under another path"):
        VagrantFleet(tmp_path / "moved").down(silent)
    assert len(libvirt.has()) == 4
    (tmp_path / "moved").rename(fleet.folder)
    fleet.down(silent)
    assert libvirt.has() == []


def test_disks_that_stay_are_said_to_and_are_gone_once_they_can_be(
    libvirt: Libvirt, fleet: VagrantFleet
) -> None:
    libvirt.run()
    libvirt.make(fleet)
    write(fleet)
    pool = fleet._prefix.removesuffix("-")
    held = libvirt.images / pool / "held"  # a folder is nothing that vol-delete takes away
    held.mkdir()
    with pytest.raises(EnvironmentProblem, match="could not be removed") as problem:
        fleet.down(silent)
    assert "error: cannot unlink held" in problem.value.details
    assert libvirt.has() == [pool, pool]  # the disks, and the pool that knows of them
    assert fleet.record() is not None
    held.rmdir()
    fleet.down(silent)
    assert libvirt.has() == []


def test_disks_that_no_pool_knows_of_are_removed(libvirt: Libvirt, fleet: VagrantFleet) -> None:
    libvirt.run()
    libvirt.make(fleet)
    pool = fleet._prefix.removesuffix("-")
    (libvirt.state / "pools" / pool).unlink()
    assert f"disks {libvirt.images / pool}" in hypervisor.left(fleet._prefix)
    fleet.down(silent)
    assert libvirt.has() == []


# --- before up begins -----------------------------------------------------------------------------

BUILDS = ("mmdebstrap", "mkfs.ext4")
NEEDS = ("vagrant", "virsh", "libvirtd", "virtlogd", "dnsmasq", "qemu-system-x86_64", "qemu-img")


def only(libvirt: Libvirt, monkeypatch: pytest.MonkeyPatch, without: tuple[str, ...] = ()) -> None:
    """All that is needed is installed but for some; no box is built, no plugin is a package."""
    for name in (*NEEDS, *BUILDS, "ssh", "ssh-keygen", "ip", "VBoxManage", "newuidmap"):
        if not (libvirt.programs / name).exists():
            libvirt.install(name)
    libvirt.install("vagrant", "#!/bin/sh\necho 'vagrant-libvirt (0.11.2, system)'\n")
    which = shutil.which
    hidden = {*without, "dpkg-query"}
    monkeypatch.setattr(
        "shutil.which",
        lambda name, **_words: None if name in hidden else which(name, path=libvirt.programs),
    )
    monkeypatch.setattr(box, "is_built", lambda: False)


def refused(fleet: VagrantFleet) -> EnvironmentProblem:
    with pytest.raises(EnvironmentProblem) as problem:
        fleet.up(1, silent)
    assert fleet.record() is None
    return problem.value


@pytest.mark.parametrize("program", [*NEEDS, *BUILDS])
def test_what_is_missing_is_named_with_its_package_before_anything_is_begun(
    program: str, libvirt: Libvirt, fleet: VagrantFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(libvirt, monkeypatch, (program,))
    problem = refused(fleet)
    assert program in problem.what
    assert problem.means == "Nothing was started."
    assert problem.now.startswith("sudo apt-get install ")
    assert not fleet.folder.exists()


def test_all_that_is_missing_is_named_at_once(
    libvirt: Libvirt, fleet: VagrantFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(libvirt, monkeypatch, ("mmdebstrap", "qemu-img", "libvirtd", "virtlogd"))
    libvirt.install("vagrant", "#!/bin/sh\necho 'vagrant-vbguest (0.1, global)'\n")
    problem = refused(fleet)
    assert problem.now == (
        "sudo apt-get install qemu-utils libvirt-daemon-system mmdebstrap vagrant-libvirt"
    )
    assert "Vagrant's plugin vagrant-libvirt" in problem.what


def test_the_plugin_is_looked_for_where_the_fleets_vagrant_finds_it(
    libvirt: Libvirt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fleet's Vagrant has a home of its own: one that lies in a person's is none of its."""
    theirs = "/home/somebody/.vagrant.d"
    monkeypatch.setenv("VAGRANT_HOME", theirs)
    monkeypatch.setattr(vagrantneeds, "which", lambda name: None if "dpkg" in name else name)
    libvirt.install(
        "vagrant", f'#!/bin/sh\n[ "$VAGRANT_HOME" != {theirs} ] || echo vagrant-libvirt\n'
    )
    assert not vagrantneeds._has_plugin()
    monkeypatch.setattr(vagrantneeds, "which", lambda name: name)
    libvirt.install("dpkg-query", "#!/bin/sh\nprintf installed\n")
    assert vagrantneeds._has_plugin()
    libvirt.install("dpkg-query", "#!/bin/sh\nprintf config-files\n")
    assert not vagrantneeds._has_plugin()


@pytest.mark.parametrize("case", ["built", "downloaded", "virtualbox"])
def test_what_builds_a_box_is_asked_for_only_where_one_is_built(
    case: str, libvirt: Libvirt, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(libvirt, monkeypatch, BUILDS)
    monkeypatch.setattr(box, "is_built", lambda: case == "built")
    provider = "virtualbox" if case == "virtualbox" else "libvirt"
    vagrantneeds.require(provider, "debian/bookworm64" if case == "downloaded" else None)


def test_who_is_not_root_is_told_before_anything_is_begun_that_libvirt_does_not_answer(
    libvirt: Libvirt, fleet: VagrantFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(libvirt, monkeypatch)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "starting it needs root" in refused(fleet).what
    assert not fleet.folder.exists()
    libvirt.run()
    vagrantneeds.require("libvirt", None)


@pytest.mark.parametrize("running", [True, False], ids=["libvirt runs", "libvirt is down"])
def test_up_refuses_what_is_left_of_an_earlier_fleet_before_it_begins(
    running: bool, libvirt: Libvirt, fleet: VagrantFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(libvirt, monkeypatch)
    libvirt.make(fleet)
    if running:
        libvirt.run()
    problem = refused(fleet)
    assert (f"machine {fleet._prefix}router1" if running else "disks") in problem.what
    assert "fleet down" in problem.now
    assert (libvirt.state / "alive").exists() == running


# --- hardware virtualization ----------------------------------------------------------------------


def test_a_downloaded_box_builds_none_and_who_is_not_root_goes_by_libvirts_word(
    libvirt: Libvirt, fleet: VagrantFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a person need not have the right to /dev/kvm that libvirt's machines have."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    (libvirt.state / "vmlinuz-1").touch()
    monkeypatch.setattr(kvm, "_BOOT", libvirt.state)
    monkeypatch.setattr(kvm, "starts", pytest.fail)
    monkeypatch.setattr("deploytool.rehearsal.fleets.vagrant.ensure_box", pytest.fail)
    libvirt.run()
    record = plan(fleet._id, "deploytool", 1, "libvirt")
    drivers = []
    for works in (False, True):
        if works:
            (libvirt.state / "kvm").touch()
        settings, made = fleet._settings(record, "libvirt", "debian/bookworm64", silent)
        assert (settings["box"], made) == ("debian/bookworm64", None)
        drivers.append(settings["driver"])
    assert drivers == ["qemu", "kvm"]
    assert "domcapabilities --virttype kvm\n" in (libvirt.state / "asked").read_text()


@pytest.mark.parametrize("works", [True, False])
def test_root_tries_a_kernel_and_hides_a_device_that_starts_none(
    works: bool, libvirt: Libvirt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del libvirt
    told: list[Path | bool] = []

    def starts(kernel: Path) -> bool:
        told.append(kernel)
        return works

    def start_daemons(_folder: Path, *, hide_kvm: bool) -> None:
        told.append(hide_kvm)

    monkeypatch.setattr(kvm, "starts", starts)
    monkeypatch.setattr(hypervisor, "start_daemons", start_daemons)
    assert kvm.start_libvirt(tmp_path, tmp_path / "vmlinuz") is works
    assert told == [tmp_path / "vmlinuz", not works]


def test_without_any_kernel_libvirt_is_asked(
    libvirt: Libvirt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kvm, "_BOOT", tmp_path)
    monkeypatch.setattr(kvm, "starts", pytest.fail)
    libvirt.run()
    assert not kvm.start_libvirt(tmp_path, None)
    (libvirt.state / "kvm").touch()
    assert kvm.start_libvirt(tmp_path, None)


def test_this_machines_own_kernel_is_the_one_that_runs_or_another(tmp_path: Path) -> None:
    assert kvm.own_kernel(tmp_path) is None
    (tmp_path / "vmlinuz-0.1").touch()
    (tmp_path / "initrd.img-0.2").touch()
    assert kvm.own_kernel(tmp_path) == tmp_path / "vmlinuz-0.1"
    running = tmp_path / f"vmlinuz-{os.uname().release}"
    running.touch()
    (tmp_path / "vmlinuz-9999").touch()
    assert kvm.own_kernel(tmp_path) == running
