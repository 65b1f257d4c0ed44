"""The Overlord pair: read the settings, make the components, export the outputs."""

import pulumi

from components.alert_settings import alert_secrets
from components.backup_store import BackupStore, BackupStoreArgs
from components.bootstrap import Bootstrap, BootstrapArgs
from components.bundle import Bundle, BundleArgs, BundleFacts
from components.cloudflare import ip_ranges
from components.configuration import load_settings
from components.credentials import (
    ACME_DNS_TOKEN,
    NODE_B2_KEY,
    NODE_B2_KEY_ID,
    NODE_SECOND_B2_KEY,
    NODE_SECOND_B2_KEY_ID,
)
from components.deploy_key import DeployKey, DeployKeyArgs
from components.external_checks import ExternalChecks, ExternalChecksArgs
from components.failover_dns import FailoverDns, FailoverDnsArgs
from components.firewall import ANYWHERE, Firewall, FirewallArgs
from components.origin_certificate import OriginCertificate, OriginCertificateArgs
from components.outputs import export_outputs
from components.pair import ServersArgs, make_addresses, make_servers
from components.secrets import Secrets, SecretsArgs
from components.settings import NODES, PRIMARY, STANDBY
from components.sizing import SIZES
from components.survey import survey
from components.tailnet import Tailnet, TailnetArgs
from components.vendors import Vendors
from components.witness import Witness, WitnessArgs
from components.zone_security import ZoneSecurity, ZoneSecurityArgs

settings = load_settings()
vendors = Vendors.of(settings)
labels, stack = vendors.labels, vendors.stack
found = survey(settings, vendors.hetzner)

hostnames = [settings.public_name, *map(settings.fqdn, NODES)]
generations = {node: plan.generation for node, plan in found.plans.items()}
secrets = Secrets(
    "secrets",
    SecretsArgs(
        generations,
        hostnames,
        settings.secret_versions,
        # What stays in the buckets after a destroy is of no use without them.
        protect=settings.protect or settings.backup.backups_stay,
    ),
)
origin = OriginCertificate(
    "origin", OriginCertificateArgs(settings.zone_id, hostnames, secrets.origin_csr, vendors.edge)
)
second_b2_key = (NODE_SECOND_B2_KEY_ID.value() or "", NODE_SECOND_B2_KEY.value() or "")
documents = {
    node: secrets.document(
        node,
        origin_certificate=origin.certificate,
        b2_key_id=NODE_B2_KEY_ID.value() or "",
        b2_key=NODE_B2_KEY.value() or "",
        acme_dns_token=ACME_DNS_TOKEN.value() if settings.acme else None,
        alert_secrets=alert_secrets(settings.alerts, node),
        openbao=settings.openbao,
        second_b2_key=second_b2_key if settings.backup.second else None,
    )
    for node in NODES
}
store = BackupStore("store", BackupStoreArgs(settings.backup, settings.protect))
buckets = store.buckets

addresses = make_addresses(settings, vendors)
public_addresses = {node: {"ipv4": own.ipv4, "ipv6": own.ipv6} for node, own in addresses.items()}
proxies = ip_ranges()
web_sources = proxies if settings.web_sources == "cloudflare" else list(ANYWHERE)
firewall = Firewall(
    "firewall", FirewallArgs(web_sources, settings.admin_cidrs, labels, stack, vendors.hetzner)
)
deploy_key = DeployKey(
    "deploy",
    DeployKeyArgs(
        secrets.deploy_public_key,
        secrets.deploy_key_number,
        labels,
        stack,
        vendors.hetzner,
    ),
)
facts = pulumi.Output.all(addresses=public_addresses, web_proxies=proxies, buckets=buckets)
bundle = Bundle(
    "bundle",
    BundleArgs(
        settings,
        SIZES[settings.fleet_size],
        facts.apply(lambda values: BundleFacts(**values)),
        store.bundles,
    ),
)
tickets = {node: plan.ticket_generation for node, plan in found.plans.items()}
tailnet = Tailnet("tailnet", TailnetArgs(tickets, settings, stack, vendors.mesh))
if settings.arbiter_enabled:
    # Before the servers: a node asks it whether it may be primary.
    Witness(
        "witness",
        WitnessArgs(
            settings,
            public_addresses,
            secrets.arbiter_tokens,
            secrets.arbiter_operator_token,
            stack,
        ),
    )
nodes = make_servers(
    ServersArgs(
        settings=settings,
        vendors=vendors,
        survey=found,
        addresses=addresses,
        firewall=firewall,
        deploy_key_id=deploy_key.key_id,
        deploy_public_key=secrets.deploy_public_key,
        bucket=store.bundles,
        bundle_sha256=bundle.sha256,
        documents=documents,
        auth_keys=tailnet.auth_keys,
    )
)
Bootstrap(
    "bootstrap",
    BootstrapArgs(
        order=(STANDBY, PRIMARY),
        hosts={node: nodes[node].ipv4 for node in NODES},
        server_ids={node: nodes[node].server_id for node in NODES},
        deploy_key=secrets.deploy_private_key,
        host_keys=secrets.host_public_keys,
        bundle_sha256=bundle.sha256,
        documents=documents,
    ),
)
FailoverDns("dns", FailoverDnsArgs(settings, public_addresses, stack, vendors.edge))
if settings.manage_zone:
    ZoneSecurity("zone", ZoneSecurityArgs(settings, vendors.edge))
if settings.external_checks:
    ExternalChecks("outside", ExternalChecksArgs(settings, settings.external_checks))
export_outputs(settings, found, nodes, secrets, buckets, bundle)
