"""Where the pair keeps what must survive it: backups, bundles and logs at Backblaze B2."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from components.s3_bucket import LifecycleRule, S3Bucket
from components.settings import BUNDLES, DATA, LOGS, Backup, SecondRepository, bucket_name

# A launch ticket's sealed secrets are read once, within the hour.
_BOOT_DAYS = 1


@dataclass(frozen=True)
class BackupStoreArgs:
    """What the store is made from.

    Args:
        backup: endpoint, names and durations.
        protect: whether the buckets may not be deleted.
    """

    backup: Backup
    protect: bool


class BackupStore(pulumi.ComponentResource):
    """Three buckets: data and bundles under Object Lock, logs without. Where there is a second
    repository, one more as the first: None where there is not."""

    data: pulumi.Output[str]
    second: pulumi.Output[str] | None
    bundles: pulumi.Output[str]
    logs: pulumi.Output[str]
    buckets: dict[str, pulumi.Output[str]]
    """All of them by these names."""

    def __init__(
        self, name: str, args: BackupStoreArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("overlord:index:BackupStore", name, None, opts)
        backup = args.backup
        hidden = backup.hidden_version_days
        data_rules = [
            # pgBackRest knows which full backup a later one still needs; age alone does not.
            LifecycleRule("database/", 0, hidden),
            LifecycleRule("metrics/", backup.metrics_retention_days, hidden),
            LifecycleRule("config/", 0, hidden),
        ]
        self.data = self._bucket(
            name, DATA, args, lock_days=backup.object_lock_days, lifecycle=data_rules
        )
        self.second = None
        if backup.second:
            self.second = self._bucket(
                name,
                DATA,
                args,
                lock_days=backup.object_lock_days,
                lifecycle=data_rules,
                second=backup.second,
            )
        self.bundles = self._bucket(
            name,
            BUNDLES,
            args,
            lock_days=backup.object_lock_days,
            lifecycle=[
                LifecycleRule("bundles/", 0, hidden),
                LifecycleRule("boot/", _BOOT_DAYS, _BOOT_DAYS),
            ],
        )
        self.logs = self._bucket(
            name,
            LOGS,
            args,
            lock_days=0,
            lifecycle=[LifecycleRule("logs/", backup.log_retention_days, 1)],
        )
        self.buckets = {"data": self.data, "bundles": self.bundles, "logs": self.logs}
        if self.second is not None:
            self.buckets["second"] = self.second
        self.register_outputs(self.buckets)

    def _bucket(
        self,
        name: str,
        purpose: str,
        args: BackupStoreArgs,
        *,
        lock_days: int,
        lifecycle: list[LifecycleRule],
        second: SecondRepository | None = None,
    ) -> pulumi.Output[str]:
        backup = args.backup
        place = second or backup
        bucket = bucket_name(place.bucket_prefix, purpose)
        goes = bucket in backup.force_destroy
        return S3Bucket(
            f"{name}-{'second-' if second else ''}{purpose}",
            endpoint=place.endpoint,
            region=place.region,
            name=bucket,
            lock_days=lock_days,
            lock_mode=backup.object_lock_mode,
            lifecycle=lifecycle,
            adopt=backup.adopt,
            force_destroy=goes,
            account="second" if second else "",
            # A destroy takes the rest down and leaves it where it is. The second repository can be
            # switched off: then its bucket leaves the state and stays too.
            opts=pulumi.ResourceOptions(
                parent=self,
                protect=args.protect and (goes or not second),
                retain_on_delete=not goes,
            ),
        ).name
