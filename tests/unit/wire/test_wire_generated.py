"""The committed code is what the .proto files compile to."""

from __future__ import annotations

from pathlib import Path

from wire.proto import generate


def tree(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {str(path.relative_to(root)): path.read_text() for path in files}


def test_generated_code_is_what_the_proto_files_compile_to(tmp_path: Path) -> None:
    out = tmp_path / "generated"
    generate.generate(out)
    assert tree(out) == tree(generate.GENERATED), "run `make proto`"
