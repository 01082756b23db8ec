"""Loading an app: which classes are its actors, and what a broken one says."""

import sys
from pathlib import Path

import pytest

from deploy.app import load_app
from wire.errors import ConfigError

COUNTER = """
from actors import Actor, handler

class Counter(Actor):
    @handler
    async def add(self, n: int) -> int:
        return n
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder that is the current one, and an import system that forgets what a test did."""
    monkeypatch.chdir(tmp_path)
    path, modules = sys.path[:], set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return name


def names(spec: str) -> list[str]:
    return [cls.__name__ for cls in load_app(spec)]


def refusal(spec: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_app(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_is_loaded_by_its_path(folder):
    assert names(write(folder, "somewhere/app_a.py", COUNTER)) == ["Counter"]


def test_a_module_is_found_in_the_current_folder(folder):
    write(folder, "pack_b/__init__.py", "")
    write(folder, "pack_b/app_b.py", COUNTER)
    assert names("pack_b.app_b") == ["Counter"]


def test_a_file_imports_its_neighbours(folder):
    write(folder, "else/neighbour_c.py", COUNTER)
    app = write(folder, "else/app_c.py", "from neighbour_c import Counter\n__all__ = ['Counter']")
    assert names(app) == ["Counter"]


def test_a_file_named_like_one_of_our_packages_does_not_replace_it(folder):
    import actors

    assert names(write(folder, "actors.py", COUNTER)) == ["Counter"]
    assert sys.modules["actors"] is actors


def test_only_what_the_module_defines_or_exports_is_hosted(folder):
    write(folder, "others_d.py", COUNTER.replace("Counter", "Imported"))
    app = "from others_d import Imported\n" + COUNTER + "class _Private(Counter): pass\n"
    assert names(write(folder, "app_d.py", app)) == ["Counter"]


def test_a_package_hosts_what_its_own_modules_define(folder):
    write(folder, "pack_e/inner.py", COUNTER)
    write(folder, "pack_e/__init__.py", "from pack_e.inner import Counter")
    assert names("pack_e") == ["Counter"]


@pytest.mark.parametrize("listing", ["KINDS = [B]", "actors = (B,)"])
def test_a_list_in_the_module_says_what_is_hosted(folder, listing):
    stem = f"app_{listing[0].lower()}_list"
    app = COUNTER + f"class B(Counter): pass\n{listing}\n"
    assert names(write(folder, f"{stem}.py", app)) == ["B"]


def test_an_attribute_picks_a_class_or_a_list(folder):
    app = write(folder, "app_f.py", COUNTER + "class B(Counter): pass\nmine = [B]\n")
    assert names(f"{app}:mine") == ["B"]
    assert names("app_f:Counter") == ["Counter"]


def test_a_missing_module_is_named(folder):
    assert "there is no module 'no_such_app'" in refusal("no_such_app.inner")


def test_a_missing_file_is_named(folder):
    assert "no_such.py'" in refusal("no_such.py")
    assert "no such file" in refusal("no_such.py")


def test_a_failing_import_names_the_module_the_place_and_the_error(folder):
    app = write(folder, "app_g.py", "import os\n\nx = 1 / 0\n")
    assert refusal(app) == (
        "app 'app_g.py' cannot be imported: app_g.py:3: ZeroDivisionError: division by zero"
    )


def test_a_failing_import_further_in_names_that_place(folder):
    write(folder, "inner_h.py", "\nimport no_such_dependency\n")
    app = write(folder, "app_h.py", "import inner_h\n")
    message = refusal(app)
    assert "inner_h.py:2: ModuleNotFoundError: No module named 'no_such_dependency'" in message


def test_a_module_whose_dependency_is_missing_is_not_called_missing_itself(folder):
    write(folder, "app_i.py", "import no_such_dependency\n")
    assert "app_i.py:1: ModuleNotFoundError" in refusal("app_i")


def test_a_syntax_error_names_its_line(folder):
    app = write(folder, "app_j.py", "x = 1\ndef f(:\n")
    assert "app_j.py:2: SyntaxError" in refusal(app)


def test_a_module_that_exits_is_an_error_and_not_an_exit(folder):
    app = write(folder, "app_k.py", "import sys\nsys.exit('bye')\n")
    assert "app_k.py:2: SystemExit: bye" in refusal(app)


def test_a_file_that_failed_leaves_no_module_behind(folder):
    refusal(write(folder, "app_l.py", "raise RuntimeError('no')\n"))
    assert "app_l" not in sys.modules


def test_an_app_without_actors_says_what_to_do(folder):
    assert "subclass actors.Actor" in refusal(write(folder, "app_m.py", "x = 1\n"))


def test_an_unknown_attribute_names_what_there_is(folder):
    app = write(folder, "app_n.py", COUNTER)
    assert "it defines Counter" in refusal(f"{app}:Missing")


def test_a_list_of_something_else_is_refused(folder):
    assert "no actor class" in refusal(write(folder, "app_o.py", "KINDS = ['Counter']\n"))


def test_two_classes_of_one_kind_are_refused_by_name(folder):
    app = COUNTER + "class Other(Actor, kind='Counter'):\n    pass\n"
    message = refusal(write(folder, "app_p.py", app))
    assert "both of kind 'Counter'" in message
    assert "app_p.Other" in message


def test_an_annotation_that_cannot_be_resolved_is_found_at_the_start(folder):
    app = COUNTER.replace("n: int", "n: 'Missing'")
    message = refusal(write(folder, "app_q.py", app))
    assert "Counter.add" in message
    assert "'Missing'" in message


@pytest.mark.parametrize("spec", ["not a module", "counter.py.txt", "-x"])
def test_what_is_neither_module_nor_path_is_refused(folder, spec):
    assert repr(spec) in refusal(spec)
