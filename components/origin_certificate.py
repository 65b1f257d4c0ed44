"""The certificate that Cloudflare's edge asks of a node: TLS is strict from the first boot on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi

from components.cloudflare import OriginCaCertificate
from components.cloudflare_api import CloudflareApi

# The longest that the Origin CA gives. Only the edge trusts it, and an earlier end would be one
# more thing that can be forgotten; raising the key's version in overlord:secretVersions renews it.
VALIDITY_DAYS = 5475


@dataclass(frozen=True)
class OriginCertificateArgs:
    """What the certificate is made from.

    Args:
        zone_id: the Cloudflare zone.
        hostnames: names in the certificate.
        csr: request signed by the origin key.
        api: Cloudflare.
    """

    zone_id: str
    hostnames: Sequence[str]
    csr: pulumi.Input[str]
    api: CloudflareApi


class OriginCertificate(pulumi.ComponentResource):
    """One certificate for the public name and both nodes."""

    certificate: pulumi.Output[str]

    def __init__(
        self, name: str, args: OriginCertificateArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("overlord:index:OriginCertificate", name, None, opts)
        csr = pulumi.Output.from_input(args.csr)

        async def revoke_leftover(_: pulumi.ResourceHookArgs) -> None:
            request = (await csr.future() or "").strip()
            for entry in args.api.list("/certificates", {"zone_id": args.zone_id}):
                # Same request, same key: made by a run that was killed before it was recorded.
                if str(entry.get("csr") or "").strip() == request:
                    args.api.delete(f"/certificates/{entry['id']}")

        self.certificate = OriginCaCertificate(
            f"{name}-certificate",
            csr=csr,
            hostnames=list(args.hostnames),
            validity_days=VALIDITY_DAYS,
            opts=pulumi.ResourceOptions(
                parent=self,
                hooks=pulumi.ResourceHookBinding(
                    before_create=[pulumi.ResourceHook(f"{name}-leftover", revoke_leftover)]
                ),
            ),
        ).certificate
        self.register_outputs({"hostnames": list(args.hostnames)})
