"""One HTTP call to a vendor's API, with errors that name the call and the remedy.

The providers do nearly everything. What they cannot do (ask which servers exist before the program
decides, lift a protection in the moment before a delete, clear away what an interrupted run left)
goes through here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pulumi
import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

TIMEOUT_SECONDS = 30
# Only what is younger than this can be the leftover of an interrupted run. Anything older may hold
# data or be in use, and is an operator's business.
LEFTOVER_AGE = timedelta(hours=24)


class VendorError(pulumi.RunError):
    """A vendor refused a call; the message names the call and the remedy."""


@dataclass(frozen=True)
class VendorApi:
    """Calls one vendor. The token never shows in a representation or an error.

    Args:
        vendor: name for messages, such as Hetzner.
        endpoint: base address, without a slash at the end.
        token: bearer token.
        token_remedy: how to set the token.
        endpoint_key: configuration key of the endpoint, for messages.
    """

    vendor: str
    endpoint: str
    token: str = field(repr=False)
    token_remedy: str
    endpoint_key: str

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        files: Mapping[str, tuple[str, str, str]] | None = None,
        missing_is_fine: bool = False,
    ) -> dict[str, Any]:
        """Make one call; the body of the answer, or {} if it has none.

        Args:
            method: HTTP method. Only GET is repeated after a passing fault.
            path: path below the endpoint.
            params: query.
            json: body.
            files: a multipart body instead: by part, file name, content and content type.
            missing_is_fine: whether 404 gives {} instead of an error.

        Raises:
            VendorError: no answer, or one that refuses.
        """
        retries = Retry(
            total=5,
            backoff_factor=0.5,
            status_forcelist=(429, 502, 503, 504),
            allowed_methods=("GET",),
            raise_on_status=False,
        )
        with requests.Session() as session:
            session.mount(self.endpoint, HTTPAdapter(max_retries=retries))
            session.headers["Authorization"] = f"Bearer {self.token}"
            try:
                answer = session.request(
                    method,
                    self.endpoint + path,
                    params=params,
                    json=json,
                    files=files,
                    timeout=TIMEOUT_SECONDS,
                )
            except requests.RequestException as error:
                raise VendorError(
                    f"{self.vendor}: no answer from {self.endpoint} ({type(error).__name__}). "
                    f"Check the network and {self.endpoint_key}, then run pulumi up again."
                ) from None
        if answer.status_code == 404 and missing_is_fine:
            return {}
        if answer.status_code == 401:
            raise VendorError(
                f"{self.vendor} refused the token (401). Set a valid one: {self.token_remedy}."
            )
        if answer.status_code == 403:
            raise VendorError(
                f"{self.vendor}: the token may not {method} {path} (403). "
                "Give it the rights that the README lists."
            )
        if not answer.ok:
            raise VendorError(
                f"{self.vendor}: {method} {path} answered {answer.status_code} "
                f"({_reason(answer)}). Run pulumi up again; if it stays, look at the vendor's "
                "status page."
            )
        try:
            body = answer.json() if answer.content else {}
        except ValueError:
            raise VendorError(
                f"{self.vendor}: {method} {path} answered with something that is no JSON. "
                f"Check {self.endpoint_key}."
            ) from None
        return body if isinstance(body, dict) else {"result": body}


def check_age(what: str, created: datetime, remedy: str) -> None:
    """Refuse to take something old for the leftover of an interrupted run.

    Args:
        what: the thing, for the message.
        created: when it was created.
        remedy: what the operator can do.

    Raises:
        VendorError: it is too old.
    """
    age = datetime.now(UTC) - created
    if age > LEFTOVER_AGE:
        raise VendorError(
            f"{what} exists at the vendor but not in this state, and is {age.days} days old. "
            f"It is not removed: it may be in use. {remedy}"
        )


def _reason(answer: requests.Response) -> str:
    try:
        body = answer.json()
    except ValueError:
        return "no reason given"
    if not isinstance(body, dict):
        return "no reason given"
    error = body.get("error")
    if isinstance(error, dict):
        return f"{error.get('code')}: {error.get('message')}"
    errors = body.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        return f"{errors[0].get('code')}: {errors[0].get('message')}"
    return str(body.get("message") or "no reason given")
