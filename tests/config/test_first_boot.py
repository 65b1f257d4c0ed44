"""What a server gets at its first boot is taken by the programs that read it."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from components.launcher import BootSettings, render_user_data
from overlord.host import text
from tests.support.programs import check


def ssh_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def public(key: ed25519.Ed25519PrivateKey) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        .decode()
    )


def test_cloud_init_takes_the_user_data(tmp_path: Path) -> None:
    boot = BootSettings(
        node="vps-01",
        fqdn="vps-01.example.com",
        bundle_url="https://storage.example.com/bundle",
        bundle_sha256="0" * 64,
        secrets_url="https://storage.example.com/secrets",
        secrets_sha256="1" * 64,
        secrets_key="none",
        tailscale_auth_key="none",
        tailscale_tags=("tag:overlord",),
        admin_user="operator",
        admin_ssh_keys=(public(ssh_key()), public(ssh_key())),
        deploy_public_key=public(ssh_key()),
        admin_cidrs=("198.51.100.0/24",),
        ntp_servers=("0.pool.ntp.org", "1.pool.ntp.org"),
    )
    file = tmp_path / "user-data"
    file.write_text(render_user_data(boot))

    output = check("cloud-init", "schema", "--config-file", file, folder=tmp_path)

    assert "Valid cloud-config" in output or "Valid schema" in output, output


def test_sshd_takes_its_settings(tmp_path: Path) -> None:
    host_key = tmp_path / "host_key"
    host_key.write_bytes(
        ssh_key().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
    )
    host_key.chmod(0o600)
    content = text("sshd.conf", ssh_port=22, admin_user="operator", deploy_user="overlord-deploy")
    file = tmp_path / "sshd.conf"
    file.write_bytes(content.replace(b"/etc/ssh/ssh_host_ed25519_key", bytes(host_key)))

    output = check("sshd", "-T", "-f", file, folder=tmp_path)

    effective = set(output.lower().splitlines())
    assert {"permitrootlogin no", "passwordauthentication no", "maxauthtries 3"} <= effective
