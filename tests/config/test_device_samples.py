"""The sample configurations for devices, taken by the programs that they are for."""

from __future__ import annotations

import re
import time
from pathlib import Path

import httpx
import pytest
import yaml

from stack.render import render_stack
from tests.support.api import ROOT
from tests.support.ports import free_port
from tests.support.programs import native, running
from tests.support.stack import VPS_01


def test_node_exporter_takes_the_samples_flags_and_stays_below_the_scrape_limit(
    tmp_path: Path,
) -> None:
    program = native("node_exporter")
    assert program is not None, "node_exporter is not in the cache: `make install` brings it"
    drop_in = (ROOT / "device/samples/node-exporter/overlord.conf").read_text()
    match = re.search(r"^ExecStart=/bin/sh -c '(.*?)'$", drop_in, re.DOTALL | re.MULTILINE)
    assert match is not None
    port = free_port()
    script = match[1].replace("\\\n", " ").replace("$$", "$")
    for old, new in (
        ("$(tailscale ip -4)", "127.0.0.1"),
        ("/usr/bin/prometheus-node-exporter", program),
        (":9100", f":{port}"),
        ("/var/lib/prometheus/node-exporter", str(tmp_path)),
    ):
        assert old in script
        script = script.replace(old, new)
    log = tmp_path / "log"
    with running(["/bin/sh", "-c", script], log) as process:
        deadline = time.monotonic() + 30
        while True:
            try:
                text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
                break
            except httpx.HTTPError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
    samples = [line for line in text.splitlines() if line and not line.startswith("#")]
    for name in ("node_cpu_seconds_total", "node_filesystem_avail_bytes", "node_load1"):
        assert any(line.startswith(name) for line in samples), name
    jobs = yaml.safe_load(render_stack(VPS_01)["prometheus/prometheus.yml"])["scrape_configs"]
    [limit] = [job["sample_limit"] for job in jobs if job["job_name"] == "device"]
    assert len(samples) < limit


@pytest.mark.parametrize("node", ["vps_01", "vps_02"])
def test_alloys_sample_sends_to_both_nodes_and_never_gives_up(node: str) -> None:
    """Alloy itself is on no package registry; its sample is read as text."""
    sample = (ROOT / "device/samples/alloy/config.alloy").read_text()
    assert sample.count("{") == sample.count("}")
    match = re.search(rf'loki\.write "{node}" {{(.*?)\n}}', sample, re.DOTALL)
    assert match is not None
    host = node.replace("_", "-")
    assert f'"http://{host}:3100/loki/api/v1/push"' in match[1]
    assert re.search(r"max_backoff_retries = 0\b", match[1])
    journal = re.search(rf'loki\.source\.journal "{node}" {{(.*?)\n}}', sample, re.DOTALL)
    assert journal is not None
    assert f"loki.process.{node}.receiver" in journal[1]
