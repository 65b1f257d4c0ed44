"""Settings of the alert channels, and the credentials that open them.

A map under `overlord:alerts` says which channels exist. What opens a channel (a password, a key, a
webhook's address) is never in that map: each is a secret of its own, from the configuration or the
environment, and goes to the nodes as a file.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from components.setting_base import (
    PROJECT,
    Endpoint,
    Model,
    Token,
    host_name,
    is_loopback,
    wrong,
)
from stack import alerting

_ADDRESS = re.compile(r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+$")
_SLACK_CHANNEL = re.compile(r"^[#@][^\s#@]{1,80}$")


def _mail_address(value: str) -> str:
    if not _ADDRESS.match(value):
        raise wrong("this is no plain mail address")
    return value


def _smarthost(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise wrong("there is no port at its end")
    if not is_loopback(host.strip("[]")) and not _is_address(host):
        host_name(host)
    return value


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _slack_channel(value: str) -> str:
    if not _SLACK_CHANNEL.match(value):
        raise wrong("this is no channel of Slack")
    return value


def _some(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise wrong("nobody would get a mail")
    return values


MailAddress = Annotated[str, AfterValidator(_mail_address)]


class EmailSettings(Model):
    """Mail through one SMTP server."""

    to: Annotated[tuple[MailAddress, ...], AfterValidator(_some)] = Field(
        description="addresses that get every alert, such as [oncall@example.com]"
    )
    sender: MailAddress = Field(
        alias="from", description="the address in From, such as overlord@example.com"
    )
    smarthost: Annotated[str, AfterValidator(_smarthost)] = Field(
        description="the mail server as host:port, such as smtp.example.com:587"
    )
    username: str | None = Field(
        default=None,
        min_length=1,
        description="the login at the mail server, or nothing; its password is the secret "
        f"{PROJECT}:alertSmtpPassword",
    )
    require_tls: bool = Field(
        default=True, description="false only for a relay on the node's own network, without login"
    )


class SlackSettings(Model):
    """An incoming webhook of Slack."""

    channel: Annotated[str, AfterValidator(_slack_channel)] | None = Field(
        default=None,
        description="nothing, or another channel than the webhook's own, such as '#fleet'",
    )


class DiscordSettings(Model):
    """A webhook of Discord."""


class PagerDutySettings(Model):
    """PagerDuty's Events API v2."""

    url: Endpoint = Field(
        default="https://events.pagerduty.com/v2/enqueue",
        description="nothing, or https://events.eu.pagerduty.com/v2/enqueue for an account there",
    )


class OpsgenieSettings(Model):
    """Opsgenie's Alert API."""

    url: Endpoint = Field(
        default="https://api.opsgenie.com",
        description="nothing, or https://api.eu.opsgenie.com for an account there",
    )


class SmsSettings(Model):
    """A gateway that takes Alertmanager's webhook."""

    bearer: bool = Field(
        default=False,
        description=f"true to send the secret {PROJECT}:alertSmsToken as a bearer token",
    )


class HeartbeatSettings(Model):
    """A dead man's switch for each node."""


class AlertSettings(Model):
    """Where alerts go. Nothing by default."""

    email: EmailSettings | None = Field(
        default=None, description="a map with to, from, smarthost and username"
    )
    slack: SlackSettings | None = Field(
        default=None, description="a map, {} for the webhook's own channel"
    )
    discord: DiscordSettings | None = Field(default=None, description="{} to use it")
    pagerduty: PagerDutySettings | None = Field(default=None, description="{} to use it")
    opsgenie: OpsgenieSettings | None = Field(default=None, description="{} to use it")
    sms: SmsSettings | None = Field(default=None, description="a map, {} to use it")
    heartbeat: HeartbeatSettings | None = Field(default=None, description="{} to use it")
    runbooks: Endpoint | None = Field(
        default=None,
        description="https address of docs/runbooks in your copy of this repository, for links "
        "in messages",
    )

    @property
    def channels(self) -> alerting.AlertChannels:
        """What the stack is rendered from."""
        mail = self.email
        return alerting.AlertChannels(
            email=alerting.Email(
                to=mail.to,
                sender=mail.sender,
                smarthost=mail.smarthost,
                username=mail.username,
                require_tls=mail.require_tls,
            )
            if mail
            else None,
            slack=alerting.Slack(self.slack.channel) if self.slack else None,
            discord=self.discord is not None,
            pagerduty=alerting.PagerDuty(self.pagerduty.url) if self.pagerduty else None,
            opsgenie=alerting.Opsgenie(f"{self.opsgenie.url}/") if self.opsgenie else None,
            sms=alerting.Sms(self.sms.bearer) if self.sms else None,
            heartbeat=self.heartbeat is not None,
            runbooks=self.runbooks,
        )


_SECRETS: Mapping[str, Token] = {
    alerting.SMTP_PASSWORD: Token(
        "OVERLORD_ALERT_SMTP_PASSWORD",
        f"{PROJECT}:alertSmtpPassword",
        "password of the mail server's login",
    ),
    alerting.SLACK_URL: Token(
        "OVERLORD_ALERT_SLACK_URL", f"{PROJECT}:alertSlackUrl", "address of Slack's webhook"
    ),
    alerting.DISCORD_URL: Token(
        "OVERLORD_ALERT_DISCORD_URL", f"{PROJECT}:alertDiscordUrl", "address of Discord's webhook"
    ),
    alerting.PAGERDUTY_KEY: Token(
        "OVERLORD_ALERT_PAGERDUTY_KEY",
        f"{PROJECT}:alertPagerdutyKey",
        "integration key of PagerDuty's Events API v2",
    ),
    alerting.OPSGENIE_KEY: Token(
        "OVERLORD_ALERT_OPSGENIE_KEY", f"{PROJECT}:alertOpsgenieKey", "key of Opsgenie's API"
    ),
    alerting.SMS_URL: Token(
        "OVERLORD_ALERT_SMS_URL", f"{PROJECT}:alertSmsUrl", "address of the short message gateway"
    ),
    alerting.SMS_TOKEN: Token(
        "OVERLORD_ALERT_SMS_TOKEN",
        f"{PROJECT}:alertSmsToken",
        "bearer token of the short message gateway",
    ),
}
_ADDRESSES = (
    alerting.SLACK_URL,
    alerting.DISCORD_URL,
    alerting.SMS_URL,
    alerting.HEARTBEAT_URL,
)


def heartbeat_token(node: str) -> Token:
    """The address of a node's dead man's switch."""
    words = node.split("-")
    return Token(
        f"OVERLORD_HEARTBEAT_URL_{'_'.join(words).upper()}",
        f"{PROJECT}:heartbeatUrl{''.join(word.capitalize() for word in words)}",
        f"address of the dead man's switch of {node}",
    )


def alert_tokens(nodes: tuple[str, ...]) -> tuple[Token, ...]:
    """Every credential that a channel may need."""
    return (*_SECRETS.values(), *map(heartbeat_token, nodes))


def alert_secrets(alerts: AlertSettings, node: str) -> dict[str, str]:
    """Contents of a node's secret files for the channels in use, by name."""
    return {name: _token(name, node).value() or "" for name in alerts.channels.secrets}


def credential_mistakes(
    alerts: AlertSettings, nodes: tuple[str, ...], values: Mapping[str, str | None]
) -> Iterator[tuple[Token, str, str]]:
    """Credentials that the channels in use need and that are missing or cannot be right.

    Args:
        alerts: the channels.
        nodes: names of the nodes.
        values: credentials by environment variable.

    Yields:
        The credential, what is wrong (never its value), what would be right.
    """
    wanted = {_token(name, node): name for name in alerts.channels.secrets for node in nodes}
    for token, name in wanted.items():
        value = values.get(token.variable)
        if not value:
            yield (
                token,
                f"missing: {token.purpose}",
                f"{token.remedy}, or take the channel out of {PROJECT}:alerts",
            )
        elif name in _ADDRESSES and not _may_be_sent_to(value):
            yield (
                token,
                "it is no address that a message may be sent to",
                "an https address, as the service shows it",
            )
    if alerts.heartbeat and len(nodes) > len(
        {values.get(heartbeat_token(node).variable) for node in nodes}
    ):
        yield (
            heartbeat_token(nodes[-1]),
            "both nodes would feed the same dead man's switch, so neither's death would be noticed",
            "a switch of its own for each node",
        )


def _token(name: str, node: str) -> Token:
    return heartbeat_token(node) if name == alerting.HEARTBEAT_URL else _SECRETS[name]


def _may_be_sent_to(address: str) -> bool:
    """Encrypted, or on a network of one's own: the address itself is the credential."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        return False
    if re.search(r"\s", address) or not host:
        return False
    if parts.scheme == "http":
        return is_loopback(host) or (_is_address(host) and not ipaddress.ip_address(host).is_global)
    return parts.scheme == "https"
