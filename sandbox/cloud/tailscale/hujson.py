"""HuJSON: JSON with comments and trailing commas (https://github.com/tailscale/hujson)."""

from __future__ import annotations

import json
import re
from typing import Any

_TOKEN = re.compile(
    r'(?P<string>"(?:[^"\\]|\\.)*")|(?P<comment>//[^\n]*|/\*.*?\*/)|(?P<other>.)', re.DOTALL
)
_TRAILING_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])', re.DOTALL)


def loads(text: str) -> Any:
    """Parse HuJSON. Raises ValueError with line and column of what is wrong."""
    plain = _TOKEN.sub(_without_comment, text)
    return json.loads(_TRAILING_COMMA.sub(lambda m: m[1] or " ", plain))


def _without_comment(match: re.Match[str]) -> str:
    if match["comment"] is None:
        return match[0]
    # Spaces in place of the comment keep line and column of later errors right.
    return re.sub(r"[^\n]", " ", match[0])
