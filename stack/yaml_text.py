"""YAML read by the parser in C where PyYAML was built with it: ten times as fast."""

from typing import Any

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(text: str) -> Any:
    """The document in a text; plain values only, as with yaml.safe_load."""
    return yaml.load(text, Loader=_LOADER)  # noqa: S506  # a safe loader, either of them
