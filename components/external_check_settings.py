"""Settings of the checks from outside, and the key that makes them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from components.setting_base import PROJECT, Endpoint, Model, Token, wrong

UPTIMEROBOT_URL = "https://api.uptimerobot.com/v2"
UPTIMEROBOT_KEY = Token(
    "OVERLORD_UPTIMEROBOT_KEY",
    f"{PROJECT}:uptimerobotKey",
    "main API key of the UptimeRobot account",
)


def _contact(value: str) -> str:
    if not value.isdigit():
        raise wrong("this is no id of an alert contact")
    return value


def _somebody(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise wrong("nobody would be told")
    return tuple(sorted(set(values)))


class ExternalCheckSettings(Model):
    """Monitors at UptimeRobot: somebody outside who looks whether anybody is there."""

    alert_contacts: Annotated[
        tuple[Annotated[str, AfterValidator(_contact)], ...], AfterValidator(_somebody)
    ] = Field(
        description="ids of the account's alert contacts as text, such as ['2403924']; the API "
        "lists them (getAlertContacts)"
    )
    interval_seconds: int = Field(
        default=300, ge=30, le=86400, description="30 to 86400; the free plan allows 300 and more"
    )
    node_check: Literal["ping", "https"] = Field(
        default="ping",
        description="ping, or https where the nodes answer the whole internet with a certificate "
        "that it trusts",
    )
    endpoint: Endpoint = Field(
        default=UPTIMEROBOT_URL,
        description=f"nothing, or an https address such as {UPTIMEROBOT_URL}",
    )
