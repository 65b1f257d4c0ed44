"""tailscale."""

from pathlib import Path

from overlord.runner import Command


class Tailscale:
    """Commands for this node's place in the tailnet."""

    def up(self, key_file: Path, hostname: str, login_server: str | None) -> Command:
        """Join. The key is read from a file: arguments show in the process list."""
        server = (f"--login-server={login_server}",) if login_server else ()
        return Command(
            (
                "tailscale",
                "up",
                f"--auth-key=file:{key_file}",
                f"--hostname={hostname}",
                "--accept-routes=false",
                "--timeout=120s",
                *server,
            ),
            timeout=150,
        )

    def status(self) -> Command:
        """State, own addresses and peers as JSON."""
        return Command(("tailscale", "status", "--json"), timeout=10, quiet=True)
