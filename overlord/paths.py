"""Where things are on a node. Tests move the root."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """Every path this package reads or writes, under one root."""

    root: Path = Path("/")

    @property
    def boot_settings(self) -> Path:
        """What user_data said, without its secrets once they are used."""
        return self.root / "etc/overlord/boot.json"

    @property
    def secrets(self) -> Path:
        """One file a secret."""
        return self.root / "etc/overlord/secrets"

    @property
    def opt(self) -> Path:
        """Home of the releases."""
        return self.root / "opt/overlord"

    @property
    def releases(self) -> Path:
        """One folder a release, named by the first 12 digits of the bundle's SHA-256."""
        return self.opt / "releases"

    @property
    def current(self) -> Path:
        """Symlink to the release in force."""
        return self.opt / "current"

    @property
    def state(self) -> Path:
        """What must survive a reboot."""
        return self.root / "var/lib/overlord"

    @property
    def journal(self) -> Path:
        """Steps of the first boot, shared with the launcher."""
        return self.state / "boot/steps.json"

    @property
    def journal_spare(self) -> Path:
        """The same in memory, for when the disk is full."""
        return self.run / "steps.json"

    @property
    def step_logs(self) -> Path:
        """One log a step."""
        return self.root / "var/log/overlord/boot"

    @property
    def history(self) -> Path:
        """Which release came into force when, how, and what failed."""
        return self.state / "history.json"

    @property
    def backup_watch(self) -> Path:
        """Backups and archive as this node saw them last, while it led."""
        return self.state / "backup.json"

    @property
    def second_backup_watch(self) -> Path:
        """The same of the second repository."""
        return self.state / "backup-second.json"

    @property
    def samples_backup(self) -> Path:
        """The last snapshot of Prometheus that this node put into the bucket."""
        return self.state / "samples-backup.json"

    @property
    def logs_backup(self) -> Path:
        """How far this node's logs are in the bucket."""
        return self.state / "logs-backup.json"

    @property
    def backup_lock(self) -> Path:
        """The lock of the data bucket as this node saw it last."""
        return self.state / "backup-lock.json"

    @property
    def second_backup_lock(self) -> Path:
        """The same of the second repository's bucket."""
        return self.state / "backup-lock-second.json"

    @property
    def backup_copy(self) -> Path:
        """The newest backup on this node's own disk, see overlord.backup.copy."""
        return self.state / "backup-copy"

    @property
    def restore_test(self) -> Path:
        """The last restore test on this node."""
        return self.state / "restore-test.json"

    @property
    def file_check(self) -> Path:
        """How the last check of the node's files ended."""
        return self.state / "file-check.json"

    @property
    def baseline(self) -> Path:
        """Settings as they were set up, see overlord.baseline."""
        return self.state / "baseline.json"

    @property
    def settings_before(self) -> Path:
        """The same before the change under way; left behind when that was cut short."""
        return self.state / "settings-before.json"

    @property
    def second_restore_test(self) -> Path:
        """The last one of the second repository."""
        return self.state / "restore-test-second.json"

    @property
    def tailnet_address(self) -> Path:
        """Last known tailnet address, used while the tailnet is away."""
        return self.state / "tailnet-address"

    @property
    def run(self) -> Path:
        """What must not survive a reboot."""
        return self.root / "run/overlord"

    @property
    def compose_env(self) -> Path:
        """Values that only the node knows, for docker compose."""
        return self.run / "compose.env"

    @property
    def apply_lock(self) -> Path:
        """Held while a release is applied."""
        return self.run / "apply.lock"

    @property
    def applying(self) -> Path:
        """There while a release is applied; left behind when that was cut short."""
        return self.state / "applying.json"

    @property
    def agent_code(self) -> Path:
        """Digest of the code that the agent was started from."""
        return self.run / "agent-code"

    @property
    def roles(self) -> Path:
        """What this node remembers of its roles."""
        return self.state / "roles.json"

    @property
    def lease(self) -> Path:
        """Right and pledges of this node, on the machine's monotonic clock."""
        return self.run / "lease.json"

    @property
    def role_answer(self) -> Path:
        """What the role manager said to the last request."""
        return self.run / "role-answer.json"

    @property
    def role_request(self) -> Path:
        """What an operator asked the role manager for; gone once it is answered."""
        return self.run / "role-request.json"

    @property
    def database_volume(self) -> Path:
        """Docker's volume with the database in its folder `pgdata`."""
        return self.root / "var/lib/docker/volumes/overlord_postgres-data/_data"

    @property
    def prometheus_volume(self) -> Path:
        """Docker's volume with Prometheus's samples."""
        return self.root / "var/lib/docker/volumes/overlord_prometheus-data/_data"

    @property
    def loki_volume(self) -> Path:
        """Docker's volume with Loki's chunks and index."""
        return self.root / "var/lib/docker/volumes/overlord_loki-data/_data"

    @property
    def database_socket(self) -> Path:
        """Docker's volume with PostgreSQL's socket."""
        return self.root / "var/lib/docker/volumes/overlord_postgres-run/_data"

    @property
    def docker_socket(self) -> Path:
        """The Docker API."""
        return self.root / "run/docker.sock"

    @property
    def tls(self) -> Path:
        """Mounted by nginx: certificates, and `shown/current`, the one it shows."""
        return self.state / "tls"

    @property
    def shown_certificate(self) -> Path:
        """Certificate that nginx shows."""
        return self.tls / "shown/current/cert.pem"

    @property
    def tls_state(self) -> Path:
        """How the last renewal ended."""
        return self.tls / "state.json"

    @property
    def acme(self) -> Path:
        """certbot's folders."""
        return self.state / "acme"

    @property
    def acme_webroot(self) -> Path:
        """Where certbot puts proofs that nginx shows."""
        return self.tls / "webroot"

    def release(self, release: str) -> Path:
        """Folder of one release."""
        return self.releases / release
