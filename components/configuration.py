"""The only reader of configuration: every mistake is reported at once.

Each mistake names its configuration key, says what is wrong and what would be right.
"""

from __future__ import annotations

import contextlib
import difflib
import json
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pulumi
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from components.alert_settings import AlertSettings, credential_mistakes
from components.credentials import ACME_DNS_TOKEN, OPTIONAL_TOKENS, SECOND_TOKENS, TOKENS
from components.external_check_settings import UPTIMEROBOT_KEY
from components.setting_base import PROJECT
from components.setting_checks import arbiter_mistakes, cross_checks, missing_tokens
from components.setting_problems import PROVIDER_KEYS, Problem, SettingsError, key_of
from components.settings import NODES, Settings

# Configuration that other readers own: credentials above.
_SECRET_NAMES = {
    token.key.split(":")[1]
    for token in (*TOKENS, *OPTIONAL_TOKENS)
    if token.key.startswith(f"{PROJECT}:")
}
# Where a secret may stand by mistake: what was given there is not repeated in a message.
_NEVER_SHOWN = {"alerts", "externalChecks"}


def load_settings() -> Settings:
    """Read the stack's configuration.

    Raises:
        SettingsError: with every problem found.
    """
    tokens = (*TOKENS, *OPTIONAL_TOKENS)
    return parse_settings(_raw_config(), {token.variable: token.value() for token in tokens})


def parse_settings(raw: Mapping[str, Any], tokens: Mapping[str, str | None]) -> Settings:
    """Check raw values by camelCase name, and that every credential is there.

    Args:
        raw: values as in the configuration file.
        tokens: credentials by environment variable; None or empty counts as missing.

    Raises:
        SettingsError: with every problem found.
    """
    problems: list[Problem] = []
    settings: Settings | None = None
    try:
        settings = Settings.model_validate(raw)
        values: dict[str, Any] = {name: getattr(settings, name) for name in Settings.model_fields}
    except ValidationError as error:
        problems += [_from_pydantic(detail) for detail in error.errors()]
        values = _usable_values(raw)
    problems += cross_checks(values)
    problems += missing_tokens(tokens)
    problems += arbiter_mistakes(values, tokens)
    if isinstance(alerts := values.get("alerts"), AlertSettings):
        problems += [
            Problem(token.key, what, right)
            for token, what, right in credential_mistakes(alerts, NODES, tokens)
        ]
    if values.get("acme") and not tokens.get(ACME_DNS_TOKEN.variable):
        problems += missing_tokens(tokens, (ACME_DNS_TOKEN,))
    backup = values.get("backup")
    if backup and backup.second:
        problems += missing_tokens(tokens, SECOND_TOKENS)
    checks = values.get("external_checks")
    if checks and not tokens.get(UPTIMEROBOT_KEY.variable):
        problems += missing_tokens(tokens, (UPTIMEROBOT_KEY,))
    if checks and checks.node_check == "https" and values.get("web_sources") == "cloudflare":
        problems.append(
            Problem(
                f"{PROJECT}:externalChecks.nodeCheck",
                "overlord:webSources is cloudflare, so nobody else reaches a node by https",
                "ping, or overlord:webSources set to everywhere",
            )
        )
    if problems or settings is None:
        raise SettingsError(problems)
    return settings


def _raw_config() -> dict[str, Any]:
    config = pulumi.Config(PROJECT)
    raw: dict[str, Any] = {}
    for name in _configured_names():
        if name in _SECRET_NAMES:
            continue
        text = config.get(name)
        field = _field_of(name)
        if text is not None:
            raw[name] = text if field and _is_text(field.annotation) else _parsed(text)
    for name, key in PROVIDER_KEYS.items():
        namespace, provider_name = key.split(":")
        text = pulumi.Config(namespace).get(provider_name)
        if text is not None:
            raw[name] = text
    # An empty value in the file means that it is not set.
    return {name: value for name, value in raw.items() if value != "" or name == "rebuild"}


def _configured_names() -> set[str]:
    """Names under this project, misspelt ones too: the typed Config cannot list them."""
    from pulumi.runtime import config as runtime

    keys = set(runtime.CONFIG.get()) | set(runtime.get_config_env() or {})
    return {key.split(":", 1)[1] for key in keys if key.startswith(f"{PROJECT}:")}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _is_text(annotation: Any) -> bool:
    """Whether a value is text, and not JSON such as a number, a list or a map."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _is_text(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return all(part is NoneType or _is_text(part) for part in get_args(annotation))
    return annotation is str or origin is Literal


def _field_of(name: str) -> FieldInfo | None:
    return next((f for f in Settings.model_fields.values() if f.alias == name), None)


def _describe(path: tuple[int | str, ...]) -> tuple[str, list[str]]:
    """Description of the innermost known field on the path, and names known at its end."""
    model: type[BaseModel] | None = Settings
    right = "see Pulumi.yaml for the keys that exist"
    known: list[str] = []
    for part in path:
        if model is None:
            break
        known = [field.alias or name for name, field in model.model_fields.items()]
        field = next((f for f in model.model_fields.values() if f.alias == part), None)
        if field is None:
            break
        right = field.description or right
        model = _model_in(field.annotation)
    return right, known


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, also where it may be absent."""
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def _from_pydantic(detail: Any) -> Problem:
    path = tuple(part for part in detail["loc"] if part != "[key]")
    right, known = _describe(path)
    kind = detail["type"]
    if kind == "missing":
        return Problem(key_of(path), "it is not set", right)
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(path[-1]), known, n=1)
        return Problem(
            key_of(path),
            "there is no such setting",
            f"did you mean {near[0]}?" if near else "see Pulumi.yaml for the keys that exist",
        )
    if kind == "overlord":
        return Problem(key_of(path), detail["msg"], right)
    value = detail.get("input")
    plain = isinstance(value, str | int | float | bool) and path[0] not in _NEVER_SHOWN
    shown = f"{value!r}: " if plain else ""
    return Problem(key_of(path), f"{shown}{detail['msg'][:1].lower()}{detail['msg'][1:]}", right)


class _Draft(Settings):
    """Settings that are checked one by one."""

    model_config = ConfigDict(frozen=False)


def _usable_values(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are right by themselves, so that cross checks still speak about them."""
    draft = _Draft.model_construct()
    values: dict[str, Any] = {}
    for name, field in Settings.model_fields.items():
        if field.alias is not None and field.alias in raw:
            with contextlib.suppress(ValidationError):
                _Draft.__pydantic_validator__.validate_assignment(draft, name, raw[field.alias])
                values[name] = getattr(draft, name)
        elif not field.is_required():
            values[name] = field.get_default(call_default_factory=True)
    return values
