"""What is built holds what is needed and works on its own; Binder gets the tested versions."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import inflab

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def _files(folder: str) -> set[str]:
    """Every file of a source folder that is no leftover of running it, relative to the root."""
    found = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in found}


def _assets() -> set[str]:
    """Names of the files in widgets/ that a running widget may ask for."""
    return {name.removeprefix("widgets/") for name in _files("widgets") if not re.search(r"\.test\.m?js$", name)}


def _run(*command: object, cwd: Path) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV"))}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _build(source: Path, target: Path, *kinds: str) -> list[Path]:
    flags = [flag for kind in kinds for flag in ("-t", kind)]
    _run(sys.executable, "-m", "hatchling", "build", "-d", target, *flags, cwd=source)
    return sorted(target.iterdir())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution and the wheel, built from this tree."""
    wheel, sdist = _build(ROOT, tmp_path_factory.mktemp("dist"), "sdist", "wheel")
    assert (sdist.suffixes[-2:], wheel.suffix) == ([".tar", ".gz"], ".whl")
    return sdist, wheel


def test_wheel_holds_the_package_its_data_and_its_assets(built: tuple[Path, Path]) -> None:
    names = set(zipfile.ZipFile(built[1]).namelist())
    shipped = {name for name in names if ".dist-info/" not in name}
    assert shipped == _files("inflab") | {f"inflab/static/{name}" for name in _assets()}
    assert {"inflab/py.typed", f"inflab-{inflab.__version__}.dist-info/licenses/LICENSE"} <= names


def test_sdist_builds_the_same_wheel(built: tuple[Path, Path], tmp_path: Path) -> None:
    with tarfile.open(built[0]) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    (wheel,) = _build(source, tmp_path / "dist", "wheel")
    assert set(zipfile.ZipFile(wheel).namelist()) == set(zipfile.ZipFile(built[1]).namelist())


def test_installed_wheel_loads_every_asset(built: tuple[Path, Path], tmp_path: Path) -> None:
    home = tmp_path / "clean"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    _run(*pip, "install", "--quiet", "--no-deps", "--no-index", built[1], cwd=tmp_path)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(_run(python, "-c", where, cwd=tmp_path).strip())
    # The dependencies come from here, by a path file. Path files are not followed twice, so the editable
    # inflab of this environment stays out of sight.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    names = sorted(_assets())
    assert names
    code = (
        "import inflab; from inflab.widgets.assets import asset_path\n"
        "print(inflab.__file__)\n"
        f"for name in {names!r}: print(asset_path(name)); assert asset_path(name).read_text('utf-8')"
    )
    paths = [Path(line) for line in _run(python, "-c", code, cwd=tmp_path).splitlines()]
    assert len(paths) == len(names) + 1
    assert all(path.is_relative_to(site) for path in paths)


def test_editable_install_finds_the_same_assets() -> None:
    from inflab.widgets.assets import asset_path

    for name in _assets():
        assert asset_path(name).resolve() == ROOT / "widgets" / name


def test_widgets_folder_holds_no_python() -> None:
    # An editable install maps widgets/ to inflab/static, which hatchling refuses for Python files.
    assert not [name for name in _files("widgets") if name.endswith(".py")]


def test_version_is_said_once() -> None:
    assert inflab.__version__ == PROJECT["version"]
    assert f"## [{inflab.__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def _tracked() -> list[Path]:
    names = _run("git", "ls-files", "-z", cwd=ROOT).split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def test_no_file_names_a_path_of_one_machine() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout to know which files are the project's")
    place = re.compile(rb"(?<![A-Za-z0-9_.~/-])/(?:home|root|tmp|work|Users)/[A-Za-z0-9_.]")
    texts = ((path, path.read_bytes()) for path in _tracked() if path.suffix not in {".png", ".safetensors"})
    assert not [(path.name, hit.group()) for path, text in texts if (hit := place.search(text))]


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(len(pin.specifier) == 1 and str(pin.specifier).startswith("==") for pin in pins)
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}


def _requirements(extra: str | None = None) -> list[Requirement]:
    lines = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    return [req for req in map(Requirement, lines) if req.name != PROJECT["name"]]


@pytest.mark.parametrize("extra", [None, *PROJECT["optional-dependencies"]])
def test_every_dependency_has_a_tested_version_within_its_bounds(extra: str | None) -> None:
    pins = _pins()
    for requirement in _requirements(extra):
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement} is not in constraints.txt"
        assert requirement.specifier.contains(pin), f"constraints.txt has {pin}, not {requirement}"


def test_binder_installs_the_package_with_the_tested_versions() -> None:
    lines = (ROOT / "binder" / "requirements.txt").read_text("utf-8").splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    assert ".[lab]" in lines
    assert "-c ../constraints.txt" in lines
    pinned = [Requirement(line) for line in lines if line[0].isalpha()]
    assert [pin.name for pin in pinned] == ["torch"]
    # "2.13.0+cpu" is the CPU build of version 2.13.0.
    assert [str(pin.specifier).partition("+")[0] for pin in pinned] == [f"=={_pins()['torch']}"]


def test_binder_runs_a_python_that_the_package_accepts() -> None:
    version = (ROOT / "binder" / "runtime.txt").read_text("utf-8").strip().removeprefix("python-")
    assert SpecifierSet(PROJECT["requires-python"]).contains(f"{version}.0")


def test_binder_can_run_its_last_step() -> None:
    assert os.access(ROOT / "binder" / "postBuild", os.X_OK)
