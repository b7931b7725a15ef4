"""Takes a Vagrant fleet away, whatever of it is left and whatever is no longer known of it.

All that this goes by follows from the path of the fleet's folder: the mark that its processes
carry, the names of its machines, its network and its pool, and the files of its daemons.
"""

from __future__ import annotations

import json
from pathlib import Path

from deploytool.errors import EnvironmentProblem, InputError
from deploytool.rehearsal.fleets import hypervisor, processes
from deploytool.rehearsal.fleets.folder import FleetFolder
from deploytool.rehearsal.fleets.model import FleetRecord, Progress
from deploytool.rehearsal.fleets.vagrantcmd import SETTINGS, Vagrant, known_machines

_GRACE_S = 10.0
_END_S = 60.0
_DAEMONS = {*hypervisor.DAEMONS, "dnsmasq"}


def take_away(
    folder: FleetFolder, identity: str, prefix: str, progress: Progress
) -> tuple[str, ...]:
    """Ends what works for the fleet, removes all that libvirt has of it, and then its folder.

    Raises:
        InputError: what the folder holds is not this fleet's.
        EnvironmentProblem: something could not be removed; the folder is still there then.
    """
    # Daemons are started in the folder: where it was lost, what is on the disk brings it back.
    with folder.locked(create=bool(hypervisor.left_disks(prefix))) as there:
        record = folder.load()
        if record is not None and record.id != identity:
            raise _moved(folder)

        def works(process: processes.LocalProcess) -> bool:
            marked = f"{processes.MARK}={identity}"
            return process.name not in _DAEMONS and processes.has_environment(process, marked)

        # A killed `up` leaves its vagrant at work: nothing shall come after the look.
        processes.end_all(works, _GRACE_S, _END_S)
        provider = _provider(folder.path, record)
        if provider == "libvirt":
            removed = _sweep(folder.path, prefix, progress)
        else:
            removed = _destroy(folder.path, identity, provider)
        if not there:
            return removed
        folder.remove(known=_is_ours(folder.path, prefix))
    return (*removed, str(folder.path))


def _moved(folder: FleetFolder) -> InputError:
    return InputError(
        f"The fleet in {folder.path} was brought up under another path.",
        "Nothing was touched: its machines are known by the path that it was brought up under.",
        f"Name it, or move the folder back, by that path; then: {folder.command('down')}",
    )


def _provider(folder: Path, record: FleetRecord | None) -> str:
    """Who runs the fleet's machines; where the record is lost, by what Vagrant keeps of them."""
    if record is not None and record.engine is not None:
        return record.engine
    return next((provider for _, provider in known_machines(folder)), "libvirt")


def _destroy(folder: Path, identity: str, provider: str) -> tuple[str, ...]:
    machines = tuple(name for name, _ in known_machines(folder))
    if machines and not Vagrant(folder, identity, provider).destroy():
        raise EnvironmentProblem(
            "Vagrant could not remove all machines.",
            "What is left of the fleet may still be running.",
            f"See why: VAGRANT_DOTFILE_PATH={folder}/vagrant-machines vagrant destroy",
        )
    return machines


def _sweep(folder: Path, prefix: str, progress: Progress) -> tuple[str, ...]:
    """By name, past Vagrant: it would first look at every machine anew, for minutes."""
    if not hypervisor.answers():
        # The settings come before anything that libvirt is told to make, its disks go last.
        if not ((folder / SETTINGS).exists() or hypervisor.left_disks(prefix)):
            hypervisor.stop_daemons(folder)
            return ()
        hypervisor.start_daemons(folder, hide_kvm=True)
    removed = hypervisor.sweep(prefix, progress)
    if hypervisor.started_here(folder):
        if others := hypervisor.others(prefix):
            progress(f"libvirt is left running, for {', '.join(others)}")
        else:
            progress(f"ended {hypervisor.stop_daemons(folder)} daemons of libvirt")
    return removed


def _is_ours(folder: Path, prefix: str) -> bool:
    """Whether a folder is this fleet's without a record that says so.

    By its settings, or because nothing but the daemons' files is in it.
    """
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {item.name for item in folder.iterdir()} <= hypervisor.FILES
    except ValueError:
        return False
    return isinstance(settings, dict) and settings.get("prefix") == prefix
