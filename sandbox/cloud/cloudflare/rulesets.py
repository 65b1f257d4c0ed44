"""Rulesets of the zone, one a phase. Stored and validated, not run by the edge."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.cloud.cloudflare import answers
from sandbox.cloud.cloudflare.domain import CloudflareState, JsonObject, Ruleset, new_id, now
from sandbox.cloud.cloudflare.errors import CloudflareError

# Phase to the most rules and the actions of the free plan.
PHASES: dict[str, tuple[int, tuple[str, ...]]] = {
    "http_ratelimit": (1, ("block",)),
    "http_request_firewall_custom": (
        5,
        ("block", "challenge", "js_challenge", "managed_challenge", "skip"),
    ),
    "http_request_cache_settings": (10, ("set_cache_settings",)),
    "http_request_dynamic_redirect": (10, ("redirect",)),
    "http_request_transform": (10, ("rewrite",)),
    "http_response_headers_transform": (10, ("rewrite",)),
    "http_config_settings": (10, ("set_config",)),
}
FREE_PERIOD = 10
"""Seconds: the only rate limiting period of the free plan, and its block time."""


class Rulesets:
    """The routes under /zones/ZONE/rulesets."""

    def __init__(self, state: CloudflareState) -> None:
        self._rulesets = state.rulesets

    def routes(self) -> list[Route]:
        """Paths and what serves them."""
        many = "/zones/{zone}/rulesets"
        one, entry = f"{many}/{{id}}", f"{many}/phases/{{phase}}/entrypoint"
        return [
            Route(many, self.index, methods=["GET"]),
            Route(many, self.create, methods=["POST"]),
            Route(entry, self.get_entry, methods=["GET"]),
            Route(entry, self.put_entry, methods=["PUT"]),
            Route(one, self.get, methods=["GET"]),
            Route(one, self.replace, methods=["PUT"]),
            Route(one, self.delete, methods=["DELETE"]),
        ]

    async def index(self, request: Request) -> Response:
        """List, without the rules."""
        rows = [self._body(ruleset) for ruleset in self._rulesets.values()]
        return answers.one([{k: v for k, v in row.items() if k != "rules"} for row in rows])

    async def create(self, request: Request) -> Response:
        """Create the ruleset of a phase that has none."""
        given = await answers.posted(request)
        phase = _phase(given.get("phase"))
        if given.get("kind", "zone") != "zone":
            raise _refused("kind must be zone")
        if self._of(phase) is not None:
            raise _refused(f"a ruleset for the phase {phase} already exists in this zone")
        return self._store(None, phase, given)

    async def get(self, request: Request) -> Response:
        """Get one."""
        return answers.one(self._body(self._find(request)))

    async def replace(self, request: Request) -> Response:
        """Replace rules and description; the version goes up."""
        ruleset = self._find(request)
        return self._store(ruleset, ruleset.phase, await answers.posted(request))

    async def delete(self, request: Request) -> Response:
        """Delete."""
        del self._rulesets[self._find(request).id]
        return Response(status_code=204)

    async def get_entry(self, request: Request) -> Response:
        """Get the ruleset of a phase."""
        phase = _phase(request.path_params["phase"])
        ruleset = self._of(phase)
        if ruleset is None:
            message = f"could not find entrypoint ruleset in the {phase} phase"
            raise CloudflareError(404, 10003, message)
        return answers.one(self._body(ruleset))

    async def put_entry(self, request: Request) -> Response:
        """Create or replace the ruleset of a phase."""
        phase = _phase(request.path_params["phase"])
        return self._store(self._of(phase), phase, await answers.posted(request))

    def _store(self, old: Ruleset | None, phase: str, given: JsonObject) -> Response:
        time = now()
        rules = _rules(phase, given.get("rules") or [], time, old)
        ruleset = Ruleset(
            id=old.id if old else new_id(),
            name=given.get("name") or (old.name if old else "default"),
            description=given.get("description") or "",
            kind="zone",
            phase=phase,
            version=old.version + 1 if old else 1,
            last_updated=time,
            rules=rules,
        )
        self._rulesets[ruleset.id] = ruleset
        return answers.one(self._body(ruleset))

    def _body(self, ruleset: Ruleset) -> JsonObject:
        return {**ruleset.model_dump(), "version": str(ruleset.version)}

    def _of(self, phase: str) -> Ruleset | None:
        return next((r for r in self._rulesets.values() if r.phase == phase), None)

    def _find(self, request: Request) -> Ruleset:
        ruleset = self._rulesets.get(request.path_params["id"])
        if ruleset is None:
            raise CloudflareError(404, 10003, "could not find ruleset")
        return ruleset


def _rules(phase: str, given: list[Any], time: str, old: Ruleset | None) -> list[JsonObject]:
    most, actions = PHASES[phase]
    if len(given) > most:
        raise _refused(f"exceeded maximum number of rules in phase {phase}: {len(given)} of {most}")
    known = {rule["id"]: rule for rule in old.rules} if old else {}
    by_ref = {rule["ref"]: rule for rule in old.rules} if old else {}
    rules = []
    for rule in given:
        _check_rule(phase, rule, actions)
        before = known.get(rule.get("id")) or by_ref.get(rule.get("ref"))
        identifier = before["id"] if before else new_id()
        fixed = {
            "id": identifier,
            "ref": rule.get("ref") or identifier,
            "version": str(int(before["version"]) + 1) if before else "1",
            "last_updated": time,
            "enabled": rule.get("enabled", True),
        }
        rules.append({**{k: v for k, v in rule.items() if v is not None}, **fixed})
    return rules


def _check_rule(phase: str, rule: Any, actions: tuple[str, ...]) -> None:
    if not isinstance(rule, dict):
        raise _refused("a rule must be an object")
    if rule.get("action") not in actions:
        raise _refused(f"action must be one of {', '.join(actions)} in the phase {phase}")
    expression = rule.get("expression")
    if not isinstance(expression, str) or not expression or not _balanced(expression):
        raise _refused("expression could not be parsed")
    if phase == "http_ratelimit":
        _check_rate(rule.get("ratelimit"))


def _check_rate(rate: Any) -> None:
    if not isinstance(rate, dict) or not rate.get("characteristics"):
        raise _refused("ratelimit with characteristics is required")
    for name in ("period", "mitigation_timeout"):
        if rate.get(name) != FREE_PERIOD:
            raise _refused(
                f"not entitled to use the {name} {rate.get(name)}, "
                f"can only use a {name} among [{FREE_PERIOD}]"
            )


def _balanced(expression: str) -> bool:
    depth, quoted = 0, False
    for previous, character in zip(f" {expression}", expression, strict=False):
        if character == '"' and previous != "\\":
            quoted = not quoted
        elif not quoted:
            depth += (character in "({") - (character in ")}")
            if depth < 0:
                return False
    return depth == 0 and not quoted


def _phase(phase: object) -> str:
    if not isinstance(phase, str) or phase not in PHASES:
        raise _refused(f"unknown phase {phase}")
    return phase


def _refused(message: str) -> CloudflareError:
    return CloudflareError(400, 20217, message)
