"""What stands where, and which folders of mmwood may import which."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mmwood"
#: Each folder imports folders further down, of another row. A folder at the top of
#: mmwood that is in no row has no place.
ROWS = (
    ("own_images",),
    ("converters", "report", "pipeline"),
    ("ood",),
    ("engine", "evaluation"),
    ("datasets", "models"),
    ("visualization",),
    ("functional", "fileio", "utils"),
)
#: What every folder may import: files at the top, and two modules without imports.
ANYWHERE = ("__init__", "registry", "utils.check", "utils.require")
#: What the files between stages need; nothing of OpenMMLab, and no torch.
FILEIO = {"cv2", "numpy", "PIL", "pycocotools", "rasterio", "mmwood"}


#: Everything at the top of the repository, beside hidden files.
TOP = {
    *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "MANIFEST.in", "Makefile"),
    *("README.md", "mkdocs.yml", "model-index.yml", "pyproject.toml", "setup.py"),
    *("benchmarks", "configs", "docs", "mmwood", "requirements", "tests", "tools"),
}


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, wherever in it."""
    above = path.relative_to(ROOT).parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            folder = above[: len(above) - node.level] if node.level else ()
            module = ".".join([*folder, *([node.module] if node.module else [])])
            # "from mmwood.x import y": y may be a module.
            yield from (f"{module}.{alias.name}" for alias in node.names)


def test_no_strays_at_the_top():
    command = ["git", "-C", str(ROOT), "ls-files"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no git checkout: {error}")
    found = {name.split("/")[0] for name in done.stdout.splitlines()}
    assert {name for name in found if not name.startswith(".")} == TOP


def test_every_folder_has_a_row():
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == {folder for row in ROWS for folder in row}
    top = {path.stem for path in PACKAGE.glob("*.py")}
    # __main__: the command, which only starts tools.
    assert top == {"__init__", "__main__", "registry"}


@pytest.mark.parametrize("row", range(len(ROWS)), ids=[" ".join(row) for row in ROWS])
def test_folders_import_what_is_below_them(row):
    below = {folder for lower in ROWS[row + 1 :] for folder in lower}
    for folder in ROWS[row]:
        paths = sorted((PACKAGE / folder).rglob("*.py"))
        assert paths
        for path in paths:
            for name in imports(path):
                package, _, rest = name.partition(".")
                if package != "mmwood" or rest.startswith(ANYWHERE):
                    continue
                # "from mmwood import __version__"
                other = rest.split(".")[0]
                assert other in {folder, "__version__"} | below, f"{path}: {name}"


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["fileio", "functional"])
def test_no_openmmlab(folder):
    for path in (PACKAGE / folder).rglob("*.py"):
        for name in imports(path):
            assert not name.startswith("mm") or name.startswith("mmwood."), path


def test_what_fileio_needs():
    for path in (PACKAGE / "fileio").glob("*.py"):
        others = {name.split(".")[0] for name in imports(path)}
        assert others - set(sys.stdlib_module_names) <= FILEIO, path
