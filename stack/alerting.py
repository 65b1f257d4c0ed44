"""Where alerts go: which channels exist, and the secrets that they need on the node.

Nothing secret is here. Each address or key that opens a channel is a file on the node, named below.
"""

from __future__ import annotations

from dataclasses import dataclass

SMTP_PASSWORD = "alert_smtp_password"  # noqa: S105 (a file name)
SLACK_URL = "alert_slack_url"
DISCORD_URL = "alert_discord_url"
PAGERDUTY_KEY = "alert_pagerduty_key"
OPSGENIE_KEY = "alert_opsgenie_key"
SMS_URL = "alert_sms_url"
SMS_TOKEN = "alert_sms_token"  # noqa: S105 (a file name)
HEARTBEAT_URL = "alert_heartbeat_url"


@dataclass(frozen=True)
class Email:
    """Mail through one SMTP server.

    Args:
        to: addresses that get every alert.
        sender: address in From.
        smarthost: host:port; on port 465 the connection is encrypted from its beginning.
        username: login at the server, whose password is the secret SMTP_PASSWORD; None for none.
        require_tls: whether a connection that cannot be encrypted is given up.
    """

    to: tuple[str, ...]
    sender: str
    smarthost: str
    username: str | None = None
    require_tls: bool = True


@dataclass(frozen=True)
class Slack:
    """An incoming webhook.

    Args:
        channel: another channel than the webhook's own, for old webhooks that allow it.
    """

    channel: str | None = None


@dataclass(frozen=True)
class PagerDuty:
    """Events API v2.

    Args:
        url: address of the events API of the account's region.
    """

    url: str


@dataclass(frozen=True)
class Opsgenie:
    """Alert API.

    Args:
        url: address of the API of the account's region, with a slash at its end.
    """

    url: str


@dataclass(frozen=True)
class Sms:
    """A gateway that takes Alertmanager's webhook and sends short messages.

    Args:
        bearer: whether requests carry the secret SMS_TOKEN as a bearer token.
    """

    bearer: bool = False


@dataclass(frozen=True)
class AlertChannels:
    """The channels of people, and the dead man's switch of each node.

    Args:
        email: mail, or None.
        slack: chat, or None.
        discord: whether the chat has a webhook.
        pagerduty: pager, or None.
        opsgenie: pager, or None.
        sms: short messages, or None.
        heartbeat: whether each node tells its dead man's switch that it lives.
        runbooks: address of docs/runbooks, for links in messages; None for the bare path.
    """

    email: Email | None = None
    slack: Slack | None = None
    discord: bool = False
    pagerduty: PagerDuty | None = None
    opsgenie: Opsgenie | None = None
    sms: Sms | None = None
    heartbeat: bool = False
    runbooks: str | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """Names of the secret files that these channels read, sorted."""
        needed = {
            SMTP_PASSWORD: self.email is not None and self.email.username is not None,
            SLACK_URL: self.slack is not None,
            DISCORD_URL: self.discord,
            PAGERDUTY_KEY: self.pagerduty is not None,
            OPSGENIE_KEY: self.opsgenie is not None,
            SMS_URL: self.sms is not None,
            SMS_TOKEN: self.sms is not None and self.sms.bearer,
            HEARTBEAT_URL: self.heartbeat,
        }
        return tuple(sorted(name for name, wanted in needed.items() if wanted))


NO_CHANNELS = AlertChannels()
