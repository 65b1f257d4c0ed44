"""Settings that an intruder changes first, and what the system itself changes."""

import hashlib
from pathlib import Path

import pytest

from overlord.baseline import (
    CONFFILES,
    UNITS,
    baseline_follows,
    changed_settings,
    keep_baseline,
    read_settings,
)
from overlord.errors import OverlordError
from overlord.files import write_json
from overlord.integrity import check_files
from overlord.paths import Paths
from overlord.runner import Result
from tests.unit.overlord.fakes import FakeRunner

PASSWD = """\
root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
fleetadmin:x:1000:1000::/home/fleetadmin:/bin/bash
"""
SHADOW = "root:*:20000:0:99999:7:::\nfleetadmin:$y$j9T$aaa:20000:0:99999:7:::\n"
GROUP = "root:x:0:\nsudo:x:27:fleetadmin\nusers:x:100:\n"
SUDOERS = "root ALL=(ALL:ALL) ALL\n"
SSHD = "PermitRootLogin no\n"
SSH_UNIT = "lib/systemd/system/ssh.service"


class Node:
    """The files of a node, and what its dpkg says of them."""

    def __init__(self, root: Path) -> None:
        self.paths = Paths(root)
        self.paths.state.mkdir(parents=True)
        self.conffiles = {"/etc/sudoers": SUDOERS, "/etc/cron.d/sysstat": "# nothing\n"}
        self.write("etc/passwd", PASSWD)
        self.write("etc/shadow", SHADOW)
        self.write("etc/group", GROUP)
        self.write("etc/sudoers", SUDOERS)
        self.write("etc/cron.d/sysstat", "# nothing\n")
        self.write("etc/ssh/sshd_config", SSHD)
        self.write("etc/ssh/sshd_config.d/10-overlord.conf", "PasswordAuthentication no\n")
        self.write("home/fleetadmin/.ssh/authorized_keys", "ssh-ed25519 AAAA admin\n")
        self.write("var/lib/ucf/hashfile", f"{md5(SSHD)}  /etc/ssh/sshd_config\n")
        self.link("etc/systemd/system/sshd.service", f"/{SSH_UNIT}")
        self.runner = FakeRunner(
            {
                CONFFILES.line: lambda _: Result(0, self._conffiles()),
                UNITS.line: Result(0, f"openssh-server: /usr/{SSH_UNIT}\n"),
            }
        )

    def _conffiles(self) -> str:
        return "".join(f"\n {path} {md5(text)}\n" for path, text in self.conffiles.items())

    def write(self, name: str, text: str) -> None:
        file = self.paths.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def add(self, name: str, text: str) -> None:
        self.write(name, (self.paths.root / name).read_text() + text)

    def link(self, name: str, target: str) -> None:
        file = self.paths.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.symlink_to(target)

    def keep(self) -> None:
        keep_baseline(self.paths, self.runner)

    def changed(self) -> list[str]:
        return changed_settings(self.paths, self.runner)


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node whose first boot has just ended."""
    made = Node(tmp_path)
    made.keep()
    assert made.changed() == []
    return made


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("etc/ssh/sshd_config.d/00-mine.conf", "PermitRootLogin yes\n"),
        ("etc/sudoers.d/mine", "evil ALL=(ALL) NOPASSWD: ALL\n"),
        ("etc/systemd/system/mine.service", "[Service]\nExecStart=/mine\n"),
        ("etc/systemd/system/ssh.service.d/mine.conf", "[Service]\nExecStartPost=/mine\n"),
        ("etc/cron.d/mine", "* * * * * root /mine\n"),
        ("var/spool/cron/crontabs/root", "* * * * * /mine\n"),
        ("root/.ssh/authorized_keys", "ssh-ed25519 AAAA evil\n"),
        ("etc/ld.so.preload", "/mine.so\n"),
        ("etc/docker/daemon.json", '{"hosts": ["tcp://0.0.0.0"]}\n'),
        ("etc/apt/sources.list.d/mine.list", "deb https://mine.example.com stable main\n"),
        ("etc/pam.d/common-auth", "auth sufficient pam_permit.so\n"),
        ("usr/local/bin/ls", "#!/bin/sh\n"),
    ],
)
def test_what_an_intruder_puts_there_is_new(node: Node, name: str, text: str) -> None:
    node.write(name, text)
    assert node.changed() == [f"/{name} is new"]


@pytest.mark.parametrize(
    "name",
    [
        "etc/sudoers",
        "etc/cron.d/sysstat",
        "etc/ssh/sshd_config",
        "etc/ssh/sshd_config.d/10-overlord.conf",
        "home/fleetadmin/.ssh/authorized_keys",
    ],
)
def test_a_setting_that_was_there_differs_whoever_put_it_there(node: Node, name: str) -> None:
    node.add(name, "# mine\n")
    assert node.changed() == [f"/{name} differs"]


def test_a_setting_of_ours_that_is_gone_is_missed(node: Node) -> None:
    (node.paths.root / "etc/ssh/sshd_config.d/10-overlord.conf").unlink()
    assert node.changed() == ["/etc/ssh/sshd_config.d/10-overlord.conf is gone"]


def test_a_link_to_what_belongs_to_no_package_is_new(node: Node) -> None:
    node.link("etc/systemd/system/multi-user.target.wants/mine.service", "/opt/mine.service")
    node.link("etc/systemd/system/auditd.service", "/dev/null")
    assert node.changed() == [
        "/etc/systemd/system/auditd.service is new",
        "/etc/systemd/system/multi-user.target.wants/mine.service is new",
    ]


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("etc/passwd", "evil:x:1001:1001::/home/evil:/bin/sh\n", "/etc/passwd, evil is new"),
        ("etc/passwd", "toor:x:0:0::/root:/usr/sbin/nologin\n", "/etc/passwd, toor is new"),
        ("etc/passwd", "evil:x:1001:1001::/home/evil:\n", "/etc/passwd, evil is new"),
        ("etc/shadow", "daemon::20000:0:99999:7:::\n", "/etc/shadow, daemon is new"),
        ("etc/group", "docker:x:999:evil\n", "/etc/group, docker is new"),
    ],
)
def test_an_account_that_can_log_in_is_new(node: Node, name: str, text: str, found: str) -> None:
    node.add(name, text)
    assert node.changed() == [found]


def test_a_password_a_shell_and_the_members_of_a_powerful_group_differ(node: Node) -> None:
    node.write("etc/passwd", PASSWD.replace("usr/sbin:/usr/sbin/nologin", "usr/sbin:/bin/sh"))
    node.write("etc/shadow", SHADOW.replace("aaa", "bbb").replace("root:*:", "root:$y$j9T$c:"))
    node.write("etc/group", GROUP.replace("fleetadmin", "fleetadmin,daemon"))
    assert node.changed() == [
        "/etc/group, sudo differs",
        "/etc/passwd, daemon is new",
        "/etc/shadow, fleetadmin differs",
        "/etc/shadow, root is new",
    ]


def test_what_an_update_changes_by_itself_is_as_it_should_be(node: Node) -> None:
    # Settings of packages: changed, come, gone, and the ones that were not taken over.
    node.conffiles["/etc/sudoers"] = "root ALL=(ALL) ALL\n"
    node.write("etc/sudoers", "root ALL=(ALL) ALL\n")
    node.conffiles["/etc/pam.d/new"] = "auth required pam_unix.so\n"
    node.write("etc/pam.d/new", "auth required pam_unix.so\n")
    del node.conffiles["/etc/cron.d/sysstat"]
    (node.paths.root / "etc/cron.d/sysstat").unlink()
    node.write("etc/ssh/sshd_config", "PermitRootLogin no\n# newer\n")
    node.write("var/lib/ucf/hashfile", f"{md5(SSHD + '# newer' + chr(10))}  /etc/ssh/sshd_config\n")
    node.write("etc/sudoers.d/ours.dpkg-dist", "# newer\n")
    # System accounts, and links to units of packages, by either of the two names of /lib.
    node.add("etc/passwd", "_chrony:x:101:101::/var/lib/chrony:/usr/sbin/nologin\n")
    node.add("etc/shadow", "_chrony:!:20000::::::\n")
    node.add("etc/group", "_chrony:x:101:\nmessagebus:x:102:daemon\n")
    node.link("etc/systemd/system/multi-user.target.wants/ssh.service", f"/usr/{SSH_UNIT}")
    node.link("etc/systemd/system/snap-core24-7.mount", "/nowhere")
    # The day of the last change of a password is no change of it.
    node.write("etc/shadow", (node.paths.root / "etc/shadow").read_text().replace("20000", "20001"))
    assert node.changed() == []


def test_the_baseline_follows_what_a_release_changes_and_nothing_else(node: Node) -> None:
    node.write("etc/sudoers.d/mine", "evil ALL=(ALL) NOPASSWD: ALL\n")
    with baseline_follows(node.paths, node.runner):
        node.write("etc/ssh/sshd_config.d/10-overlord.conf", "Port 2222\n")
        node.write("etc/docker/daemon.json", "{}\n")
        (node.paths.root / "home/fleetadmin/.ssh/authorized_keys").unlink()
    assert node.changed() == ["/etc/sudoers.d/mine is new"]
    (node.paths.root / "etc/sudoers.d/mine").unlink()
    assert node.changed() == []


def test_the_baseline_follows_a_release_that_fails_and_the_way_back(node: Node) -> None:
    ours = "etc/ssh/sshd_config.d/10-overlord.conf"
    before = (node.paths.root / ours).read_text()

    def fail() -> None:
        with baseline_follows(node.paths, node.runner):
            node.write(ours, "Port 2222\n")
            raise OverlordError("it is not healthy", "go back")

    with pytest.raises(OverlordError, match="not healthy"):
        fail()
    assert node.changed() == []
    with baseline_follows(node.paths, node.runner):
        node.write(ours, before)
    assert node.changed() == []


def test_what_a_killed_release_changed_is_made_up_for_by_the_next_one(node: Node) -> None:
    write_json(node.paths.settings_before, read_settings(node.paths, node.runner))
    node.write("etc/docker/daemon.json", "{}\n")
    assert node.changed() == ["/etc/docker/daemon.json is new"]
    with baseline_follows(node.paths, node.runner):
        pass
    assert node.changed() == []
    assert not node.paths.settings_before.exists()


def test_a_node_from_before_has_its_baseline_with_its_next_release(tmp_path: Path) -> None:
    node = Node(tmp_path)
    assert node.changed() == []
    with baseline_follows(node.paths, node.runner):
        node.write("etc/docker/daemon.json", "{}\n")
    assert node.changed() == []
    node.add("etc/docker/daemon.json", "\n")
    assert node.changed() == ["/etc/docker/daemon.json differs"]


def test_a_first_boot_that_is_carried_on_does_not_forget_the_baseline(node: Node) -> None:
    node.write("etc/sudoers.d/mine", "evil ALL=(ALL) NOPASSWD: ALL\n")
    node.keep()
    assert node.changed() == ["/etc/sudoers.d/mine is new"]


def test_where_dpkg_does_not_answer_nothing_is_claimed(node: Node) -> None:
    node.runner.answers = {CONFFILES.line: Result(2, errors="locked")}
    with pytest.raises(OverlordError, match="dpkg-query"):
        node.changed()


def test_settings_are_part_of_the_daily_check(node: Node) -> None:
    node.write("etc/ld.so.preload", "/mine.so\n")
    found = check_files(node.paths, node.runner, lambda: 1.0, lambda _: None)
    assert found.files == ("/etc/ld.so.preload is new",)
