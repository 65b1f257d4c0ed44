"""user_data: what a server is born with."""

import base64
import gzip
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from components.launcher import (
    MAX_USER_DATA_BYTES,
    BootSettings,
    UserDataTooLongError,
    render_user_data,
)

# One real key of the largest usual size; its length is what counts.
RSA_4096 = (
    rsa.generate_private_key(public_exponent=65537, key_size=4096)
    .public_key()
    .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    .decode()
)
PRESIGNED = "https://s3.eu-central-003.backblazeb2.com/overlord-bundles/" + "x" * 700


def settings(node: str = "vps-01", **changes: Any) -> BootSettings:
    boot = BootSettings(
        node=node,
        fqdn=f"{node}.example.com",
        bundle_url=PRESIGNED,
        bundle_sha256="a" * 64,
        secrets_url=PRESIGNED,
        secrets_sha256="b" * 64,
        secrets_key=Fernet.generate_key().decode(),
        tailscale_auth_key="k" * 80,
        tailscale_tags=("tag:overlord",),
        admin_user="fleetadmin",
        admin_ssh_keys=(f"{RSA_4096} someone@somewhere",),
        deploy_public_key=f"{RSA_4096} deploy",
        admin_cidrs=("203.0.113.0/24", "2001:db8::/32"),
        ntp_servers=("ntp1.hetzner.de", "ntp2.hetzner.com", "ntp3.hetzner.net"),
    )
    return replace(boot, **changes)


def document(text: str) -> dict[str, Any]:
    assert text.startswith("#cloud-config\n")
    parsed = yaml.safe_load(text)
    assert isinstance(parsed, dict)
    return parsed


def written_file(text: str, path: str) -> dict[str, Any]:
    (found,) = [file for file in document(text)["write_files"] if file["path"] == path]
    return dict(found)


@pytest.mark.parametrize("node", ["vps-01", "vps-02"])
def test_worst_case_settings_fit_into_what_hetzner_takes(node: str) -> None:
    keys = tuple(f"{RSA_4096} administrator-{number:02}@example.com" for number in range(20))
    cidrs = tuple(f"2001:db8:{number:x}::/48" for number in range(50))
    boot = settings(
        node,
        admin_ssh_keys=keys,
        admin_cidrs=cidrs,
        ntp_servers=tuple(f"time-{number}.provider.example.com" for number in range(8)),
        tailscale_login_server="https://headscale.internal.example.com:8443",
    )
    assert len(render_user_data(boot).encode()) <= MAX_USER_DATA_BYTES


def test_too_many_keys_are_refused_with_the_setting_to_change() -> None:
    boot = settings(admin_ssh_keys=tuple(f"{RSA_4096} {number}" for number in range(60)))
    with pytest.raises(UserDataTooLongError, match="overlord:adminSshKeys"):
        render_user_data(boot)


def test_equal_settings_render_equal_bytes() -> None:
    boot = settings()
    assert render_user_data(boot) == render_user_data(replace(boot))


def test_the_launcher_in_user_data_is_the_file_in_the_repository() -> None:
    file = written_file(render_user_data(settings()), "/usr/local/sbin/overlord-launch")
    unpacked = gzip.decompress(base64.b64decode(file["content"]))
    assert unpacked == Path("cloud-init/overlord-launch").read_bytes()
    assert file["permissions"] == "0755"


def test_boot_settings_are_readable_by_root_only() -> None:
    file = written_file(render_user_data(settings()), "/etc/overlord/boot.json")
    assert file["permissions"] == "0600"
    assert json.loads(file["content"])["node"] == "vps-01"


def test_no_secret_is_on_the_command_line_of_first_boot() -> None:
    boot = settings()
    commands = json.dumps(document(render_user_data(boot))["runcmd"])
    for secret in (boot.secrets_key, boot.tailscale_auth_key, boot.bundle_url):
        assert secret not in commands


def test_secrets_do_not_show_when_settings_are_printed() -> None:
    boot = settings()
    for secret in (boot.secrets_key, boot.tailscale_auth_key, boot.bundle_url, boot.secrets_url):
        assert secret not in repr(boot)


def test_runcmd_is_one_command_so_that_its_failure_is_cloud_inits_failure() -> None:
    assert document(render_user_data(settings()))["runcmd"] == [
        ["/usr/local/sbin/overlord-launch", "run"]
    ]


def test_the_deploy_user_may_run_two_commands_as_root_and_nothing_else() -> None:
    deploy, admin = document(render_user_data(settings()))["users"]
    assert deploy["sudo"] == (
        "ALL=(root) NOPASSWD: /usr/local/sbin/overlord-launch, /usr/local/bin/overlordctl"
    )
    assert deploy["ssh_authorized_keys"][0].startswith("restrict ssh-")
    assert "sudo" not in admin
    assert admin["groups"] == ["adm", "sudo"]


def test_root_and_passwords_are_no_way_in() -> None:
    config = document(render_user_data(settings()))
    assert config["disable_root"] is True
    assert config["ssh_pwauth"] is False
    assert all(user["lock_passwd"] for user in config["users"])


def test_the_resume_unit_does_not_wait_for_what_waits_for_it() -> None:
    unit = written_file(render_user_data(settings()), "/etc/systemd/system/overlord-boot.service")[
        "content"
    ]
    ordering = [line for line in unit.splitlines() if line.startswith(("After=", "Requires="))]
    # cloud-final.service starts after multi-user.target, which wants this unit.
    assert not any("cloud-final" in line for line in ordering)


@pytest.mark.skipif(shutil.which("cloud-init") is None, reason="cloud-init is not installed")
def test_cloud_init_finds_nothing_wrong(tmp_path: Path) -> None:
    file = tmp_path / "user-data"
    file.write_text(render_user_data(settings()))
    checked = subprocess.run(
        ["cloud-init", "schema", "--config-file", file], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
