"""What people have in their SSH set-ups, and whether a host is then reached.

Each habit is a function that sets it up; its docstring is its row in docs/ssh.md. One that is
marked ``refused`` must not reach the host, by no command.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from paramiko import HostKeys

from deploytool.errors import EnvironmentProblem
from deploytool.rehearsal.fleets.ready import account, make_key
from tests.unable import unable

from .bench import LEFT, Bench

Habit = Callable[[Bench], None]
HABITS: dict[str, tuple[Habit, bool]] = {}
"""By the row's words: how it is set up, and whether the host is reached."""


def habit(*, reached: bool = True) -> Callable[[Habit], Habit]:
    def note(function: Habit) -> Habit:
        words = (function.__doc__ or "").strip()
        assert words
        assert words not in HABITS
        HABITS[words] = (function, reached)
        return function

    return note


# Trust -------------------------------------------------------------------------------------------


@habit()
def plain(bench: Bench) -> None:
    """The key is pinned by address and port"""
    bench.pin()


@habit()
def hashed(bench: Bench) -> None:
    """The pinned name is hashed (`HashKnownHosts`)"""
    bench.pin(name=HostKeys.hash_host(bench.server.where))


@habit()
def pattern(bench: Bench) -> None:
    """The pinned name is a pattern (`*`, `?`)"""
    bench.pin(name=f"[127.0.?.*]:{bench.server.port}")


@habit(reached=False)
def negated(bench: Bench) -> None:
    """The pinned names have a pattern, and `!` takes this host out"""
    bench.pin(name=f"[127.0.0.*]:{bench.server.port},!{bench.server.where}")


@habit()
def without_port(bench: Bench) -> None:
    """The key is pinned by the bare name, and the port is not 22"""
    bench.pin(name="127.0.0.1")


@habit()
def alias(bench: Bench) -> None:
    """The key is pinned under the `HostKeyAlias`"""
    bench.config = bench.block("name", bench.server, "HostKeyAlias web-1")
    bench.address = "name"
    bench.pin(name="web-1")


@habit()
def old_first(bench: Bench) -> None:
    """An old key is pinned before the true one"""
    other = bench.servers.get("other")
    bench.pins.append(f"{bench.server.where} {other.key()}")
    bench.pin()


@habit()
def another_type(bench: Bench) -> None:
    """Of several host keys only the one that OpenSSH likes least is pinned"""
    bench.server = bench.servers.get("many", kinds=("ed25519", "ecdsa", "rsa"))
    bench.pin(kind="rsa")


@habit()
def own_algorithms(bench: Bench) -> None:
    """`HostKeyAlgorithms` leaves out the pinned type"""
    bench.server = bench.servers.get("many", kinds=("ed25519", "ecdsa", "rsa"))
    bench.config = "Host *\n HostKeyAlgorithms ecdsa-sha2-nistp256\n"
    bench.pin()


@habit(reached=False)
def unknown(bench: Bench) -> None:
    """No key is pinned"""
    bench.pin(bench.servers.get("other"))


@habit(reached=False)
def changed(bench: Bench) -> None:
    """Another key is pinned"""
    bench.pins.append(f"{bench.server.where} {bench.servers.get('other').key()}")


@habit(reached=False)
def lax(bench: Bench) -> None:
    """No key is pinned, and the configuration has `StrictHostKeyChecking no`"""
    bench.config = "Host *\n StrictHostKeyChecking no\n UserKnownHostsFile /dev/null\n"
    bench.pin(bench.servers.get("other"))


def elsewhere(bench: Bench) -> str:
    """A file that has the key, and that is not the inventory's."""
    path = bench.folder / "elsewhere"
    path.write_text(f"{bench.server.where} {bench.server.key()}\n")
    bench.pin(bench.servers.get("other"))
    return str(path)


@habit(reached=False)
def own_file(bench: Bench) -> None:
    """Only the person's own `UserKnownHostsFile` has the key"""
    bench.config = f"Host *\n UserKnownHostsFile {elsewhere(bench)}\n"


@habit(reached=False)
def global_file(bench: Bench) -> None:
    """Only a `GlobalKnownHostsFile` has the key"""
    bench.config = f"Host *\n GlobalKnownHostsFile {elsewhere(bench)}\n"


@habit(reached=False)
def by_command(bench: Bench) -> None:
    """Only a `KnownHostsCommand` prints the key"""
    bench.config = f"Host *\n KnownHostsCommand /bin/cat {elsewhere(bench)}\n"


@habit(reached=False)
def localhost(bench: Bench) -> None:
    """No key is pinned, and `NoHostAuthenticationForLocalhost yes`"""
    bench.config = "Host *\n NoHostAuthenticationForLocalhost yes\n"
    bench.pin(bench.servers.get("other"))


@habit(reached=False)
def revoked(bench: Bench) -> None:
    """The key is pinned, and `RevokedHostKeys` lists it"""
    (bench.folder / "revoked").write_text(f"{bench.server.key()}\n")
    bench.config = f"Host *\n RevokedHostKeys {bench.folder}/revoked\n"
    bench.pin()


@habit(reached=False)
def host_ca(bench: Bench) -> None:
    """A `@cert-authority` line stands for the host's key"""
    ca = " ".join(bench.servers.ca.with_suffix(".pub").read_text().split()[:2])
    bench.pins.append(f"@cert-authority * {ca}")


# Jumps -------------------------------------------------------------------------------------------


def behind(bench: Bench, *of_jump: str, jump: str = "jump") -> None:
    """The host is behind a jump host."""
    bench.config = bench.block("jump", bench.servers.get("jump"), *of_jump)
    bench.config += bench.block("inside", bench.server, f"ProxyJump {jump}")
    bench.address = "inside"
    bench.pin()


@habit()
def jump(bench: Bench) -> None:
    """`ProxyJump`, the jump host's key is pinned in the inventory's file"""
    behind(bench)
    bench.pin(bench.servers.get("jump"))


@habit()
def two_jumps(bench: Bench) -> None:
    """`ProxyJump` through two jump hosts"""
    behind(bench, jump="jump,second")
    second = bench.servers.get("other")
    assert bench.config is not None
    bench.config += bench.block("second", second)
    bench.pin(bench.servers.get("jump"))
    bench.pin(second)


@habit(reached=False)
def jump_elsewhere(bench: Bench) -> None:
    """`ProxyJump`, only the person's own file has the jump host's key"""
    server = bench.servers.get("jump")
    (bench.folder / "elsewhere").write_text(f"{server.where} {server.key()}\n")
    behind(bench, f"UserKnownHostsFile {bench.folder}/elsewhere")


@habit(reached=False)
def jump_changed(bench: Bench) -> None:
    """`ProxyJump`, the jump host's key changed, and `StrictHostKeyChecking no`"""
    behind(bench, "StrictHostKeyChecking no", "UserKnownHostsFile /dev/null")
    bench.pins.append(f"{bench.servers.get('jump').where} {bench.servers.get('other').key()}")


@habit()
def proxy_command(bench: Bench) -> None:
    """`ProxyCommand` with tokens (`%h`, `%p`, `%%`)"""
    (bench.folder / "relay.py").write_text(RELAY)
    command = f"{sys.executable} {bench.folder}/relay.py %h %p 100%%"
    bench.config = bench.block("inside", bench.server, f"ProxyCommand {command}")
    bench.address = "inside"
    bench.pin()


RELAY = """\
import os, selectors, socket, sys
assert sys.argv[3] == "100%"
line = socket.create_connection((sys.argv[1], int(sys.argv[2])))
both = selectors.DefaultSelector()
both.register(0, 1), both.register(line, 1)
while True:
    for key, _ in both.select():
        part = os.read(key.fd, 65536)
        if not part:
            sys.exit()
        line.sendall(part) if key.fd == 0 else os.write(1, part)
"""


# Keys --------------------------------------------------------------------------------------------


@habit()
def configured_key(bench: Bench) -> None:
    """The configuration names the key, with tokens (`IdentityFile /keys/%r`)"""
    shutil.copy(bench.folder / "id", bench.folder / f"key-{account()}")
    bench.identity = None
    bench.config = f"Host *\n IdentityFile {bench.folder}/key-%r\n IdentitiesOnly yes\n"
    bench.pin()


@habit()
def agent_only(bench: Bench) -> None:
    """Only the agent has the key; the inventory names its public half"""
    bench.agent(bench.folder / "id")
    (bench.folder / "id").unlink()
    bench.pin()


@habit()
def locked(bench: Bench) -> None:
    """The key file needs a passphrase, and the agent has the key"""
    bench.agent(bench.folder / "id")
    bench.lock(bench.folder / "id")
    bench.pin()


@habit(reached=False)
def locked_alone(bench: Bench) -> None:
    """The key file needs a passphrase, and no agent has the key"""
    bench.lock(bench.folder / "id")
    bench.pin()


def others(bench: Bench, count: int) -> list[Path]:
    found = [bench.folder / f"other{number}" for number in range(count)]
    for path in found:
        make_key(path)
    return found


@habit()
def crowded_agent(bench: Bench) -> None:
    """The agent has more keys than the host lets anyone try, and the inventory names one"""
    bench.agent(*others(bench, 7), bench.folder / "id")
    bench.pin()


@habit(reached=False)
def crowded_by_files(bench: Bench) -> None:
    """The agent has more keys than the host lets anyone try, and only a file has the right one"""
    bench.agent(*others(bench, 7))
    bench.identity = None
    bench.config = f"Host *\n IdentityFile {bench.folder}/id\n"
    bench.pin()


@habit()
def agent_before_files(bench: Bench) -> None:
    """The agent has the key, and more files are named than the host lets anyone try"""
    bench.agent(bench.folder / "id")
    bench.identity = None
    bench.config = "Host *\n" + "".join(f" IdentityFile {path}\n" for path in others(bench, 7))
    bench.pin()


@habit()
def expired(bench: Bench) -> None:
    """An expired certificate lies beside the key"""
    bench.certify(bench.folder / "id", valid="20200101:20200102")
    bench.pin()


def by_ca(bench: Bench) -> None:
    """The host lets in whom its CA vouches for, and no plain key."""
    settings = (f"TrustedUserCAKeys {bench.servers.ca}.pub",)
    bench.server = bench.servers.get("by-ca", *settings, lets_in=False)
    bench.pin()


@habit()
def certificate(bench: Bench) -> None:
    """A certificate lies beside the key, and the host takes nothing else"""
    by_ca(bench)
    bench.certify(bench.folder / "id")


@habit()
def named_certificate(bench: Bench) -> None:
    """`CertificateFile` names the certificate, and the host takes nothing else"""
    by_ca(bench)
    bench.certify(bench.folder / "id").rename(bench.folder / "badge")
    bench.config = f"Host *\n CertificateFile {bench.folder}/badge\n"


@habit()
def certificate_of_agent(bench: Bench) -> None:
    """The agent has the certificate and its key, and the host takes nothing else"""
    by_ca(bench)
    found = bench.certify(bench.folder / "id")
    bench.agent(bench.folder / "id")
    found.unlink()
    (bench.folder / "id").unlink()
    bench.identity = None
    bench.config = "Host *\n IdentityFile none\n"


@habit()
def certificate_for_agent(bench: Bench) -> None:
    """A certificate lies beside a public half, and only the agent has the key"""
    by_ca(bench)
    bench.agent(bench.folder / "id")
    bench.certify(bench.folder / "id")
    (bench.folder / "id").unlink()


@habit()
def damaged_certificate(bench: Bench) -> None:
    """A damaged certificate lies beside the key"""
    (bench.folder / "id-cert.pub").write_text("not a certificate\n")
    bench.pin()


@habit()
def no_keys(bench: Bench) -> None:
    """`PubkeyAuthentication no` or other `PreferredAuthentications`"""
    bench.config = "Host *\n PubkeyAuthentication no\n PreferredAuthentications password\n"
    bench.pin()


@habit(reached=False)
def two_homes(bench: Bench) -> None:
    """`$HOME` is not the account's home, and has the only key (as in a container job)"""
    (bench.folder / "home" / ".ssh").mkdir(parents=True)
    shutil.copy(bench.folder / "id", bench.folder / "home" / ".ssh" / "deploytool-habit")
    bench.environment("HOME", str(bench.folder / "home"))
    bench.identity = "~/.ssh/deploytool-habit"
    bench.pin()


@habit()
def odd_folder(bench: Bench) -> None:
    """The folder is called `release%2F7.2 ${X}`"""
    bench.folder = bench.folder / "release%2F7.2 ${X}"
    bench.folder.mkdir()
    shutil.copy(bench.servers.user_key, bench.folder / "id")
    bench.pin()


# The line ----------------------------------------------------------------------------------------


@habit()
def ipv6(bench: Bench) -> None:
    """The address is IPv6"""
    try:
        bench.server = bench.servers.get("six", address="::1")
    except (EnvironmentProblem, OSError):
        unable("needs IPv6 on loopback")
    bench.pin()


@habit()
def one_family(bench: Bench) -> None:
    """`AddressFamily inet` and `BindAddress`"""
    bench.config = "Host *\n AddressFamily inet\n BindAddress 127.0.0.1\n"
    bench.pin()


@habit()
def banner(bench: Bench) -> None:
    """The host shows a long banner before the login"""
    server = bench.servers.get("banner", "Banner {folder}/banner")
    (server.folder / "banner").write_text("Authorized use only.\n" * 500)
    bench.server = server
    bench.pin()


@habit()
def own_command(bench: Bench) -> None:
    """`RemoteCommand`, `RequestTTY force`, `SessionType none`, `StdinNull`, `LocalCommand`"""
    bench.config = (
        "Host *\n RemoteCommand false\n RequestTTY force\n SessionType none\n StdinNull yes\n"
        f" PermitLocalCommand yes\n LocalCommand touch {bench.folder}/{LEFT}\n"
        " ForkAfterAuthentication yes\n"
    )
    bench.pin()


@habit()
def master(bench: Bench) -> None:
    """`ControlMaster auto`, and a `ControlPath` that can't be made"""
    bench.config = "Host *\n ControlMaster auto\n ControlPath /nowhere/%C\n ControlPersist 60\n"
    bench.pin()


@habit()
def forwards(bench: Bench) -> None:
    """`LocalForward` of a port that is taken, `ExitOnForwardFailure` and `ForwardAgent`"""
    bench.config = (
        f"Host *\n LocalForward 127.0.0.1:{bench.server.port} localhost:1\n"
        " ExitOnForwardFailure yes\n ForwardAgent yes\n"
    )
    bench.pin()


@habit()
def included(bench: Bench) -> None:
    """`Include`, `Match exec` and `CanonicalizeHostname`"""
    (bench.folder / "more").write_text(bench.block("name", bench.server))
    bench.config = (
        f"CanonicalizeHostname yes\nCanonicalizeFallbackLocal yes\n"
        f'Include {bench.folder}/more\nMatch exec "false"\n Port 1\n'
    )
    bench.address = "name"
    bench.pin()


@habit()
def ignored(bench: Bench) -> None:
    """`IgnoreUnknown` with options of another system's `ssh`"""
    bench.config = "Host *\n IgnoreUnknown UseKeychain\n UseKeychain yes\n"
    bench.pin()


@habit()
def rekeyed(bench: Bench) -> None:
    """The host asks for new keys all the time (`RekeyLimit`)"""
    bench.server = bench.servers.get("rekeys", "RekeyLimit 1K")
    bench.pin()
