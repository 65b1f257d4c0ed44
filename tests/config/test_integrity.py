"""dpkg's own word on a server whose files were changed."""

import subprocess

from overlord.integrity import changed_packaged
from sandbox.world import World
from tests.support.programs import SERVER, docker_daemon

CHANGES = """
echo >> /usr/sbin/sshd
rm /usr/lib/systemd/system/ssh.service
echo >> /etc/ssh/sshd_config
echo >> /usr/local/bin/ours
"""


def verify(before: str = "") -> list[str]:
    """What is found on a new server after a script."""
    with docker_daemon():
        line = ["docker", f"--host=unix://{World.here().docker_socket}", "run", "--rm"]
        script = f"set -e\n{before}\ndpkg --verify"
        done = subprocess.run(
            [*line, "--network=none", "--entrypoint=sh", SERVER, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
    return changed_packaged(done.stdout)


def test_a_new_server_is_as_its_packages_say() -> None:
    assert verify() == []


def test_a_changed_program_and_a_removed_unit_are_found_and_nothing_else() -> None:
    assert sorted(verify(CHANGES)) == [
        "/lib/systemd/system/ssh.service is gone",
        "/usr/sbin/sshd differs",
    ]
