"""dpkg's own word on a server whose files and settings were changed."""

import subprocess
from pathlib import Path

from overlord.integrity import changed_packaged
from sandbox.world import World
from tests.support.programs import SERVER, docker_daemon

CHANGES = """
echo >> /usr/sbin/sshd
rm /usr/lib/systemd/system/ssh.service
echo >> /etc/ssh/sshd_config
echo >> /usr/local/bin/ours
"""


# What an update does to a node: a setting of a package that is new in both places, one that nobody
# took over, a system account, a unit that is switched on.
UPDATED = """
echo '# newer' >> /etc/pam.d/sshd
sum=$(md5sum < /etc/pam.d/sshd | cut -d ' ' -f 1)
sed -i "s|^ /etc/pam.d/sshd [0-9a-f]*| /etc/pam.d/sshd $sum|" /var/lib/dpkg/status
cp /etc/sudoers /etc/sudoers.d/README.dpkg-dist
useradd --system --shell /usr/sbin/nologin _newcomer
ln -sf /lib/systemd/system/ssh.service /etc/systemd/system/newcomer.service
"""
INTRUSION = """
echo 'PermitRootLogin yes' > /etc/ssh/sshd_config.d/00-mine.conf
echo '# mine' >> /etc/sudoers
useradd --non-unique --uid 0 --shell /bin/sh toor
usermod --append --groups shadow nobody
ln -s /opt/mine.service /etc/systemd/system/mine.service
"""
BASELINE = """
import sys
from overlord.baseline import changed_settings, keep_baseline
from overlord.paths import Paths
from overlord.runner import SystemRunner
if sys.argv[1] == "keep":
    keep_baseline(Paths(), SystemRunner())
else:
    print(*changed_settings(Paths(), SystemRunner()), sep="\\n")
"""


def on_a_server(script: str) -> str:
    """What a script says on a new server."""
    with docker_daemon():
        line = ["docker", f"--host=unix://{World.here().docker_socket}", "run", "--rm"]
        code = f"--volume={Path('overlord').absolute()}:/opt/code/overlord:ro"
        done = subprocess.run(
            [*line, code, "--network=none", "--entrypoint=sh", SERVER, "-ec", script],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
    return done.stdout


def verify(before: str = "") -> list[str]:
    """What is found on a new server after a script."""
    return changed_packaged(on_a_server(f"{before}\ndpkg --verify"))


def changed_after(before: str) -> list[str]:
    """What is found of the settings after a script."""
    python = f"PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/opt/code python3 -c '{BASELINE}'"
    return on_a_server(f"{python} keep\n{before}\n{python} look").splitlines()


def test_a_new_server_is_as_its_packages_say() -> None:
    assert verify() == []


def test_a_changed_program_and_a_removed_unit_are_found_and_nothing_else() -> None:
    assert sorted(verify(CHANGES)) == [
        "/lib/systemd/system/ssh.service is gone",
        "/usr/sbin/sshd differs",
    ]


def test_an_updates_own_changes_of_settings_are_none() -> None:
    assert changed_after("test -s /var/lib/overlord/baseline.json") == [""]
    assert changed_after(UPDATED) == [""]


def test_what_an_intruder_changes_first_is_found_beside_an_update() -> None:
    assert changed_after(UPDATED + INTRUSION) == [
        "/etc/group, shadow is new",
        "/etc/passwd, toor is new",
        "/etc/ssh/sshd_config.d/00-mine.conf is new",
        "/etc/sudoers differs",
        "/etc/systemd/system/mine.service is new",
    ]
