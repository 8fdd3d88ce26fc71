"""Which folders of mmwood may import which: fileio and functional import none."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mmwood"
#: What the files between stages need; nothing of OpenMMLab, and no torch.
FILEIO = {"numpy", "PIL", "pycocotools", "mmwood"}


def imports(path: Path) -> set[str]:
    """Full names of the modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module)
    return found


@pytest.mark.parametrize("folder", ["fileio", "functional"])
def test_folders_that_import_nothing_of_mmwood_but_themselves(folder):
    paths = sorted((PACKAGE / folder).glob("*.py"))
    assert len(paths) > 5
    for path in paths:
        for name in imports(path):
            assert name.split(".")[:2] == ["mmwood", folder] or (
                not name.startswith("mmwood")
            ), f"{path} imports {name}"
            assert not name.startswith("mm") or name.startswith("mmwood")


def test_what_fileio_needs():
    for path in (PACKAGE / "fileio").glob("*.py"):
        others = {name.split(".")[0] for name in imports(path)}
        assert others - set(sys.stdlib_module_names) <= FILEIO, path
