"""`python -m sandbox`: a cloud in a box for trying the product without an account."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import click
from rich.console import Console

from sandbox import lifecycle
from sandbox.commands import SandboxError, tail
from sandbox.install import install as install_all
from sandbox.kept import FROM_NOTHING
from sandbox.progress import Progress
from sandbox.requirements import check_machine
from sandbox.shell import open_shell
from sandbox.status import show_status
from sandbox.world import World

FAILED = 1
LOG_LINES = 40


class Sandbox(click.Group):
    """Prints what went wrong and what to do about it, and ends with exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except SandboxError as error:
            errors = Console(stderr=True, highlight=False)
            errors.print("[bold red]Error:[/bold red]", end=" ")
            errors.print(str(error), markup=False)
            if error.remedy:
                errors.print("[bold]What to do:[/bold]", end=" ")
                errors.print(error.remedy, markup=False)
            ctx.exit(FAILED)


@click.group(cls=Sandbox, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def main(ctx: click.Context) -> None:
    """A cloud in a box: servers that boot, and the vendors' APIs, on this machine alone."""
    ctx.obj = World.here()


@main.command()
@click.pass_obj
def install(world: World) -> None:
    """Fetch or build the tools and images. Takes minutes the first time."""
    console = Console(highlight=False)
    check_machine(world, 0)
    with Progress(console) as progress, lifecycle.alone(world, progress):
        done = install_all(world, progress)
    console.print("Tools and images are installed." if done else "Tools and images are in place.")


@main.command()
@click.pass_obj
def up(world: World) -> None:
    """Start the world, without servers: those come with `pulumi up`."""
    console = Console(highlight=False)
    with Progress(console) as progress, lifecycle.alone(world, progress):
        lifecycle.up(world, progress)
    console.print("The sandbox is up.")


@main.command()
@click.pass_obj
def env(world: World) -> None:
    """Print what points Pulumi at the sandbox: eval "$(python -m sandbox env)"."""
    for key, value in lifecycle.environment(world).items():
        if key == "PATH":
            # The caller's own PATH and not that of this process.
            click.echo(f'export PATH={shlex.quote(str(world.bin))}:"$PATH"')
        else:
            click.echo(f"export {key}={shlex.quote(value)}")


@main.command()
@click.option("--patience", default=0.0, help="Seconds in which it may become so.")
@click.pass_obj
def status(world: World, patience: float) -> None:
    """Show what runs. Exit code 1 if something that should does not."""
    console = Console(highlight=False)
    if not world.tokens.exists():
        raise SandboxError("the sandbox is not up", "run `make up`")
    if not show_status(world, console, patience):
        sys.exit(FAILED)


@main.command()
@click.argument("node")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def ssh(world: World, node: str, command: tuple[str, ...]) -> None:
    """Open a shell on NODE, or run COMMAND there with the deploy key.

    ssh vps-01 -- sudo overlordctl status
    """
    sys.exit(open_shell(world, node, command, Console(stderr=True, highlight=False)))


@main.command()
@click.option("-n", "--lines", default=LOG_LINES, show_default=True, help="Lines of each log.")
@click.pass_obj
def logs(world: World, lines: int) -> None:
    """Show the last lines of every log, the servers' consoles included."""
    console = Console(highlight=False)
    files = sorted(file for file in world.log.glob("*") if file.is_file())
    if not files:
        raise SandboxError("there are no logs", "run `make up`")
    for file in files:
        console.rule(str(file), align="left")
        console.print(tail(file.read_text(errors="replace"), lines), markup=False)


@main.command()
@click.option("--bucket", "named", multiple=True, help="A bucket that goes with its data.")
@click.option("--all-buckets", is_flag=True, help="All buckets go with their data.")
@click.pass_obj
def destroy(world: World, named: tuple[str, ...], all_buckets: bool) -> None:
    """Take everything away but the cache, whatever state it is in.

    Buckets that hold data stay there too, unless they are named.
    """
    console = Console(highlight=False)
    check_machine(world, 0)
    with Progress(console) as progress, lifecycle.alone(world, progress):
        kept = lifecycle.destroy(world, progress, None if all_buckets else named)
    console.print(f"The sandbox is gone. What makes the next one quick stays in {world.cache}.")
    if kept:
        console.print(
            f"So do the buckets with data: {', '.join(kept)}. `make up` brings the pair back with "
            f"them; `{FROM_NOTHING}` removes them too."
        )


main.add_command(destroy, "down")

if __name__ == "__main__":
    main()
