"""Accounts and sshd."""

from overlord.runner import Command


class Accounts:
    """Commands for users of the machine."""

    def set_password_hash(self, user: str, password_hash: str) -> Command:
        """Give a user a hashed password, over stdin: arguments show in the process list."""
        return Command(("chpasswd", "--encrypted"), stdin=f"{user}:{password_hash}\n".encode())

    def add_group(self, name: str, gid: int) -> Command:
        """Name a group id; fine if it is there."""
        return Command(("groupadd", "--force", "--gid", str(gid), name))

    def test_sshd(self) -> Command:
        """Check sshd's configuration before it is used."""
        return Command(("sshd", "-t"))
