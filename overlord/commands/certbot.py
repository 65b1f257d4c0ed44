"""certbot."""

import sys
from dataclasses import dataclass
from pathlib import Path

from overlord.node import Acme
from overlord.runner import Command

CERTIFICATE = "overlord"
ISSUE_SECONDS = 600.0


@dataclass(frozen=True)
class Certbot:
    """Commands for the certificate of a public authority.

    Args:
        home: certbot's folders; not its own, whose timer would renew without our hooks.
        code: where this package is found, for the hooks.
    """

    acme: Acme
    home: Path
    code: Path

    def by_dns(self, names: tuple[str, ...], force: bool = False) -> Command:
        """Get or renew by DNS-01: for every name, on either node."""
        hook = f"env PYTHONPATH={self.code} {sys.executable} -m overlord.tls.dns_hook"
        return self._certonly(
            *("--manual", "--preferred-challenges", "dns"),
            *("--manual-auth-hook", f"{hook} auth", "--manual-cleanup-hook", f"{hook} cleanup"),
            names=names,
            force=force,
        )

    def by_http(self, name: str, webroot: Path, force: bool = False) -> Command:
        """Get or renew by HTTP-01: for the public name, on the node that it leads to."""
        return self._certonly(
            "--webroot", "--webroot-path", str(webroot), names=(name,), force=force
        )

    def _certonly(self, *how: str, names: tuple[str, ...], force: bool) -> Command:
        contact = (
            ("--email", self.acme.email)
            if self.acme.email
            else ("--register-unsafely-without-email",)
        )
        return Command(
            (
                *("certbot", "certonly", "--non-interactive", "--agree-tos", "--quiet"),
                *contact,
                *("--server", self.acme.directory),
                *("--config-dir", str(self.home), "--work-dir", str(self.home / "work")),
                *("--logs-dir", str(self.home / "log")),
                *("--cert-name", CERTIFICATE, "--key-type", "ecdsa"),
                # Does nothing until 30 days before the end, certbot's own measure.
                "--force-renewal" if force else "--keep-until-expiring",
                *("--renew-with-new-domains",),
                *how,
                *(word for name in names for word in ("--domain", name)),
            ),
            timeout=ISSUE_SECONDS,
            name="certbot",
        )
