"""docker compose for the stack of one release."""

from dataclasses import dataclass
from pathlib import Path

from overlord.runner import Command

PROJECT = "overlord"


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

    def run(self, tool: str, *args: str, env: tuple[str, ...] = ()) -> Command:
        """Run a tool of the stack to its end. Values for `env` come from the process's own."""
        options = tuple(f"--env={name}" for name in env)
        return self._command(
            "run", "--rm", "--no-TTY", "--no-deps", "--quiet-pull", *options, tool, *args,
            timeout=3600,
        )  # fmt: skip

    def start(self, service: str) -> Command:
        """Start one service as the file says."""
        return self._command("up", "--detach", "--no-deps", service, timeout=300)

    def execute(self, service: str, *args: str, timeout: float = 120.0) -> Command:
        """Run a program in a service's running container."""
        return self._command("exec", "--no-TTY", service, *args, timeout=timeout)

    def run_once(
        self, service: str, *args: str, volumes: tuple[str, ...] = (), timeout: float = 120.0
    ) -> Command:
        """Run a program in a container of its own, set up as a service, in place of its own entry
        point, and with more volumes if it needs them."""
        mount = (word for volume in volumes for word in ("--volume", volume))
        return self._command(
            *("run", "--rm", "--no-TTY", "--no-deps", "--quiet-pull", *mount),
            *("--entrypoint", args[0], service, *args[1:]),
            timeout=timeout,
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
