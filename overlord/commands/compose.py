"""docker compose for the stack of one release."""

from dataclasses import dataclass
from pathlib import Path

from overlord.runner import Command

PROJECT = "overlord"
_KILL_SECONDS = 30
"""What a program in a container gets to end in order before it is killed."""
_CLIENT_SECONDS = 60.0
"""What docker's client gets beyond the program's time; it starts the container, too."""


@dataclass(frozen=True)
class Compose:
    """Commands for the compose file of a node."""

    file: Path
    """Through the `current` symlink for the stack in force, so that its text stays the same from
    release to release and only services with changed configuration are recreated."""
    env_file: Path

    def validate(self) -> Command:
        """Parse the file and fill in its variables."""
        return self._command("config", "--quiet")

    def hashes(self, home: Path) -> Command:
        """Name and digest of each service, as if the file lay in `home`: what compose compares with
        a container's label to know whether to make a new one."""
        return self._command("config", "--hash", "*", options=("--project-directory", str(home)))

    def pull(self) -> Command:
        """Fetch all images."""
        return self._command("pull", "--quiet", timeout=900)

    def up(self) -> Command:
        """Bring services to what the file says, and remove those it no longer names."""
        return self._command("up", "--detach", "--remove-orphans", "--quiet-pull", timeout=900)

    def recreate(self, services: tuple[str, ...]) -> Command:
        """New containers for services whose secrets changed: compose does not see that."""
        return self._command(
            "up", "--detach", "--no-deps", "--force-recreate", *services, timeout=600
        )

    def restart(self, service: str) -> Command:
        """Restart one service."""
        return self._command("restart", service, timeout=300)

    def start(self, service: str) -> Command:
        """Start one service as the file says."""
        return self._command("up", "--detach", "--no-deps", service, timeout=300)

    def execute(self, service: str, *args: str, timeout: float = 120.0) -> Command:
        """Run a program in a service's running container; it ends after its time there too."""
        return self._command(
            "exec", "--no-TTY", service, *_limited(args, timeout), timeout=timeout + _CLIENT_SECONDS
        )

    def run(
        self,
        service: str,
        *args: str,
        env: tuple[str, ...] = (),
        volumes: tuple[str, ...] = (),
        timeout: float = 120.0,
    ) -> Command:
        """Run a program to its end in a container of its own, set up as a service, in place of its
        own entry point; it ends after its time there too.

        Args:
            env: variables for it, whose values come from the process's own.
            volumes: more of them.
        """
        options = (
            *(f"--env={name}" for name in env),
            *(word for volume in volumes for word in ("--volume", volume)),
        )
        program, *rest = _limited(args, timeout)
        return self._command(
            *("run", "--rm", "--no-TTY", "--no-deps", "--quiet-pull", *options),
            *("--entrypoint", program, service, *rest),
            timeout=timeout + _CLIENT_SECONDS,
        )

    def stop_service(self, service: str) -> Command:
        """Stop one service in its grace period."""
        return self._command("stop", service, timeout=180)

    def signal(self, service: str, name: str) -> Command:
        """Send a signal to a service."""
        return self._command("kill", "--signal", name, service)

    def stop(self) -> Command:
        """Stop all services, each in its own grace period."""
        return self._command("stop", timeout=180)

    def logs(self, service: str, lines: int = 200, follow: bool = False) -> Command:
        """What a service said last."""
        follow_option = ("--follow",) if follow else ()
        return self._command(
            "logs", "--no-color", "--no-log-prefix", f"--tail={lines}", *follow_option, service
        )

    def _command(
        self, *args: str, timeout: float = 120.0, options: tuple[str, ...] = ()
    ) -> Command:
        prefix = ("docker", "compose", "--project-name", PROJECT, "--progress", "plain")
        where = ("--env-file", str(self.env_file), "--file", str(self.file))
        name = f"docker compose {args[0]}"
        return Command((*prefix, *where, *options, *args), timeout=timeout, name=name)


def _limited(args: tuple[str, ...], seconds: float) -> tuple[str, ...]:
    """The program under coreutils' timeout: docker's client ends alone when it is killed, and what
    it started in a container goes on. Ends with 124, or with 137 for one that had to be killed."""
    return ("timeout", "--verbose", f"--kill-after={_KILL_SECONDS}", f"{seconds:.0f}", *args)
