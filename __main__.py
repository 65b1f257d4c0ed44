"""The Overlord pair: read the settings, make the components, export the outputs."""

import pulumi

from components.backup_store import BackupStore, BackupStoreArgs
from components.bootstrap import Bootstrap, BootstrapArgs
from components.bundle import Bundle, BundleArgs, BundleFacts
from components.cloudflare import ip_ranges
from components.cloudflare_api import CloudflareApi
from components.deploy_key import DeployKey, DeployKeyArgs
from components.failover_dns import FailoverDns, FailoverDnsArgs
from components.firewall import ANYWHERE, Firewall, FirewallArgs
from components.hetzner_api import HetznerApi
from components.last_run import STACK_LABEL
from components.launch import Launch, LaunchArgs
from components.node import Node, NodeArgs
from components.node_addresses import NodeAddresses, NodeAddressesArgs
from components.origin_certificate import OriginCertificate, OriginCertificateArgs
from components.outputs import export_outputs
from components.secrets import Secrets, SecretsArgs
from components.settings import NODE_B2_KEY, NODE_B2_KEY_ID, NODES, PRIMARY, STANDBY, load_settings
from components.sizing import SIZES
from components.survey import survey
from components.tailnet import Tailnet, TailnetArgs
from components.tailscale_api import TailscaleApi
from components.zone_security import ZoneSecurity, ZoneSecurityArgs

settings = load_settings()
size = SIZES[settings.fleet_size]
stack = pulumi.get_stack()
labels = {"managed-by": "pulumi", STACK_LABEL: stack}
hetzner = HetznerApi.of(settings)
mesh = TailscaleApi.of(settings)
edge = CloudflareApi.of(settings)
survey_result = survey(settings, hetzner)
plans = survey_result.plans
if settings.rebuild:
    pulumi.log.warn(f"overlord:rebuild names {settings.rebuild}: it is not protected. Remove it.")

hostnames = [settings.public_name, *map(settings.fqdn, NODES)]
secrets = Secrets("secrets", SecretsArgs(NODES, hostnames, settings.secret_versions))
origin = OriginCertificate(
    "origin", OriginCertificateArgs(settings.zone_id, hostnames, secrets.origin_csr, edge)
)
store = BackupStore("store", BackupStoreArgs(settings.backup, settings.protect))
addresses = {
    node: NodeAddresses(
        node,
        NodeAddressesArgs(
            node=node,
            fqdn=settings.fqdn(node),
            location=settings.location(node),
            protected=settings.protect,
            labels=labels,
            stack=stack,
            api=hetzner,
        ),
    )
    for node in NODES
}
public_addresses = {node: {"ipv4": own.ipv4, "ipv6": own.ipv6} for node, own in addresses.items()}
proxies = ip_ranges()
web_sources = proxies if settings.web_sources == "cloudflare" else list(ANYWHERE)
firewall = Firewall(
    "firewall", FirewallArgs(web_sources, settings.admin_cidrs, labels, stack, hetzner)
)
deploy_key = DeployKey("deploy", DeployKeyArgs(secrets.deploy_public_key, labels, stack, hetzner))
buckets = {"data": store.data, "bundles": store.bundles, "logs": store.logs}
facts = pulumi.Output.all(addresses=public_addresses, web_proxies=proxies, buckets=buckets)
bundle = Bundle(
    "bundle",
    BundleArgs(settings, size, facts.apply(lambda found: BundleFacts(**found)), store.bundles),
)
tailnet = Tailnet(
    "tailnet",
    TailnetArgs(
        {node: plan.ticket_generation for node, plan in plans.items()}, settings, stack, mesh
    ),
)
documents = {
    node: secrets.document(
        node,
        origin_certificate=origin.certificate,
        b2_key_id=NODE_B2_KEY_ID.value() or "",
        b2_key=NODE_B2_KEY.value() or "",
    )
    for node in NODES
}
nodes = {}
for node in NODES:
    launch = Launch(
        node,
        LaunchArgs(
            node=node,
            settings=settings,
            generation=plans[node].ticket_generation,
            bucket=store.bundles,
            bundle_sha256=bundle.sha256,
            document=documents[node],
            tailscale_auth_key=tailnet.auth_keys[node],
            deploy_public_key=secrets.deploy_public_key,
        ),
    )
    nodes[node] = Node(
        node,
        NodeArgs(
            node=node,
            role="primary" if node == PRIMARY else "standby",
            location=settings.location(node),
            server_type=survey_result.server_types[node],
            image=settings.image,
            user_data=launch.user_data,
            ssh_key_ids=[deploy_key.key_id],
            firewall_id=firewall.firewall_id,
            addresses=addresses[node],
            plan=plans[node],
            protected=settings.protected(node),
            backups=settings.hetzner_backups,
            labels=labels,
            stack=stack,
            api=hetzner,
            mesh=mesh,
        ),
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
FailoverDns("dns", FailoverDnsArgs(settings, public_addresses, stack, edge))
if settings.manage_zone:
    ZoneSecurity("zone", ZoneSecurityArgs(settings, edge))
export_outputs(settings, survey_result, nodes, secrets, buckets, bundle)
