"""Someone changed things by hand: `pulumi refresh` shows it, `pulumi up` puts it right."""

from __future__ import annotations

from tests.e2e.sandbox_world import ZONE, SandboxWorld


def test_out_of_band_changes_show_up_in_refresh_and_are_put_right_by_up(
    pair: SandboxWorld,
) -> None:
    firewall = pair.hetzner.firewalls.get_all()[0]
    rules = firewall.rules or []
    firewall.set_rules(rules[:-1])

    records = pair.cloudflare("GET", f"/zones/{ZONE}/dns_records?per_page=100")
    record = next(r for r in records if r["name"].startswith("vps-02.") and r["type"] == "A")
    content = record["content"]
    pair.cloudflare(
        "PATCH", f"/zones/{ZONE}/dns_records/{record['id']}", {"content": "198.51.100.99"}
    )

    bucket = next(name for name in pair.output("buckets").values() if "data" in name)
    lifecycle = pair.s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    pair.s3.delete_bucket_lifecycle(Bucket=bucket)

    shown = pair.pulumi("refresh", "--preview-only", "--diff").must().text
    assert "firewall" in shown
    assert "198.51.100.99" in shown
    assert "lifecycle" in shown.lower()

    pair.up().must()

    assert len(pair.hetzner.firewalls.get_all()[0].rules or []) == len(rules) > 1
    live = pair.cloudflare("GET", f"/zones/{ZONE}/dns_records/{record['id']}")
    assert live["content"] == content
    assert pair.s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == lifecycle
    pair.pulumi("preview", "--expect-no-changes").must()
