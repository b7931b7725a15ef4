"""What else may start the service, at a reboot or by the clock: units, timers, cron and rc lines.

Every file that an administrator, a tool or an account may have put there is read; units that only
a package brings are read where they are enabled. What names the release root, the artifact or the
account is shown. A file that can't be read may name anything, and is shown too.
"""

from __future__ import annotations

import errno

from deploytool.agent.model import Starter
from deploytool.agent.redirects import redirects
from deploytool.agent.words import DOCUMENT_AT_MOST, TEXT_AT_MOST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploytool.agent.host import AgentHost
    from deploytool.agent.settings import Settings

UNITS = (
    "/etc/systemd/system",
    "/etc/systemd/system.control",
    "/run/systemd/generator",
    "/run/systemd/generator.early",
    "/run/systemd/generator.late",
    "/run/systemd/system",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/usr/local/lib/systemd/system",
)
"""Where systemd.unit(5) looks, but for the folder of packages."""
LINES = (
    "/etc/cron.d",
    "/etc/cron.daily",
    "/etc/cron.hourly",
    "/etc/cron.monthly",
    "/etc/cron.weekly",
    "/etc/init.d",
    "/etc/rc.d",
    "/var/spool/at",
    "/var/spool/cron",
    "/var/spool/cron/atjobs",
    "/var/spool/cron/crontabs",
)
FILES = ("/etc/anacrontab", "/etc/crontab", "/etc/inittab", "/etc/rc.local")
LINGER = "/var/lib/systemd/linger"
"""An account of which there is a file here has a service manager from boot on (loginctl(1))."""
FILES_AT_MOST = 2048
_FOLDERS = (".d", ".wants", ".requires", ".upholds")
_PART = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
"""What continues a name: ``/router`` is not in ``/router-exporter``."""


def manager(host: AgentHost) -> tuple[str, ...] | None:
    """The variables of whatever the service manager starts next; None where it does not say."""
    try:
        return host.system.supervisor.environment()
    except OSError:
        return None


def packet_rules(host: AgentHost) -> tuple[tuple[str, ...] | None, str]:
    """Rules that may send the traffic of a declared port elsewhere; None, and why, if unknown."""
    ports = host.settings.ports
    if not ports:
        return (), ""
    try:
        printed = host.system.machine.packet_rules()
        if not printed:
            return None, "neither nft nor iptables-save is on this host"
        return redirects(printed, ports), ""
    except (OSError, ValueError) as error:
        return None, str(error)[:TEXT_AT_MOST]


def starters(host: AgentHost, own: tuple[str, ...]) -> tuple[Starter, ...]:
    """Every file that may start the service and is not one of its unit's ``own``.

    Raises:
        OSError: there are more files than are read, or a folder can't be listed.
    """
    settings, found = host.settings, []
    skipped = {*own, *_watchdog(settings)}
    for count, path in enumerate(_paths(host)):
        if count >= FILES_AT_MOST:
            raise OSError(errno.E2BIG, "there are more units and cron files than are inspected")
        name = path.rpartition("/")[2]
        if path in skipped or name == settings.unit:
            continue  # what makes the unit itself is shown as its files
        names = _names(host, path, name)
        if names:
            sha = host.system.files.digest(path)
            found.append(Starter(path=path[:TEXT_AT_MOST], names=names, sha=sha))
    account = settings.account
    if account is not None and account in host.system.files.names(LINGER):
        found.append(Starter(path=f"{LINGER}/{account}", names="account"))
    return tuple(found)


def _watchdog(settings: Settings) -> tuple[str, ...]:
    """The agent's own timer, which asks it whether a confirmation came."""
    unit = f"/run/systemd/transient/deploytool-deadman-{settings.name}"
    return f"{unit}.service", f"{unit}.timer"


def _paths(host: AgentHost) -> Iterator[str]:
    files = host.system.files
    for folder in UNITS:
        for name in files.names(folder):
            if name.endswith(_FOLDERS):
                yield from (f"{folder}/{name}/{inner}" for inner in files.names(f"{folder}/{name}"))
            else:
                yield f"{folder}/{name}"
    for folder in LINES:
        yield from (f"{folder}/{name}" for name in files.names(folder))
    yield from (path for path in FILES if files.exists(path))


def _names(host: AgentHost, path: str, name: str) -> str:
    """What of the service a file names: ``root``, ``artifact``, ``account``, ``unreadable``."""
    settings = host.settings
    if path.startswith("/var/spool/cron/") and name == settings.account:
        return "account"  # a crontab is its account's by its name
    try:
        content = host.system.files.read(path, DOCUMENT_AT_MOST)
    except OSError as error:
        # A folder, a link that leads nowhere and a mask start nothing.
        gone = error.errno in (errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EINVAL)
        return "" if gone else "unreadable"
    return named(content.decode("utf-8", "replace"), host.root.path, settings)


def named(text: str, root: str, settings: Settings) -> str:
    """What of the service a unit, a crontab or a script names; empty where nothing. Pure.

    Comments count: what they say may be said elsewhere by a later change.
    """
    # The agent is called as the service is, and is deploytool's own.
    text = text.replace(settings.agent, "")
    if any(_has(text, word) for word in {root, settings.root}):
        return "root"
    if _has(text, f"/{settings.name}"):
        return "artifact"
    account = settings.account
    if account is not None and any(
        _has(text, f"{before}{account}") for before in ("User=", "--user ", "-u ", "su ", "su - ")
    ):
        return "account"
    if account is not None and any(account in line.split()[5:6] for line in text.split("\n")):
        return "account"  # a line of crontab(5) with a user
    return ""


def _has(text: str, word: str) -> bool:
    """Whether a text has a word that is not the beginning of a longer one."""
    at = text.find(word)
    while at >= 0:
        end = at + len(word)
        if end == len(text) or text[end] not in _PART:
            return True
        at = text.find(word, at + 1)
    return False
