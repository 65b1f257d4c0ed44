"""What certbot calls to prove a name by DNS-01: python3 -m overlord.tls.dns_hook auth|cleanup.

certbot's own Cloudflare plugin knows one address of the API; this one asks where the settings say.
The token comes from the node's secrets and may write DNS records of the one zone, nothing else.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from overlord.errors import OverlordError
from overlord.node import Acme, read_boot_settings, read_node
from overlord.paths import Paths

TTL_SECONDS = 60
REQUEST_SECONDS = 20.0
COMMENT = "overlord: proof for a certificate"


class ZoneApi:
    """TXT records of a zone, through Cloudflare's API."""

    def __init__(self, acme: Acme, token: str) -> None:
        self._records = f"{acme.dns_api}/zones/{acme.zone_id}/dns_records"
        self._token = token

    def add(self, name: str, content: str) -> None:
        """Make a record. Raises OverlordError."""
        body = {"type": "TXT", "name": name, "content": content, "ttl": TTL_SECONDS}
        self._call("POST", self._records, {**body, "comment": COMMENT})

    def remove(self, name: str, content: str) -> None:
        """Delete the records of that name and content. Raises OverlordError."""
        query = urllib.parse.urlencode({"type": "TXT", "name": name})
        for record in self._call("GET", f"{self._records}?{query}"):
            if record["content"].strip('"') == content:
                self._call("DELETE", f"{self._records}/{record['id']}")

    def _call(self, method: str, url: str, body: Any = None) -> Any:
        request = urllib.request.Request(  # noqa: S310 (the address is a setting, checked there)
            url,
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:  # noqa: S310
                return json.loads(answer.read())["result"]
        except urllib.error.HTTPError as error:
            said = error.read(500).decode(errors="replace")
            raise OverlordError(
                f"Cloudflare answered {error.code} to {method} of a DNS record: {said}",
                "check overlord:acmeDnsToken: it needs Zone DNS Edit for this zone",
            ) from None
        except (OSError, ValueError, KeyError) as error:
            raise OverlordError(
                f"Cloudflare's API does not answer: {error}", "it is tried again in some hours"
            ) from None


def run(
    verb: str,
    environment: Mapping[str, str],
    zone: ZoneApi,
    propagation: float,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Carry out what certbot asks for in its environment. Raises OverlordError."""
    name = f"_acme-challenge.{environment['CERTBOT_DOMAIN']}"
    content = environment["CERTBOT_VALIDATION"]
    if verb == "cleanup":
        zone.remove(name, content)
        return
    zone.add(name, content)
    # Once, when all records are made: the authority asks after the last hook.
    if environment.get("CERTBOT_REMAINING_CHALLENGES", "0") == "0":
        sleep(propagation)


def main() -> int:
    """0 when the record is as certbot wants it."""
    paths = Paths()
    try:
        acme = read_node(paths, read_boot_settings(paths)).acme
        if acme is None or len(sys.argv) != 2 or sys.argv[1] not in ("auth", "cleanup"):
            raise OverlordError("this is for certbot", "run `overlordctl certificate renew`")
        token = (paths.secrets / "acme_dns_token").read_text().strip()
        run(sys.argv[1], os.environ, ZoneApi(acme, token), acme.propagation_seconds)
    except (OverlordError, OSError) as error:
        print(f"overlord: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
