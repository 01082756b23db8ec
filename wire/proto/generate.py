"""``python -m wire.proto.generate``: compile every .proto here into wire/_generated.

Needs grpcio-tools and betterproto2_compiler, both in the dev extra. The same pinned versions
write the same bytes, so the generated code is committed, and a test compares the two.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

PROTO = Path(__file__).resolve().parent
GENERATED = PROTO.parent / "_generated"
OPTIONS = ("google_protobuf_descriptors", "client_generation=async")


def sources() -> list[Path]:
    """The .proto files, relative to their root and sorted: their order is in the output."""
    return sorted(path.relative_to(PROTO) for path in PROTO.rglob("*.proto"))


def generate(out: Path) -> None:
    """Compile into ``out``, replacing all that is there; raises SystemExit on a wrong .proto."""
    from grpc_tools import protoc  # type: ignore[import-untyped]

    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    arguments = [
        "protoc",
        f"--plugin=protoc-gen-betterproto2={_plugin(out)}",
        f"--proto_path={PROTO}",
        f"--betterproto2_out={out}",
        *(f"--betterproto2_opt={option}" for option in OPTIONS),
        *(str(source) for source in sources()),
    ]
    try:
        if protoc.main(arguments):
            raise SystemExit("protoc failed; its words are above")
    finally:
        _plugin(out).unlink()


_LAUNCHER = """#!{python}
import os
from betterproto2_compiler.plugin.main import main
os.environ["PATH"] = {bin!r} + os.pathsep + os.environ.get("PATH", "")
os.chdir({root!r})
main()
"""


def _plugin(out: Path) -> Path:
    """A launcher of the plugin in this very interpreter. The plugin formats with the ruff that it
    finds on PATH and the settings that it finds above the working directory: pin both."""
    path = out / "protoc-gen-betterproto2"
    if not path.exists():
        folder = str(Path(sys.executable).parent)
        path.write_text(
            _LAUNCHER.format(python=sys.executable, bin=folder, root=str(PROTO.parent.parent))
        )
        path.chmod(0o755)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=GENERATED)
    generate(parser.parse_args().out)


if __name__ == "__main__":
    main()
