"""Asks each image's own registry whether the version that the catalogue names is there.

Run with `make images-check`; it needs the internet. It prints the digest behind each tag, so that
two runs show a tag that was moved.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field

import requests

from stack.catalogue import Catalogue, load_catalogue

TIMEOUT_SECONDS = 20
DOCKER_HUB = "docker.io"
# Docker Hub's registry has another address than the name that references give it.
_HOSTS = {DOCKER_HUB: "registry-1.docker.io"}
_ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class ImageError(Exception):
    """A registry does not have an image, or does not answer; the message names both."""


def references(catalogue: Catalogue) -> list[str]:
    """Every image that comes from someone else: those that run, and those that ours start from."""
    found = set()
    for image in catalogue.images.values():
        if image.build is not None:
            found.add(image.build.base)
        else:
            found.add(f"{image.registry}/{image.image}:{image.tag}")
    return sorted(found)


@dataclass(frozen=True)
class Registries:
    """Reads manifests as anybody may.

    Args:
        scheme: https, but in tests.
        session: the connections.
    """

    scheme: str = "https"
    session: requests.Session = field(default_factory=requests.Session)

    def digest(self, reference: str) -> str:
        """The digest behind a tag, such as sha256:….

        Raises:
            ImageError: the registry has no such image, or does not answer.
        """
        host, _, rest = reference.partition("/")
        name, _, tag = rest.rpartition(":")
        url = f"{self.scheme}://{_HOSTS.get(host, host)}/v2/{name}/manifests/{tag}"
        headers = {"Accept": _ACCEPT}
        try:
            answer = self.session.head(url, headers=headers, timeout=TIMEOUT_SECONDS)
            if answer.status_code == 401:
                headers["Authorization"] = f"Bearer {self._token(answer)}"
                answer = self.session.head(url, headers=headers, timeout=TIMEOUT_SECONDS)
        except requests.RequestException as error:
            raise ImageError(
                f"{reference}: {host} does not answer ({type(error).__name__})"
            ) from None
        if answer.status_code in (401, 404):
            raise ImageError(f"{reference}: {host} has no such image for the public; mend the tag")
        if not answer.ok:
            raise ImageError(f"{reference}: {host} answered {answer.status_code}; ask again later")
        return str(answer.headers.get("Docker-Content-Digest") or "without a digest")

    def _token(self, answer: requests.Response) -> str:
        """What an anonymous reader is given, from where the registry says."""
        challenge = dict(_CHALLENGE.findall(answer.headers.get("WWW-Authenticate", "")))
        given = self.session.get(
            challenge.pop("realm", ""), params=challenge, timeout=TIMEOUT_SECONDS
        ).json()
        return str(given.get("token") or given.get("access_token") or "")


def check(wanted: Iterable[str], registries: Registries) -> list[str]:
    """Print the digest of each image; returns what is wrong with the others."""
    wrong = []
    for reference in wanted:
        try:
            print(f"{reference}  {registries.digest(reference)}")
        except ImageError as error:
            wrong.append(str(error))
    return wrong


def main() -> int:
    """Check the catalogue; 1 when an image is missing."""
    wrong = check(references(load_catalogue()), Registries())
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
