"""Asks the services beside the API: node agents, Alertmanager, Loki."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import httpx

from dashboard.api.problems import ProblemError

_log = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 2.0


class Upstream:
    """One service, asked over HTTP.

    Args:
        client: shared by all.
        name: what people call the service.
        url: its base URL; None where this node has no such service.
    """

    def __init__(self, client: httpx.AsyncClient, name: str, url: str | None) -> None:
        self._client = client
        self._name = name
        self._url = url

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int] | None = None,
        body: object = None,
    ) -> Any:
        """The JSON that the service answers; None for an empty answer.

        Raises:
            ProblemError: 503 when it does not answer, 502 when it refuses, 404 when it says so.
        """
        if self._url is None:
            raise self._away("is not part of this node's stack")
        try:
            response = await self._client.request(
                method, f"{self._url}{path}", params=query, json=body, timeout=_TIMEOUT_SECONDS
            )
        except httpx.HTTPError as error:
            _log.warning("%s does not answer: %s", self._name, type(error).__name__)
            raise self._away("does not answer") from None
        if response.status_code == HTTPStatus.NOT_FOUND:
            raise ProblemError(
                HTTPStatus.NOT_FOUND, f"{self._name} knows no such thing.", reason="not_found"
            )
        if response.is_error:
            _log.warning("%s answered %s", self._name, response.status_code)
            raise ProblemError(
                HTTPStatus.BAD_GATEWAY,
                f"{self._name} refused: {response.text[:300]}",
                reason="upstream_refused",
            )
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError:
            raise self._away("answered something that is not JSON") from None

    def _away(self, what: str) -> ProblemError:
        return ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            f"{self._name} {what}.",
            reason="upstream_away",
            retry_after=10,
        )
