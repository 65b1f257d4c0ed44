"""A disk that fills up."""

from __future__ import annotations

from chaos.steps import OnNode, Place, Step, shell

_DATABASE = "/var/lib/docker/volumes/overlord_postgres-data/_data"
_STATE = "/var/lib/overlord"
_SMALL = "/srv/small"
# The agent first: it would start the server again.
_WITHOUT_WRITERS = (
    "systemctl stop overlord-agent",
    "docker stop overlord-postgres-1 >/dev/null",
)
_WITH_WRITERS = (
    "docker start overlord-postgres-1 >/dev/null",
    "systemctl start overlord-agent",
)


def onto_a_small_one(place: Place) -> list[Step]:
    """Move what must be durable onto a file system of its own with little room left."""
    return [
        shell(
            place.victim,
            f"mkdir -p {_SMALL}",
            f"used=$(du -sm {_DATABASE} {_STATE} | awk '{{sum += $1}} END {{print sum}}')",
            f"mount -t tmpfs -o size=$((used + 600))m small {_SMALL}",
            *_WITHOUT_WRITERS,
            f"for folder in {_DATABASE} {_STATE}; do",
            f"  cp -a $folder {_SMALL}/ && mount --bind {_SMALL}/$(basename $folder) $folder",
            "done",
            *_WITH_WRITERS,
        )
    ]


def off_the_small_one(place: Place) -> list[Step]:
    """And back to where it was."""
    return [
        shell(
            place.victim,
            *_WITHOUT_WRITERS,
            f"for folder in {_DATABASE} {_STATE}; do",
            "  umount $folder && find $folder -mindepth 1 -delete",
            f"  cp -a {_SMALL}/$(basename $folder)/. $folder/",
            "done",
            *_WITH_WRITERS,
            f"umount {_SMALL}",
        )
    ]


def fill(place: Place) -> list[Step]:
    """No room is left on it."""
    # Again and again: what PostgreSQL frees meanwhile is taken too.
    write = f"while :; do dd if=/dev/zero bs=64k >> {_SMALL}/full 2>/dev/null; sleep 0.1; done"
    return [OnNode(place.victim, ("systemd-run", "--unit=chaos-fill", "sh", "-c", write))]


def free(place: Place) -> list[Step]:
    """There is room again."""
    return [shell(place.victim, "systemctl stop chaos-fill", f"rm {_SMALL}/full")]
