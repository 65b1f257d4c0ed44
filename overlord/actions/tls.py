"""Gets, chooses and installs the certificate that nginx shows."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from overlord.commands.certbot import CERTIFICATE, Certbot
from overlord.errors import OverlordError
from overlord.files import sync_folder, write, write_json
from overlord.layout import stack_of
from overlord.node import Node
from overlord.paths import Paths
from overlord.runner import CommandFailedError, Runner
from overlord.tls.certificate import Certificate, choose, read_certificate
from overlord.tls.self_signed import self_signed

KEPT = 3
"""Certificates that stay on disk beside the one in use."""


def utc_now() -> datetime:
    """The present time."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Outcome:
    """What is shown now.

    Args:
        changed: whether it is another one than before.
        error: why the certificate of the public authority could not be had; None if it could, or
            is not asked for.
    """

    certificate: Certificate
    changed: bool
    error: str | None = None


@dataclass(frozen=True)
class Tls:
    """The certificate of one node."""

    paths: Paths
    runner: Runner
    node: Node
    now: Callable[[], datetime] = utc_now

    def names(self) -> tuple[str, ...]:
        """The public name first, then the node's own."""
        return self.node.public_name, f"{self.node.name}.{self.node.domain}"

    def install(self) -> Outcome:
        """Show the best certificate there is. Starts nothing and asks nobody."""
        chosen = choose(self._candidates(), self.node.public_name, self.now())
        if chosen is None:
            self._write_self_signed()
            chosen = choose(self._candidates(), self.node.public_name, self.now())
        if chosen is None:
            raise OverlordError(
                f"no certificate for {self.node.public_name} can be made",
                "is the clock right? see `overlordctl doctor`",
            )
        return Outcome(chosen, self._point_at(chosen))

    def renew(self, force: bool = False) -> Outcome:
        """Get or renew the one of the public authority if that is asked for, then show the best.

        An authority that is away is no failure of the node: what there is stays, and the error is
        kept for `status` and the alerts.
        """
        error = self._issue(force) if self.node.acme else None
        outcome = self.install()
        write_json(self.paths.tls_state, {"error": error, "at": self.now().isoformat()})
        if outcome.changed:
            self.reload()
        return Outcome(outcome.certificate, outcome.changed, error)

    def reload(self) -> None:
        """Let nginx read the certificate again, if it runs. Connections stay."""
        command = stack_of(self.paths, self.node.name).signal("nginx", "HUP")
        result = self.runner.run(command)
        if result.code and "not running" not in result.errors:
            raise CommandFailedError(command, result, "see `overlordctl status`")

    def _issue(self, force: bool) -> str | None:
        assert self.node.acme is not None
        certbot = Certbot(self.node.acme, self.paths.acme, self.paths.current)
        by_dns = certbot.by_dns(self.names(), force)
        result = self.runner.run(by_dns)
        if result.code == 0:
            return None
        failed = CommandFailedError(by_dns, result, "")
        self.paths.acme_webroot.mkdir(parents=True, exist_ok=True)
        by_http = certbot.by_http(self.node.public_name, self.paths.acme_webroot, force)
        second = self.runner.run(by_http)
        if second.code == 0:
            return None
        return f"by DNS: {failed.what}; by HTTP: {CommandFailedError(by_http, second, '').what}"

    def _candidates(self) -> tuple[Certificate, ...]:
        live = self.paths.acme / "live" / CERTIFICATE
        found = (
            read_certificate("acme", live / "fullchain.pem", live / "privkey.pem")
            if self.node.acme
            else None,
            read_certificate(
                "origin",
                self.paths.secrets / "origin_tls_cert",
                self.paths.secrets / "origin_tls_key",
            ),
            read_certificate("self-signed", *self._own_files()),
        )
        return tuple(one for one in found if one is not None)

    def _own_files(self) -> tuple[Path, Path]:
        home = self.paths.tls / "self-signed"
        return home / "cert.pem", home / "key.pem"

    def _write_self_signed(self) -> None:
        chain, key = self_signed(self.names(), self.now())
        chain_file, key_file = self._own_files()
        write(chain_file, chain)
        write(key_file, key, 0o600)

    def _point_at(self, chosen: Certificate) -> bool:
        """Put it into a folder of its own and move the link, so nginx never sees half of it."""
        name = f"{chosen.source}-{hashlib.sha256(chosen.chain + chosen.key).hexdigest()[:12]}"
        home, link = self.paths.tls / "shown" / name, self.paths.tls / "shown/current"
        if link.is_symlink() and link.readlink() == Path(name) and home.is_dir():
            return False
        write(home / "cert.pem", chosen.chain)
        write(home / "key.pem", chosen.key, 0o600)
        draft = link.with_name(".current.new")
        draft.unlink(missing_ok=True)
        draft.symlink_to(name)
        draft.replace(link)
        sync_folder(link.parent)
        self._forget_old(name)
        return True

    def _forget_old(self, current: str) -> None:
        folder = self.paths.tls / "shown"
        old = [
            one for one in folder.iterdir()
            if one.is_dir() and not one.is_symlink() and one.name != current
        ]  # fmt: skip
        for home in sorted(old, key=lambda one: one.stat().st_mtime)[:-KEPT]:
            for file in home.iterdir():
                file.unlink()
            home.rmdir()
