"""The SSH keys that the program makes. Each has a number, and another number is another key beside
the old one: a run that stops half-way has lost neither.

A deploy key is replaced without a moment in which it opens nothing: a node takes the key in use and
the one after it. So when the number is raised, the key that is used from then on is one that both
nodes know already, and they are told of the next.

A host key belongs to one server. A rebuilt server gets another, which the program pins.
"""

from __future__ import annotations

from dataclasses import dataclass

import pulumi

from components.generated import GeneratedSecret

DEPLOY_KEY = "deploy_key"
"""Its name in `overlord:secretVersions`."""


@dataclass(frozen=True)
class DeployKeys:
    """The keys that nodes take.

    Args:
        current: the one that this run uses.
        following: the one that a raised number uses. It is as old as the use of the current one.
    """

    current: GeneratedSecret
    following: GeneratedSecret

    @property
    def authorised(self) -> pulumi.Output[str]:
        """The public keys, one a line."""
        return pulumi.Output.format(
            "{0}\n{1}\n", self.current.public_key, self.following.public_key
        )


def deploy_keys(name: str, number: int, opts: pulumi.ResourceOptions) -> DeployKeys:
    """The deploy key of a number and the one after it."""
    return DeployKeys(_key(name, number, opts), _key(name, number + 1, opts))


def host_key(name: str, generation: int, opts: pulumi.ResourceOptions) -> GeneratedSecret:
    """The host key of one generation of a node's server."""
    return _key(name, generation, opts)


def check_number(number: int, last: int) -> None:
    """Refuse a deploy key that no node knows.

    Args:
        number: the one that is asked for.
        last: the one of the last run that ended well, or 0.

    Raises:
        pulumi.RunError: it is neither the last nor the one after it.
    """
    if last and number not in (last, last + 1):
        raise pulumi.RunError(
            f"overlord:secretVersions.{DEPLOY_KEY} is {number}, and the nodes know the keys {last} "
            f"and {last + 1}. Set it to {last + 1} to replace the key, or to {last} to keep it; "
            "to replace it again, run pulumi up in between."
        )


def _key(name: str, number: int, opts: pulumi.ResourceOptions) -> GeneratedSecret:
    numbered = name if number == 1 else f"{name}-{number}"
    return GeneratedSecret(numbered, kind="sshKey", version=1, opts=opts)
