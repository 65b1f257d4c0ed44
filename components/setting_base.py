"""What the models of the settings share: their base, the form of a mistake, credentials."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

import pulumi
from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

PROJECT = "overlord"

LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST_NAME = re.compile(rf"^(?=.{{1,253}}$)({LABEL}\.)+{LABEL}$")


class Model(BaseModel):
    """A part of the settings: frozen, in camelCase, without names that are not its own."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )


def wrong(message: str) -> PydanticCustomError:
    """What a validator raises; the message is shown as it is."""
    # Braces would be read as placeholders of the template.
    return PydanticCustomError("overlord", "{message}", {"message": message})


def host_name(value: str) -> str:
    """A host name in lower case, with a dot."""
    if not _HOST_NAME.match(value):
        raise wrong(f"{value!r} is no host name in lower case")
    return value


def secret_endpoint(value: str) -> str:
    """An address that credentials are sent to: https, or http on this machine."""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise wrong(f"{value!r} is no http or https address")
    if parts.username or parts.password:
        raise wrong("the address holds credentials")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise wrong(f"{value} would send credentials unencrypted")
    return value.rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


HostName = Annotated[str, AfterValidator(host_name)]
Endpoint = Annotated[str, AfterValidator(secret_endpoint)]


@dataclass(frozen=True)
class Token:
    """A credential that the program or a provider needs.

    Args:
        variable: environment variable.
        key: configuration key that may hold it instead, as a secret.
        purpose: what it is for, for the error message.
    """

    variable: str
    key: str
    purpose: str

    @property
    def remedy(self) -> str:
        """How it is given."""
        return f"`export {self.variable}=…` or `pulumi config set --secret {self.key}`"

    def value(self) -> str | None:
        """The credential, from secret configuration or the environment."""
        namespace, name = self.key.split(":")
        return pulumi.Config(namespace).get(name) or os.environ.get(self.variable) or None
