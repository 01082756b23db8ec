"""``python -m deploy.image.stubs OUT``: grpcio stubs under ``rustic_ai.k8s.proto``. An adapter.

Existing Rustic AI clients, and the health check in deploy/README.md, import
``rustic_ai.k8s.proto.agent_host_pb2``. Roost itself does not, so the image alone carries it,
compiled from wire's own .proto. ``rustic_ai`` and ``rustic_ai.k8s`` stay namespace packages:
an installed rusticai-core shares them. Needs grpcio-tools.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "wire/proto/rustic_ai/k8s/agent_host.proto"
TARGET = Path("rustic_ai/k8s/proto/agent_host.proto")


def generate(out: Path) -> None:
    """Write the stubs below ``out``; raises SystemExit when the .proto does not compile."""
    from grpc_tools import protoc  # type: ignore[import-untyped]

    with tempfile.TemporaryDirectory() as root:
        copy = Path(root) / TARGET  # the path of a .proto becomes the module's name
        copy.parent.mkdir(parents=True)
        shutil.copy(SOURCE, copy)
        out.mkdir(parents=True, exist_ok=True)
        arguments = ["protoc", f"-I{root}", f"--python_out={out}", f"--grpc_python_out={out}"]
        if protoc.main([*arguments, str(TARGET)]):
            raise SystemExit("protoc failed; its words are above")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    generate(parser.parse_args().out)


if __name__ == "__main__":
    main()
