"""``deploytool flags``: what each bit means, and who obeys it."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploytool.cli.options import DEFAULT_STORE, JsonOption, StoreOption
from deploytool.cli.output import finish, say

if TYPE_CHECKING:
    from deploytool.flags.lint import Linted
    from deploytool.parity.look import Seen

app = typer.Typer(no_args_is_help=True, help="What each bit means, and who obeys it.")


@app.callback()
def _group() -> None:
    """Keeps ``lint`` a word of its own while it is the only command."""


@app.command()
def lint(
    registry: Annotated[
        Path, typer.Option("--registry", help="The flag registry, as it is to become.")
    ] = Path("router_binary/flags.yaml"),
    repo: Annotated[
        Path | None,
        typer.Option("--repo", help="The git repository; else the one that the registry is in."),
    ] = None,
    branch: Annotated[
        str | None,
        typer.Option("--branch", help="The release branch; else the one that is checked out."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    inventory: Annotated[
        Path | None,
        typer.Option("--inventory", "-i", help="Hold it against every build live on this fleet."),
    ] = None,
    excuse: Annotated[
        list[str] | None,
        typer.Option(
            "--excuse",
            metavar="ID",
            help="A commit or artifact that nobody can read and no bit depends on; repeat.",
        ),
    ] = None,
    *,
    json: JsonOption = False,
) -> None:
    """Hold the flag registry against all history, all releases, and what is live."""
    del json
    from deploytool.flags.lint import Asked, conclude
    from deploytool.flags.lint import lint as hold

    _check_store(store)
    again = _again(registry, repo, branch, store, inventory, excuse or [])
    asked = Asked(registry, repo or registry.resolve().parent, branch, store, tuple(excuse or ()))
    linted = hold(asked, None if inventory is None else _seen(inventory))
    error = conclude(linted, again)
    if error is None:
        say(f"{registry}: every rule holds, against {linted.against}.")
    finish(_said(linted), error)


def _check_store(store: Path) -> None:
    """A store that was named and isn't there holds nothing against anybody.

    Raises:
        InputError: there is no such folder.
    """
    from deploytool.errors import InputError

    if store != DEFAULT_STORE and not store.is_dir():
        raise InputError(
            f"There is no store {store}.",
            "Nothing was touched, and nothing is proven about any flag.",
            "Name the store's folder with --store DIR, or leave it out.",
        )


def _seen(path: Path) -> Seen:
    from deploytool.fleet.inventory import load_inventory
    from deploytool.fleet.remote import connect_fleet
    from deploytool.parity.look import probe_call, take_round

    inventory = load_inventory(path)
    hosts = connect_fleet(inventory)
    try:
        return take_round(hosts, probe_call(disk=False), inventory.ssh.command_timeout_s)
    finally:
        for host in hosts.values():
            host.close()


def _again(
    registry: Path,
    repo: Path | None,
    branch: str | None,
    store: Path,
    inventory: Path | None,
    excuses: list[str],
) -> str:
    """The command that was given, to be pasted."""
    words = ["deploytool flags lint", "--registry", quote(str(registry))]
    for option, value in (("--repo", repo), ("--branch", branch), ("-i", inventory)):
        words += [] if value is None else [option, quote(str(value))]
    words += [] if store == DEFAULT_STORE else ["--store", quote(str(store))]
    words += [word for excuse in excuses for word in ("--excuse", quote(excuse))]
    return " ".join(words)


def _said(linted: Linted) -> dict[str, Any]:
    return {
        "registry": linted.registry,
        "refusals": [
            {"rule": r.rule.value, "place": r.place, "text": r.text, "remedy": r.remedy}
            for r in linted.refusals
        ],
        "sources": [
            {"kind": s.kind, "place": s.place, "entries": len(s.entries), "trouble": s.trouble}
            for s in linted.sources
        ],
    }
