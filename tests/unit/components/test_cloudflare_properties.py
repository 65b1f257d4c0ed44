"""The thin Cloudflare resources use the names of the installed SDK."""

import ast
import importlib.util
import re
from functools import cache
from pathlib import Path

import pytest

from components import cloudflare

RESOURCES = [
    cloudflare.DnsRecord,
    cloudflare.ZoneSetting,
    cloudflare.LoadBalancerMonitor,
    cloudflare.LoadBalancerPool,
    cloudflare.LoadBalancer,
    cloudflare.Ruleset,
    cloudflare.OriginCaCertificate,
    cloudflare.WorkersScript,
    cloudflare.WorkersCronTrigger,
    cloudflare.WorkersCustomDomain,
]


def sdk() -> Path:
    spec = importlib.util.find_spec("pulumi_cloudflare")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


@cache
def module(file: str) -> ast.Module:
    return ast.parse((sdk() / file).read_text())


def properties(file: str, class_name: str) -> dict[str, str]:
    """Wire name by Python name of a generated class, without importing it: that takes seconds."""
    (found,) = [
        node
        for node in module(file).body
        if isinstance(node, ast.ClassDef) and node.name == class_name
    ]
    names = {}
    for method in found.body:
        if isinstance(method, ast.FunctionDef):
            for decorator in method.decorator_list:
                text = ast.unparse(decorator)
                if text.startswith("pulumi.getter"):
                    wire = re.search(r"name='(\w+)'", text)
                    names[method.name] = wire.group(1) if wire else method.name
    return names


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.__name__)
def test_every_property_exists_in_the_sdk(resource: type[cloudflare.CloudflareResource]) -> None:
    name = resource.__name__
    inputs = set(properties(f"{snake(name)}.py", f"{name}Args").values())
    assert set(resource.INPUTS) <= inputs
    outputs = set(properties(f"{snake(name)}.py", name).values())
    assert {*resource.INPUTS, *resource.OUTPUTS} <= outputs


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.__name__)
def test_every_type_token_is_that_of_the_sdk(resource: type[cloudflare.CloudflareResource]) -> None:
    source = (sdk() / f"{snake(resource.__name__)}.py").read_text()
    assert f"'{resource.TOKEN}'" in source


@pytest.mark.parametrize(
    ("class_name", "used"),
    [
        ("DnsRecordDataArgs", {"flags", "tag", "value"}),
        ("LoadBalancerPoolOriginArgs", {"name", "address", "enabled", "weight", "header"}),
        ("LoadBalancerPoolOriginHeaderArgs", {"hosts"}),
        ("WorkersScriptBindingArgs", {"name", "type", "text", "className"}),
        ("WorkersCronTriggerScheduleArgs", {"cron"}),
        (
            "RulesetRuleArgs",
            {"action", "actionParameters", "expression", "description", "enabled", "ratelimit"},
        ),
        ("RulesetRuleActionParametersArgs", {"products"}),
        (
            "RulesetRuleRatelimitArgs",
            {"characteristics", "period", "requestsPerPeriod", "mitigationTimeout"},
        ),
    ],
)
def test_every_nested_property_exists_in_the_sdk(class_name: str, used: set[str]) -> None:
    assert used <= set(properties("_inputs.py", class_name).values())


def test_the_function_for_ip_ranges_is_that_of_the_sdk() -> None:
    assert f"'{cloudflare.IP_RANGES_TOKEN}'" in (sdk() / "get_ip_ranges.py").read_text()
    wire = set(properties("get_ip_ranges.py", "GetIpRangesResult").values())
    assert {"ipv4Cidrs", "ipv6Cidrs"} <= wire
