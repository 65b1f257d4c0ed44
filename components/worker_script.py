"""The arbiter's source as the one module that an upload takes.

Cloudflare's provider uploads a script of one module. The source has a file a concern. Each goes in
whole, those that others import first; only the lines that tie the files together fall away. Nothing
is renamed or shortened, so that what runs can be read beside the source.
"""

from __future__ import annotations

import re
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "witness" / "src"
ENTRY = "worker.js"

_IMPORT = re.compile(r'^import\s[^;]*?\sfrom "(?P<module>[^"]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?function|class|const)", re.MULTILINE)
_DECLARED = re.compile(r"^(?:async )?(?:function|class|const|let) (\w+)", re.MULTILINE)


def worker_script(source: Path = SOURCE, entry: str = ENTRY) -> str:
    """All modules that the entry needs, as one.

    Raises:
        ValueError: two files declare the same name, which one module cannot hold.
    """
    modules: dict[str, str] = {}
    outside: set[str] = set()
    _collect(source, entry, modules, outside)
    owners: dict[str, str] = {}
    for name, text in modules.items():
        for declared in _DECLARED.findall(text):
            if declared in owners:
                raise ValueError(
                    f"witness: {owners[declared]} and {name} both declare {declared}; rename one"
                )
            owners[declared] = name
    parts = [f"// {name}\n\n{text}" for name, text in modules.items()]
    return "\n".join(["".join(sorted(outside)), *parts])


def _collect(source: Path, name: str, modules: dict[str, str], outside: set[str]) -> None:
    text = (source / name).read_text()
    for found in _IMPORT.finditer(text):
        module = found["module"]
        if not module.startswith("./"):
            outside.add(found[0])
        elif module.removeprefix("./") not in modules:
            _collect(source, module.removeprefix("./"), modules, outside)
    body = _IMPORT.sub("", text)
    # What the runtime looks for is exported by the entry.
    modules[name] = body if name == ENTRY else _EXPORT.sub("", body)
