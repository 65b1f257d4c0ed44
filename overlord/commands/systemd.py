"""systemctl."""

from overlord.runner import Command


class Systemd:
    """Commands for units."""

    def daemon_reload(self) -> Command:
        """Read changed unit files."""
        return Command(("systemctl", "daemon-reload"))

    def enable_now(self, unit: str) -> Command:
        """Start now and at each boot."""
        return Command(("systemctl", "enable", "--now", unit), timeout=600)

    def is_active(self, unit: str) -> Command:
        """Ends with 0 when a unit runs."""
        return Command(("systemctl", "is-active", "--quiet", unit), quiet=True)

    def is_enabled(self, unit: str) -> Command:
        """Ends with 0 when a unit starts at each boot."""
        return Command(("systemctl", "is-enabled", "--quiet", unit), quiet=True)

    def restart(self, unit: str) -> Command:
        """Stop and start."""
        return Command(("systemctl", "restart", unit), timeout=300)

    def reload(self, unit: str) -> Command:
        """Read configuration again if the unit runs."""
        return Command(("systemctl", "try-reload-or-restart", unit))

    def journal(self, unit: str, lines: int = 30) -> Command:
        """What a unit said last."""
        return Command(
            ("journalctl", "--no-pager", "-q", "-o", "cat", "-n", str(lines), "-u", unit)
        )
