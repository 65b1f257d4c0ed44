"""The only reader of configuration: one frozen model, every mistake reported at once.

Each mistake names its configuration key, says what is wrong and what would be right.
"""

from __future__ import annotations

import contextlib
import difflib
import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from urllib.parse import urlsplit

import pulumi
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from components.alert_settings import (
    AlertSettings,
    alert_tokens,
    credential_mistakes,
)
from components.arbiter_settings import ARBITER_DNS_TOKEN, ArbiterSettings
from components.external_check_settings import UPTIMEROBOT_KEY, ExternalCheckSettings
from components.setting_base import LABEL, PROJECT, Endpoint, HostName, Token, is_loopback
from components.setting_base import Model as _Model
from components.setting_base import wrong as _wrong

PRIMARY = "vps-01"
STANDBY = "vps-02"
NODES = (PRIMARY, STANDBY)
FLEET_SIZES = (50, 100, 250, 500)

HETZNER_URL = "https://api.hetzner.cloud/v1"
CLOUDFLARE_URL = "https://api.cloudflare.com/client/v4"
TAILSCALE_URL = "https://api.tailscale.com"

_HEX_ID = re.compile(r"^[0-9a-f]{32}$")
_IMAGE = re.compile(r"^(ubuntu|debian)-\d+(\.\d+)?$")
_REGISTRY = re.compile(r"^[a-z0-9.-]+(:\d{1,5})?(/[a-z0-9._-]+)*$")
_SERVER_TYPE = re.compile(r"^[a-z]{2,4}\d{2,3}[a-z]?$")
_KEY_KINDS = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)

# Users and groups that exist on a fresh Ubuntu or Debian, and the deploy user. A new user also gets
# a group of its name, so a taken group (such as operator) is as bad as a taken user.
# fmt: off
_TAKEN_NAMES = frozenset({
    "root", "daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp", "proxy",
    "www-data", "backup", "list", "irc", "gnats", "nobody", "_apt", "adm", "tty", "disk", "kmem",
    "dialout", "fax", "voice", "cdrom", "floppy", "tape", "sudo", "audio", "dip", "operator",
    "src", "shadow", "utmp", "video", "sasl", "plugdev", "staff", "users", "nogroup", "messagebus",
    "syslog", "systemd-network", "systemd-resolve", "systemd-timesync", "sshd", "docker", "ubuntu",
    "debian", "overlord-deploy",
})
# fmt: on


@dataclass(frozen=True)
class Problem:
    """One mistake in the configuration.

    Args:
        key: configuration key, such as overlord:adminCidrs.
        wrong: what is wrong with it.
        right: what would be right.
    """

    key: str
    wrong: str
    right: str


class SettingsError(pulumi.RunError):
    """The configuration cannot be used; the message lists every problem."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        many = "problem" if len(self.problems) == 1 else "problems"
        lines = [f"The configuration has {len(self.problems)} {many}. Nothing was changed.", ""]
        for problem in self.problems:
            lines += [f"  {problem.key}", f"    wrong: {problem.wrong}"]
            lines += [f"    right: {problem.right}", ""]
        super().__init__("\n".join(lines).rstrip())


def _hex_id(value: str) -> str:
    if not _HEX_ID.match(value):
        raise _wrong(f"{value!r} is not 32 hexadecimal digits")
    return value


def _plain_name(value: str) -> str:
    if not re.fullmatch(LABEL, value) or len(value) > 32:
        raise _wrong(f"{value!r} is no plain name")
    return value


def _user_name(value: str) -> str:
    if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", value):
        raise _wrong(f"{value!r} is no Linux user name")
    if value in _TAKEN_NAMES:
        raise _wrong(f"{value!r} is taken on every server")
    return value


def _admin_cidr(value: str) -> str:
    try:
        network = ipaddress.ip_network(value)
    except ValueError as error:
        raise _wrong(f"{value!r} is no network: {error}") from None
    if network.prefixlen == 0:
        raise _wrong(f"{value} opens SSH to the whole internet")
    if network.prefixlen < (8 if network.version == 4 else 16):
        raise _wrong(f"{value} opens SSH to {network.num_addresses:,} addresses")
    return str(network)


def _at_least(count: int) -> Callable[[tuple[str, ...]], tuple[str, ...]]:
    """Checks a list's length after its items: a wrong item is not also a missing one."""

    def check(values: tuple[str, ...]) -> tuple[str, ...]:
        if len(values) < count:
            raise _wrong(f"{len(values)} given, at least {count} needed")
        return values

    return check


def _ssh_key(value: str) -> str:
    parts = value.split()
    if "PRIVATE" in value:
        raise _wrong("this is a private key; it must stay where it is (and counts as leaked now)")
    if "\n" in value.strip() or len(parts) < 2:
        raise _wrong(f"{value[:20]!r}… is no SSH public key on one line")
    if parts[0] not in _KEY_KINDS:
        raise _wrong(f"key type {parts[0][:40]!r} is not accepted")
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    if not parts[0].startswith("sk-"):
        try:
            key = load_ssh_public_key(" ".join(parts[:2]).encode())
        except (ValueError, UnsupportedAlgorithm):
            raise _wrong(f"the {parts[0]} key is damaged or cut short") from None
        if isinstance(key, RSAPublicKey) and key.key_size < 3072:
            raise _wrong(f"an RSA key of {key.key_size} bits is too short")
    return " ".join(parts)


def _image(value: str) -> str:
    if not _IMAGE.match(value):
        raise _wrong(f"{value!r} is no image that the first boot knows")
    return value


def _registry(value: str) -> str:
    if not _REGISTRY.match(value):
        raise _wrong(f"{value!r} is no registry")
    return value


def _server_type(value: str) -> str:
    if not _SERVER_TYPE.match(value):
        raise _wrong(f"{value!r} does not look like a Hetzner server type")
    return value


def _location(value: str) -> str:
    if re.fullmatch(r"[a-z]{3}\d?-dc\d+", value):
        raise _wrong(f"{value!r} is a data centre; Hetzner removed those from its API")
    if not re.fullmatch(r"[a-z]{3}\d?", value):
        raise _wrong(f"{value!r} is no Hetzner location")
    return value


def _login_server(value: str) -> str:
    """A tailnet control server. Its protocol encrypts by itself, so http may do inside a LAN."""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise _wrong(f"{value!r} is no http or https address")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        try:
            public = ipaddress.ip_address(parts.hostname).is_global
        except ValueError:
            public = True
        if public:
            raise _wrong(f"{value} is http across the internet")
    return value.rstrip("/")


def _bucket_prefix(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{4,50}", value) or value.startswith("b2-"):
        raise _wrong(f"{value!r} cannot begin a bucket name")
    return value


def _fleet_size(value: int) -> int:
    if value not in FLEET_SIZES:
        raise _wrong(f"there is no size for {value} devices")
    return value


HexId = Annotated[str, AfterValidator(_hex_id)]
Days = Annotated[int, Field(ge=1, le=3650)]


class Backup(_Model):
    """Where backups, bundles and logs are kept. Durations are in days."""

    endpoint: Endpoint = Field(
        description="the S3 endpoint of the account, https://s3.REGION.backblazeb2.com"
    )
    region: str = Field(
        pattern=r"^[a-z0-9-]{2,32}$", description="the region of that endpoint, eu-central-003"
    )
    bucket_prefix: Annotated[str, AfterValidator(_bucket_prefix)] = Field(
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
    log_retention_days: Days = Field(
        default=30, description="days that archived logs are kept, 1 to 3650"
    )
    hidden_version_days: Days = Field(
        default=15, description="days after which overwritten or deleted versions go, 1 to 3650"
    )
    adopt: bool = Field(
        default=False, description="true to take over buckets of these names that already exist"
    )
    force_destroy: bool = Field(
        default=False, description="true to allow the deletion of buckets that hold data"
    )


class Tailnet(_Model):
    """The mesh."""

    login_server: Annotated[str, AfterValidator(_login_server)] | None = Field(
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


class Acme(_Model):
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


class GitMirrorSettings(_Model):
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


class Settings(_Model):
    """Everything that an operator can set, checked."""

    environment: Annotated[str, AfterValidator(_plain_name)] = Field(
        description="a short name for this pair, such as prod"
    )
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
    locations: tuple[
        Annotated[str, AfterValidator(_location)], Annotated[str, AfterValidator(_location)]
    ] = Field(description="two different Hetzner locations, primary first, such as [fsn1, hel1]")
    fleet_size: Annotated[int, AfterValidator(_fleet_size)] = Field(
        default=50,
        description=f"one of {', '.join(map(str, FLEET_SIZES))}: the next one above your number "
        "of devices",
    )
    server_types: tuple[Annotated[str, AfterValidator(_server_type)], ...] = Field(
        default=(),
        description="Hetzner server types in order of preference, such as [cpx32, cx33]; "
        "empty to choose by fleetSize",
    )
    image: Annotated[str, AfterValidator(_image)] = Field(
        default="ubuntu-24.04", description="ubuntu-24.04 or debian-12"
    )
    admin_cidrs: Annotated[
        tuple[Annotated[str, AfterValidator(_admin_cidr)], ...], AfterValidator(_at_least(1))
    ] = Field(
        description="networks that may use SSH, as narrow as they can be, such as "
        "[198.51.100.7/32]; the machine that runs pulumi must be inside",
    )
    admin_ssh_keys: tuple[Annotated[str, AfterValidator(_ssh_key)], ...] = Field(
        default=(),
        max_length=20,
        description="up to 20 public keys, one line each: ssh-ed25519, ecdsa, or ssh-rsa of 3072 "
        "bits or more",
    )
    admin_user: Annotated[str, AfterValidator(_user_name)] = Field(
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
    registry: Annotated[str, AfterValidator(_registry)] | None = Field(
        default=None,
        description="registry that mirrors every image, as host:port or host/path without "
        "https://, or nothing",
    )
    own_registry: Annotated[str, AfterValidator(_registry)] | None = Field(
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
    ntp_servers: Annotated[tuple[HostName, ...], AfterValidator(_at_least(2))] = Field(
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
        return _has_arbiter(self.arbiter, self.steering)

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


# Settings that live under a provider's own configuration name.
_PROVIDER_KEYS = {
    "hetznerEndpoint": "hcloud:endpoint",
    "cloudflareEndpoint": "cloudflare:baseUrl",
    "tailscaleEndpoint": "tailscale:baseUrl",
    "tailnetName": "tailscale:tailnet",
}


HETZNER_TOKEN = Token("HCLOUD_TOKEN", "hcloud:token", "Hetzner Cloud API token, read and write")
CLOUDFLARE_TOKEN = Token(
    "CLOUDFLARE_API_TOKEN", "cloudflare:apiToken", "Cloudflare API token for the zone"
)
TAILSCALE_TOKEN = Token("TAILSCALE_API_KEY", "tailscale:apiKey", "Tailscale API key")
B2_KEY_ID = Token("OVERLORD_B2_KEY_ID", f"{PROJECT}:b2KeyId", "id of the operator's B2 key")
B2_KEY = Token("OVERLORD_B2_KEY", f"{PROJECT}:b2Key", "operator's B2 key, for buckets and bundles")
NODE_B2_KEY_ID = Token(
    "OVERLORD_NODE_B2_KEY_ID", f"{PROJECT}:nodeB2KeyId", "id of the nodes' B2 key"
)
NODE_B2_KEY = Token(
    "OVERLORD_NODE_B2_KEY", f"{PROJECT}:nodeB2Key", "nodes' B2 key: no right to delete versions"
)
ACME_DNS_TOKEN = Token(
    "OVERLORD_ACME_DNS_TOKEN",
    f"{PROJECT}:acmeDnsToken",
    "Cloudflare API token of the nodes: Zone DNS Edit for the zone, nothing else",
)
TOKENS = (
    HETZNER_TOKEN,
    CLOUDFLARE_TOKEN,
    TAILSCALE_TOKEN,
    B2_KEY_ID,
    B2_KEY,
    NODE_B2_KEY_ID,
    NODE_B2_KEY,
)
OPTIONAL_TOKENS = (*alert_tokens(NODES), UPTIMEROBOT_KEY, ARBITER_DNS_TOKEN, ACME_DNS_TOKEN)
"""Needed only by what is asked for."""
# Configuration that other readers own: credentials above.
_SECRET_NAMES = {
    token.key.split(":")[1]
    for token in (*TOKENS, *OPTIONAL_TOKENS)
    if token.key.startswith(f"{PROJECT}:")
}
# Where a secret may stand by mistake: what was given there is not repeated in a message.
_NEVER_SHOWN = {"alerts", "externalChecks"}


def load_settings() -> Settings:
    """Read the stack's configuration.

    Raises:
        SettingsError: with every problem found.
    """
    tokens = (*TOKENS, *OPTIONAL_TOKENS)
    return parse_settings(_raw_config(), {token.variable: token.value() for token in tokens})


def parse_settings(raw: Mapping[str, Any], tokens: Mapping[str, str | None]) -> Settings:
    """Check raw values by camelCase name, and that every credential is there.

    Args:
        raw: values as in the configuration file.
        tokens: credentials by environment variable; None or empty counts as missing.

    Raises:
        SettingsError: with every problem found.
    """
    problems: list[Problem] = []
    settings: Settings | None = None
    try:
        settings = Settings.model_validate(raw)
        values: dict[str, Any] = {name: getattr(settings, name) for name in Settings.model_fields}
    except ValidationError as error:
        problems += [_from_pydantic(detail) for detail in error.errors()]
        values = _usable_values(raw)
    problems += _cross_checks(values)
    problems += _missing_tokens(tokens)
    problems += _arbiter_mistakes(values, tokens)
    if isinstance(alerts := values.get("alerts"), AlertSettings):
        problems += [
            Problem(token.key, what, right)
            for token, what, right in credential_mistakes(alerts, NODES, tokens)
        ]
    if values.get("acme") and not tokens.get(ACME_DNS_TOKEN.variable):
        problems += _missing_tokens(tokens, (ACME_DNS_TOKEN,))
    checks = values.get("external_checks")
    if checks and not tokens.get(UPTIMEROBOT_KEY.variable):
        problems += _missing_tokens(tokens, (UPTIMEROBOT_KEY,))
    if checks and checks.node_check == "https" and values.get("web_sources") == "cloudflare":
        problems.append(
            Problem(
                f"{PROJECT}:externalChecks.nodeCheck",
                "overlord:webSources is cloudflare, so nobody else reaches a node by https",
                "ping, or overlord:webSources set to everywhere",
            )
        )
    if problems or settings is None:
        raise SettingsError(problems)
    return settings


def _raw_config() -> dict[str, Any]:
    config = pulumi.Config(PROJECT)
    raw: dict[str, Any] = {}
    for name in _configured_names():
        if name in _SECRET_NAMES:
            continue
        text = config.get(name)
        field = _field_of(name)
        if text is not None:
            raw[name] = text if field and _is_text(field.annotation) else _parsed(text)
    for name, key in _PROVIDER_KEYS.items():
        namespace, provider_name = key.split(":")
        text = pulumi.Config(namespace).get(provider_name)
        if text is not None:
            raw[name] = text
    # An empty value in the file means that it is not set.
    return {name: value for name, value in raw.items() if value != "" or name == "rebuild"}


def _configured_names() -> set[str]:
    """Names under this project, misspelt ones too: the typed Config cannot list them."""
    from pulumi.runtime import config as runtime

    keys = set(runtime.CONFIG.get()) | set(runtime.get_config_env() or {})
    return {key.split(":", 1)[1] for key in keys if key.startswith(f"{PROJECT}:")}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _is_text(annotation: Any) -> bool:
    """Whether a value is text, and not JSON such as a number, a list or a map."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _is_text(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return all(part is NoneType or _is_text(part) for part in get_args(annotation))
    return annotation is str or origin is Literal


def _field_of(name: str) -> FieldInfo | None:
    return next((f for f in Settings.model_fields.values() if f.alias == name), None)


def _key_of(path: tuple[int | str, ...]) -> str:
    head = str(path[0]) if path else ""
    key = _PROVIDER_KEYS.get(head, f"{PROJECT}:{head}")
    for part in path[1:]:
        key += f"[{part}]" if isinstance(part, int) else f".{part}"
    return key


def _describe(path: tuple[int | str, ...]) -> tuple[str, list[str]]:
    """Description of the innermost known field on the path, and names known at its end."""
    model: type[BaseModel] | None = Settings
    right = "see Pulumi.yaml for the keys that exist"
    known: list[str] = []
    for part in path:
        if model is None:
            break
        known = [field.alias or name for name, field in model.model_fields.items()]
        field = next((f for f in model.model_fields.values() if f.alias == part), None)
        if field is None:
            break
        right = field.description or right
        model = _model_in(field.annotation)
    return right, known


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, also where it may be absent."""
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def _from_pydantic(detail: Any) -> Problem:
    path = tuple(part for part in detail["loc"] if part != "[key]")
    right, known = _describe(path)
    kind = detail["type"]
    if kind == "missing":
        return Problem(_key_of(path), "it is not set", right)
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(path[-1]), known, n=1)
        return Problem(
            _key_of(path),
            "there is no such setting",
            f"did you mean {near[0]}?" if near else "see Pulumi.yaml for the keys that exist",
        )
    if kind == "overlord":
        return Problem(_key_of(path), detail["msg"], right)
    value = detail.get("input")
    plain = isinstance(value, str | int | float | bool) and path[0] not in _NEVER_SHOWN
    shown = f"{value!r}: " if plain else ""
    return Problem(_key_of(path), f"{shown}{detail['msg'][:1].lower()}{detail['msg'][1:]}", right)


class _Draft(Settings):
    """Settings that are checked one by one."""

    model_config = ConfigDict(frozen=False)


def _usable_values(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are right by themselves, so that cross checks still speak about them."""
    draft = _Draft.model_construct()
    values: dict[str, Any] = {}
    for name, field in Settings.model_fields.items():
        if field.alias is not None and field.alias in raw:
            with contextlib.suppress(ValidationError):
                _Draft.__pydantic_validator__.validate_assignment(draft, name, raw[field.alias])
                values[name] = getattr(draft, name)
        elif not field.is_required():
            values[name] = field.get_default(call_default_factory=True)
    return values


def _cross_checks(values: Mapping[str, Any]) -> list[Problem]:
    problems: list[Problem] = []

    def add(name: str, wrong: str, right: str) -> None:
        problems.append(Problem(_key_of((name,)), wrong, right))

    locations = values.get("locations")
    if locations and locations[0] == locations[1]:
        add(
            "locations",
            f"both nodes would be in {locations[0]}; one fault there would take both",
            "two different Hetzner locations, such as [fsn1, hel1]",
        )
    domain, public_name = values.get("domain"), values.get("public_name")
    if domain and public_name:
        if not public_name.endswith(f".{domain}"):
            add(
                "publicName",
                f"{public_name} is not inside overlord:domain ({domain})",
                f"a name below the zone, such as fleet.{domain}, or another overlord:domain",
            )
        elif public_name in {f"{node}.{domain}" for node in NODES}:
            add(
                "publicName",
                f"{public_name} is the name of a node",
                f"a name of its own, such as fleet.{domain}",
            )
    if values.get("steering") == "loadBalancer" and values.get("account_id", "") is None:
        add(
            "accountId",
            "overlord:steering is loadBalancer, whose pools belong to an account",
            "the account's id, or overlord:steering set to worker",
        )
    alerts = values.get("alerts")
    if alerts and alerts.email and alerts.email.username and not alerts.email.require_tls:
        problems.append(
            Problem(
                _key_of(("alerts", "email", "requireTls")),
                "the login at the mail server would travel unencrypted",
                "true, or no overlord:alerts.email.username",
            )
        )
    backup = values.get("backup")
    if backup and backup.database_retention_days < backup.object_lock_days:
        problems.append(
            Problem(
                _key_of(("backup", "databaseRetentionDays")),
                f"{backup.database_retention_days} days end before the lock of "
                f"{backup.object_lock_days} days (backup.objectLockDays) lets anything go",
                "at least as many days as the lock, or a shorter lock",
            )
        )
    if values.get("under_attack") and values.get("manage_zone") is False:
        add(
            "underAttack",
            "overlord:manageZone is false, so the program does not touch the zone's settings",
            "false, or overlord:manageZone set to true",
        )
    if values.get("registry", "") is None and values.get("own_registry", "") is None:
        add(
            "ownRegistry",
            "no registry holds the images built from this repository",
            "registry with those images, as host/path, or overlord:registry with a mirror of all",
        )
    versions = values.get("secret_versions")
    if versions:
        # Imported here: the list of secrets is the secrets module's business.
        from components.secrets import SECRET_NAMES

        problems += [
            Problem(
                _key_of(("secretVersions", name)),
                "there is no such secret",
                f"one of {', '.join(SECRET_NAMES)}",
            )
            for name in versions
            if name not in SECRET_NAMES
        ]
    return problems


def _has_arbiter(arbiter: ArbiterSettings, steering: str) -> bool:
    return steering == "worker" if arbiter.enabled is None else arbiter.enabled


def _arbiter_mistakes(
    values: Mapping[str, Any], tokens: Mapping[str, str | None]
) -> Iterator[Problem]:
    arbiter, steering = values.get("arbiter"), values.get("steering")
    if not isinstance(arbiter, ArbiterSettings) or not isinstance(steering, str):
        return
    domain, name = values.get("domain"), values.get("public_name")
    if not _has_arbiter(arbiter, steering):
        return
    ways_out = "overlord:arbiter.enabled set to false (then nobody promotes a node by itself)"
    if values.get("account_id", "") is None:
        yield Problem(
            _key_of(("accountId",)),
            "there is an arbiter, whose Worker belongs to an account",
            f"the account's id, or {ways_out}",
        )
    if name is not None and name == f"witness.{domain}":
        yield Problem(
            _key_of(("publicName",)),
            f"{name} is the name of the arbiter",
            f"a name of its own, such as fleet.{domain}",
        )
    if steering == "worker" and not tokens.get(ARBITER_DNS_TOKEN.variable):
        yield Problem(
            ARBITER_DNS_TOKEN.key,
            f"missing: {ARBITER_DNS_TOKEN.purpose}",
            f"`export {ARBITER_DNS_TOKEN.variable}=…` or `pulumi config set --secret "
            f"{ARBITER_DNS_TOKEN.key}`, or {ways_out}",
        )


def _missing_tokens(
    tokens: Mapping[str, str | None], needed: Iterable[Token] = TOKENS
) -> list[Problem]:
    return [
        Problem(
            token.key,
            f"missing: {token.purpose}",
            f"`export {token.variable}=…` or `pulumi config set --secret {token.key}`",
        )
        for token in needed
        if not tokens.get(token.variable)
    ]
