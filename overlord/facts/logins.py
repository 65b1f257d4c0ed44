"""What fail2ban has seen of logins."""

import re
from dataclasses import dataclass

from overlord.runner import Command, Runner

SSH_JAIL = Command(("fail2ban-client", "status", "sshd"), timeout=10, quiet=True)

_FAILED = re.compile(r"Total failed:\s*(\d+)")
_BANNED = re.compile(r"Currently banned:\s*(\d+)")


@dataclass(frozen=True)
class Logins:
    """SSH logins since fail2ban was started."""

    failed: int
    banned: int
    """Addresses that are kept away right now."""


def read_logins(runner: Runner) -> Logins | None:
    """From fail2ban; None when it does not answer."""
    result = runner.run(SSH_JAIL)
    failed, banned = _FAILED.search(result.output), _BANNED.search(result.output)
    if result.code or not failed or not banned:
        return None
    return Logins(int(failed[1]), int(banned[1]))
