"""Production keeps its state in a B2 bucket; here the sandbox's strict S3 stands for it."""

from __future__ import annotations

from pathlib import Path

from sandbox.world import S3_URL
from tests.e2e.sandbox_world import SandboxWorld, command

BUCKET = "overlord-state"


def test_the_state_can_live_in_a_b2_bucket(pair: SandboxWorld, tmp_path: Path) -> None:
    pair.s3.create_bucket(Bucket=BUCKET)
    try:
        (tmp_path / "Pulumi.yaml").write_text(
            "name: kept\nruntime: {name: python, options: {virtualenv: .venv}}\n"
        )
        (tmp_path / "__main__.py").write_text('import pulumi\npulumi.export("kept", "yes")\n')
        (tmp_path / ".venv").symlink_to(Path(".venv").absolute())
        endpoint = S3_URL.removeprefix("https://")
        env = {
            **pair.env,
            "PULUMI_BACKEND_URL": f"s3://{BUCKET}?endpoint={endpoint}&s3ForcePathStyle=true"
            "&region=eu-central-003",
            "AWS_ACCESS_KEY_ID": pair.env["OVERLORD_B2_KEY_ID"],
            "AWS_SECRET_ACCESS_KEY": pair.env["OVERLORD_B2_KEY"],
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        }
        pulumi = str(pair.world.bin / "pulumi")

        def run(*arguments: str) -> str:
            return command([pulumi, *arguments], env=env, cwd=tmp_path, timeout=120).must().text

        run("stack", "init", "kept", "--non-interactive")
        run("up", "--yes", "--skip-preview", "--stack", "kept", "--non-interactive")
        assert run("stack", "output", "kept", "--stack", "kept").strip() == "yes"
        run("preview", "--expect-no-changes", "--stack", "kept", "--non-interactive")
        stored = [one["Key"] for one in pair.s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
        assert any(key.startswith(".pulumi/stacks/") for key in stored)
        assert not any(key.startswith(".pulumi/locks/") for key in stored)
    finally:
        versions = pair.s3.list_object_versions(Bucket=BUCKET)
        for kind in ("Versions", "DeleteMarkers"):
            for one in versions.get(kind, []):
                pair.s3.delete_object(Bucket=BUCKET, Key=one["Key"], VersionId=one["VersionId"])
        pair.s3.delete_bucket(Bucket=BUCKET)
