"""The house plan holds: arrows run one way, readers of arrays load no torch, nothing is skipped silently."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = sorted((ROOT / "inflab").rglob("*.py"))


def _run(*command: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True)


def test_imports_follow_the_arrows_of_the_house_plan() -> None:
    done = _run(sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    "room", ["", ".agreement", ".effects", ".schema", ".store", ".reopen", ".select", ".plot", ".widgets"]
)
def test_what_only_reads_arrays_loads_no_torch(room: str) -> None:
    code = f"import sys, inflab{room}; print(sorted({{'torch', 'transformers'}} & set(sys.modules)))"
    done = _run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    code = "import inflab; print([name for name in inflab.__all__ if getattr(inflab, name, None) is None])"
    done = _run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def _calls_at_import(tree: ast.Module) -> set[str]:
    """Dotted names of what a module calls while it is imported: everything outside function bodies."""
    found, todo = set(), list(ast.iter_child_nodes(tree))
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Call):
            found.add(ast.unparse(node.func))
        todo += ast.iter_child_nodes(node)
    return found


@pytest.mark.parametrize("path", ROOMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_import_sets_nothing_global(path: Path) -> None:
    settings = {
        "alt.renderers.enable",
        "alt.theme.enable",
        "logging.basicConfig",
        "open",
        "print",
        "torch.manual_seed",
        "torch.set_default_dtype",
        "torch.set_num_threads",
        "warnings.filterwarnings",
        "warnings.simplefilter",
        "xr.set_options",
    }
    assert not _calls_at_import(ast.parse(path.read_text("utf-8"))) & settings


@pytest.mark.parametrize("path", ROOMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_can_be_read_in_a_sitting(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 320


@pytest.mark.parametrize(
    ("required", "outcome"),
    [("", "4 skipped, 1 xfailed"), ("1", "1 failed, 1 skipped, 1 xfailed, 2 errors")],
    ids=["optional", "required"],
)
def test_a_skip_fails_when_every_part_is_required(tmp_path: Path, required: str, outcome: str) -> None:
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_at_collection.py").write_text(
        "import pytest\npytest.importorskip('no_such_module_at_all')\ndef test(): pass\n"
    )
    (tmp_path / "test_each.py").write_text(
        "import pytest\n"
        "def test_inside(): pytest.skip('absent')\n"
        "@pytest.mark.skipif(True, reason='absent')\ndef test_by_mark(): pass\n"
        "@pytest.mark.gpu\ndef test_accelerated(): pytest.skip('needs an accelerator')\n"
        "@pytest.mark.xfail(strict=True)\ndef test_known(): assert False\n"
    )
    flags = ("-p", "no:cacheprovider", "--continue-on-collection-errors", "-c", os.devnull, "-o", "markers=gpu")
    env = {"INFLAB_REQUIRE_ALL": required, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = _run(sys.executable, "-m", "pytest", *flags, cwd=tmp_path, **env)
    assert outcome in done.stdout, done.stdout + done.stderr
    assert (done.returncode == 0) is (required == "")
