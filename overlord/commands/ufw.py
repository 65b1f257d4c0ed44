"""ufw, the inner firewall."""

from overlord.runner import Command


class Ufw:
    """Commands for rules. A rule is its arguments, as `ufw show added` prints them."""

    def show_added(self) -> Command:
        """All rules, as commands."""
        return Command(("ufw", "show", "added"))

    def default(self, policy: str, direction: str) -> Command:
        """Policy for what no rule names."""
        return Command(("ufw", "default", policy, direction))

    def allow(self, rule: tuple[str, ...], comment: str) -> Command:
        """Add a rule; adding it twice changes nothing."""
        return Command(("ufw", "allow", *rule, "comment", comment))

    def delete(self, rule: tuple[str, ...]) -> Command:
        """Remove a rule."""
        return Command(("ufw", "delete", "allow", *rule))

    def enable(self) -> Command:
        """On now and at each boot, without the question about SSH."""
        return Command(("ufw", "--force", "enable"))
