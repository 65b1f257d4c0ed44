"""Every setting of the program, as one frozen model. `configuration.py` fills it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from components.alert_settings import (
    AlertSettings,
)
from components.arbiter_settings import ArbiterSettings
from components.external_check_settings import ExternalCheckSettings
from components.setting_base import Endpoint, HostName, Model
from components.setting_values import (
    FLEET_SIZES,
    AdminCidr,
    BucketPrefix,
    Days,
    FleetSize,
    HexId,
    Image,
    Location,
    LogDays,
    LoginServer,
    PlainName,
    Registry,
    ServerType,
    SshKey,
    UserName,
    at_least,
)

PRIMARY = "vps-01"
STANDBY = "vps-02"
NODES = (PRIMARY, STANDBY)

HETZNER_URL = "https://api.hetzner.cloud/v1"
CLOUDFLARE_URL = "https://api.cloudflare.com/client/v4"
TAILSCALE_URL = "https://api.tailscale.com"


DATA, BUNDLES, LOGS = "data", "bundles", "logs"
"""What a bucket is for. The second repository has one for data only."""


def bucket_name(prefix: str, purpose: str) -> str:
    """Name of a bucket."""
    return f"{prefix}-{purpose}"


class SecondRepository(Model):
    """One more copy of the database's backups, at another account."""

    endpoint: Endpoint = Field(
        description="the S3 endpoint of the second account, in another region than the first, such "
        "as https://s3.us-west-004.backblazeb2.com"
    )
    region: str = Field(
        pattern=r"^[a-z0-9-]{2,32}$", description="the region of that endpoint, us-west-004"
    )
    bucket_prefix: BucketPrefix = Field(
        description="5 to 51 lower-case letters, digits and dashes, not beginning with b2-, and "
        "not overlord:backup.bucketPrefix"
    )


class Backup(Model):
    """Where backups, bundles and logs are kept. Durations are in days."""

    endpoint: Endpoint = Field(
        description="the S3 endpoint of the account, https://s3.REGION.backblazeb2.com"
    )
    region: str = Field(
        pattern=r"^[a-z0-9-]{2,32}$", description="the region of that endpoint, eu-central-003"
    )
    bucket_prefix: BucketPrefix = Field(
        description="5 to 51 lower-case letters, digits and dashes, not beginning with b2-; "
        "bucket names are shared with the whole world"
    )
    object_lock_days: Days = Field(
        default=14, description="days for which nobody may delete a backup, 1 to 3650"
    )
    object_lock_mode: Literal["governance", "compliance"] = Field(
        default="governance",
        description="governance (a key with the right to may lift it) or compliance (nobody may)",
    )
    database_retention_days: Days = Field(
        default=30, description="days that database backups are kept, 1 to 3650"
    )
    metrics_retention_days: Days = Field(
        default=7, description="days that metric snapshots are kept, 1 to 3650"
    )
    # Not less than Loki's own: its index would name chunks that the bucket has forgotten.
    log_retention_days: LogDays = Field(
        default=30, description="days that archived logs are kept, 30 (as Loki keeps them) to 3650"
    )
    hidden_version_days: Days = Field(
        default=15, description="days after which overwritten or deleted versions go, 1 to 3650"
    )
    # An empty map is nothing.
    second: Annotated[SecondRepository | None, BeforeValidator(lambda value: value or None)] = (
        Field(
            default=None,
            description="a map with endpoint, region and bucketPrefix of a second repository in "
            "another region, or nothing",
        )
    )
    adopt: bool = Field(
        default=False,
        description="true to take over buckets of these names that hold data and are not marked "
        "as this stack's",
    )
    force_destroy: tuple[str, ...] = Field(
        default=(),
        description="names of the buckets that a destroy deletes with all that is in them; the "
        "others stay",
    )

    @property
    def bucket_names(self) -> tuple[str, ...]:
        """Of all buckets."""
        rest = [bucket_name(self.bucket_prefix, purpose) for purpose in (BUNDLES, LOGS)]
        return (*self.data_bucket_names, *rest)

    @property
    def data_bucket_names(self) -> tuple[str, ...]:
        """Of the buckets with backups, that of the second repository last."""
        places = (self, self.second) if self.second else (self,)
        return tuple(bucket_name(place.bucket_prefix, DATA) for place in places)

    @property
    def backups_stay(self) -> bool:
        """Whether a destroy leaves a bucket with backups behind."""
        return not set(self.data_bucket_names) <= set(self.force_destroy)


class Tailnet(Model):
    """The mesh."""

    login_server: LoginServer | None = Field(
        default=None,
        description="https address of another control server (headscale), or nothing for Tailscale",
    )
    key_expiry_seconds: int = Field(
        default=3600,
        ge=300,
        le=3600,
        description="300 to 3600: a node's key needs to live for its first boot only",
    )
    overwrite_policy: bool = Field(
        default=False,
        description="true to replace a policy that the tailnet has already",
    )


class Acme(Model):
    """A certificate of a public authority on the nodes, beside the one that Cloudflare trusts."""

    directory: Endpoint = Field(
        default="https://acme-v02.api.letsencrypt.org/directory",
        description="the https address of an ACME directory, or nothing for Let's Encrypt",
    )
    email: str = Field(
        default="",
        pattern=r"^([^@\s]+@[^@\s]+)?$",
        description="where the authority warns before a certificate ends, or nothing",
    )
    dns_api: Endpoint = Field(
        default=CLOUDFLARE_URL,
        description=f"nothing, or an https address such as {CLOUDFLARE_URL}",
    )
    propagation_seconds: float = Field(
        default=15,
        ge=0,
        le=600,
        description="seconds until a new DNS record is seen everywhere, 0 to 600",
    )


class GitMirrorSettings(Model):
    """A repository that the nodes mirror."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$",
        description="its name in the mirror: letters, digits, - and _, such as fleet-config",
    )
    url: str = Field(
        pattern=r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?/[A-Za-z0-9._~/-]+$",
        max_length=300,
        description="its http or https address, without credentials, such as "
        "https://git.example.com/fleet/config.git",
    )


class Settings(Model):
    """Everything that an operator can set, checked."""

    environment: PlainName = Field(description="a short name for this pair, such as prod")
    domain: HostName = Field(description="the Cloudflare zone, such as example.com")
    zone_id: HexId = Field(
        description="the zone's id, 32 hexadecimal digits from its overview page"
    )
    account_id: HexId | None = Field(
        default=None,
        description="the account's id, 32 hexadecimal digits from the zone's overview page",
    )
    public_name: HostName = Field(
        description="the name that devices and people use, such as fleet.example.com"
    )
    public_port: int = Field(
        default=443, ge=1, le=65535, description="the port of the public name, 443 at Cloudflare"
    )
    locations: tuple[Location, Location] = Field(
        description="two different Hetzner locations, primary first, such as [fsn1, hel1]"
    )
    fleet_size: FleetSize = Field(
        default=50,
        description=f"one of {', '.join(map(str, FLEET_SIZES))}: the next one above your number "
        "of devices",
    )
    server_types: tuple[ServerType, ...] = Field(
        default=(),
        description="Hetzner server types in order of preference, such as [cpx32, cx33]; "
        "empty to choose by fleetSize",
    )
    image: Image = Field(default="ubuntu-24.04", description="ubuntu-24.04 or debian-12")
    admin_cidrs: Annotated[tuple[AdminCidr, ...], AfterValidator(at_least(1))] = Field(
        description="networks that may use SSH, as narrow as they can be, such as "
        "[198.51.100.7/32]; the machine that runs pulumi must be inside",
    )
    admin_ssh_keys: tuple[SshKey, ...] = Field(
        default=(),
        max_length=20,
        description="up to 20 public keys, one line each: ssh-ed25519, ecdsa, or ssh-rsa of 3072 "
        "bits or more",
    )
    admin_user: UserName = Field(
        default="ops", description="a Linux user name that Ubuntu and Debian do not use themselves"
    )
    web_sources: Literal["cloudflare", "everywhere"] = Field(
        default="cloudflare",
        description="cloudflare (only its networks reach ports 80 and 443) or everywhere",
    )
    steering: Literal["loadBalancer", "worker"] = Field(
        default="worker",
        description="loadBalancer (Cloudflare's paid product) or worker (free)",
    )
    hetzner_backups: bool = Field(
        default=False, description="true for Hetzner's daily server backups (20 % of the price)"
    )
    rebuild: Literal["", "vps-01", "vps-02"] = Field(
        default="", description=f"the node to rebuild, one of {', '.join(NODES)}, or nothing"
    )
    protect: bool = Field(default=True, description="false only to take the pair down for good")
    backup: Backup = Field(
        description="a map with endpoint, region and bucketPrefix; see Pulumi.prod.yaml"
    )
    arbiter: ArbiterSettings = Field(
        default=ArbiterSettings(),
        description="a map with enabled, url and leaseSeconds, or nothing",
    )
    alerts: AlertSettings = Field(
        default=AlertSettings(),
        description="a map with email, slack, discord, pagerduty, opsgenie, sms, heartbeat; see "
        "Pulumi.prod.yaml",
    )
    # An empty map, Pulumi.yaml's default, is nothing.
    external_checks: Annotated[
        ExternalCheckSettings | None, BeforeValidator(lambda value: value or None)
    ] = Field(
        default=None,
        description="a map with alertContacts, intervalSeconds and nodeCheck, or nothing",
    )
    # An empty map, Pulumi.yaml's default, is nothing.
    acme: Annotated[Acme | None, BeforeValidator(lambda value: value or None)] = Field(
        default=None,
        description="a map with email, or nothing for the certificate of Cloudflare's Origin CA",
    )
    tailnet: Tailnet = Field(
        default=Tailnet(), description="a map with loginServer and keyExpirySeconds, or nothing"
    )
    registry: Registry | None = Field(
        default=None,
        description="registry that mirrors every image, as host:port or host/path without "
        "https://, or nothing",
    )
    own_registry: Registry | None = Field(
        default=None,
        description="registry with the images built from this repository, as host/path; needed "
        "when overlord:registry is not set",
    )
    git_mirrors: tuple[GitMirrorSettings, ...] = Field(
        default=(),
        max_length=20,
        description="up to 20 public repositories as a list of {name, url}, such as "
        "[{name: fleet-config, url: https://git.example.com/fleet/config.git}]",
    )
    grafana: bool = Field(
        default=True, description="false where Grafana's image cannot be had, or nobody wants it"
    )
    openbao: bool = Field(
        default=False, description="true to run OpenBao, which keeps secrets, on the mesh"
    )
    under_attack: bool = Field(default=False, description="true for Cloudflare's Under Attack mode")
    manage_zone: bool = Field(
        default=True, description="false when the zone's security settings belong to someone else"
    )
    caa_issuers: tuple[HostName, ...] = Field(
        default=("letsencrypt.org", "pki.goog", "ssl.com"),
        description="certificate authorities that may issue for the public name",
    )
    ntp_servers: Annotated[tuple[HostName, ...], AfterValidator(at_least(2))] = Field(
        default=("ntp1.hetzner.de", "ntp2.hetzner.com", "ntp3.hetzner.net", "time.cloudflare.com"),
        description="two time servers or more",
    )
    prices: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict,
        description="prices in EUR a month by item, such as {cpx32: 10.99}; names as in the "
        "monthlyCost output",
    )
    secret_versions: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict,
        description="a number by secret; raise it to replace that secret, such as "
        "{grafana_admin_password: 2}",
    )

    hetzner_endpoint: Endpoint = Field(
        default=HETZNER_URL, description=f"nothing, or an https address such as {HETZNER_URL}"
    )
    cloudflare_endpoint: Endpoint = Field(
        default=CLOUDFLARE_URL, description=f"nothing, or an https address such as {CLOUDFLARE_URL}"
    )
    tailscale_endpoint: Endpoint = Field(
        default=TAILSCALE_URL, description=f"nothing, or an https address such as {TAILSCALE_URL}"
    )
    tailnet_name: str = Field(
        default="-", pattern=r"^[A-Za-z0-9@.-]+$", description="a tailnet's name, or nothing"
    )

    def location(self, node: str) -> str:
        """Hetzner location of a node."""
        return self.locations[NODES.index(node)]

    def fqdn(self, node: str) -> str:
        """Host name of a node."""
        return f"{node}.{self.domain}"

    @property
    def arbiter_enabled(self) -> bool:
        """Whether there is an arbiter: by default only where it steers the public name."""
        return has_arbiter(self.arbiter, self.steering)

    @property
    def arbiter_name(self) -> str:
        """The arbiter's host name in the zone."""
        return f"witness.{self.domain}"

    @property
    def arbiter_url(self) -> str:
        """Where the nodes find the arbiter."""
        return self.arbiter.url or f"https://{self.arbiter_name}"

    def protected(self, node: str) -> bool:
        """Whether a node carries protection: not while its rebuild is asked for."""
        return self.protect and self.rebuild != node


def has_arbiter(arbiter: ArbiterSettings, steering: str) -> bool:
    """Whether there is an arbiter: by default only where it steers the public name."""
    return steering == "worker" if arbiter.enabled is None else arbiter.enabled
