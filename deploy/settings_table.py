"""The table of settings as text, for ``roost host --help`` and for docs/settings.md. Pure."""

from __future__ import annotations

import textwrap

from deploy.settings import Setting, rows

PAGE_HEAD = """\
# Settings

Each is an environment variable and a flag of `roost host`; the flag goes first. An empty variable
counts as unset. Printed by `python -m deploy.settings_table`; do not edit.

| variable | flag | unit | default | meaning |
| --- | --- | --- | --- | --- |
"""


def markdown() -> str:
    """The page docs/settings.md, as it must be."""
    lines = [
        f"| `{row.name}` | `{row.flag}` | {row.unit} | {_default(row)} | {row.meaning} |"
        for _, row in rows()
    ]
    return PAGE_HEAD + "\n".join(lines) + "\n"


def help_text(width: int = 96) -> str:
    """The table for a terminal: variable, flag, unit, default, then the meaning below."""
    out = ["settings (a flag goes before its environment variable, that before the default):"]
    for _, row in rows():
        unit = f" [{row.unit}]" if row.unit else ""
        default = _default(row)
        out.append(f"  {row.name}, {row.flag}{unit}{default and f' ({default})'}")
        out += textwrap.wrap(row.meaning, width, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(out)


def _default(row: Setting) -> str:
    return "required" if row.required else row.default


if __name__ == "__main__":
    print(markdown(), end="")
