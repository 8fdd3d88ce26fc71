"""A wheel of this tree, in an environment that has no clone."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmwood import __version__

pytest.importorskip("mmpretrain")
pytest.importorskip("mmseg")
pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[1]
#: Of the repository, beside its folders: what a build reads.
FILES = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "model-index.yml")
FOLDERS = ("mmwood", "configs", "tools", "requirements", "benchmarks")
#: A head and a network, by names alone.
BUILD = """
from pathlib import Path
import mmwood
from mmengine.registry import MODELS
from mmwood.utils.locations import ROOT, read_config
head = MODELS.build(dict(type="mmwood.CAMHead", num_classes=3, in_channels=8))
model = read_config("configs/classification/resnet50_voc12aug.py").model
model.backbone.init_cfg = None
print(mmwood.__file__, ROOT, type(head).__name__, type(MODELS.build(model)).__name__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built without network from a copy, beside folders that it must leave out."""
    if find_spec("pip") is None or find_spec("setuptools") is None:
        pytest.skip("pip and setuptools are not installed")
    source = tmp_path_factory.mktemp("source")
    for name in FILES:
        shutil.copy(REPOSITORY / name, source)
    unwanted = shutil.ignore_patterns("__pycache__", ".mim")
    for name in FOLDERS:
        shutil.copytree(REPOSITORY / name, source / name, ignore=unwanted)
    for name in ("tests", "data", "work_dirs"):
        (source / name).mkdir()
        (source / name / "test_mine.py").write_text("mine")
    # As a development install leaves them.
    (source / "mmwood/.mim").mkdir()
    (source / "mmwood/.mim/configs").symlink_to("../../configs")
    out = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-build-isolation", "--wheel-dir", out, source)
    (path,) = out.iterdir()
    return path


def pip(*arguments: object) -> None:
    """Without network."""
    command = [sys.executable, "-m", "pip", *map(str, arguments)]
    subprocess.run([*command, "--quiet", "--no-deps", "--no-index"], check=True)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> SimpleNamespace:
    """The wheel in an environment of its own, over the packages of this one."""
    place = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    python = place / "bin/python"
    (site,) = place.glob("lib/python*/site-packages")
    # Their .pth files are not read, so a development install of mmwood is not seen.
    others = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (site / "others.pth").write_text("\n".join(others))
    pip("--python", python, "install", "--ignore-installed", wheel)

    def call(*command: object, fails: bool = False, cwd: Path) -> str:
        environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONWARNINGS="ignore")
        environment.pop("PYTHONPATH", None)
        result = subprocess.run(
            [str(place / "bin" / command[0]), *map(str, command[1:])],
            cwd=cwd,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert (result.returncode != 0) == fails, result.stdout[-4000:]
        return result.stdout

    return SimpleNamespace(call=call, site=site)


def test_what_it_holds(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = [name for name in names if name.endswith("/METADATA")]
        text = archive.read(metadata).decode()
        tool = archive.getinfo("mmwood/.mim/tools/dist_train.sh")
    about = f"mmwood-{__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"mmwood", about}
    assert len(names) == len(set(names))
    for folder in ("configs", "tools"):
        there = {
            path.relative_to(REPOSITORY).as_posix()
            for path in (REPOSITORY / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        start = f"mmwood/.mim/{folder}/"
        assert {n[12:] for n in names if n.startswith(start)} == there
    assert tool.external_attr >> 16 & 0o111
    modules = [name for name in names if not name.startswith("mmwood/.mim")]
    assert {"mmwood/py.typed", "mmwood/report/page.html"} < {*modules}
    assert "mmwood/converters/mini_voc/train.txt" in modules
    assert "mmwood/.mim/model-index.yml" in names
    assert f"\nVersion: {__version__}\n" in text
    assert "\nDescription-Content-Type: text/markdown\n" in text
    # PyPI has no files that these could lead to.
    assert "](docs/" not in text
    assert "](configs/" not in text


def test_what_the_command_says(installed, tmp_path):
    def mmwood(*arguments: str, **options) -> str:
        return installed.call("mmwood", *arguments, cwd=tmp_path, **options)

    text = mmwood("--help")
    for name in ("run", "mine", "review", "train", "test", "tags", "mini_voc"):
        assert f"\n  {name} " in text
    assert mmwood("--version") == f"mmwood {__version__}\n"
    for arguments, start in (
        ((), "usage: mmwood {run,"),
        (("rnu",), "mmwood: no command 'rnu'; did you mean `mmwood run`?"),
        (("train", "configs/none.py"), "config: there is no file configs/none.py"),
        (("mini_voc", "."), "voc: . is not VOC2012"),
    ):
        text = mmwood(*arguments, fails=True)
        assert text.startswith(start)
        assert len(text.splitlines()) == 1
    text = mmwood("run", "--help")
    assert text.startswith("usage: mmwood run [-h]")
    assert "\n    mmwood run configs/pipelines/demo.py\n" in text
    assert "usage: mmwood review [-h]" in mmwood("review", fails=True)


def test_components_from_another_folder(installed, tmp_path):
    text = installed.call("python", "-c", BUILD, cwd=tmp_path)
    package = installed.site / "mmwood"
    found = f"{package}/__init__.py {package}/.mim CAMHead CAMClassifier"
    assert text.splitlines()[-1] == found


def test_a_pipeline_from_another_folder(installed, tmp_path):
    """The wheel's own, and one over it; what they make is below the working folder."""

    def mmwood(*arguments: str, **options) -> str:
        return installed.call("mmwood", *arguments, cwd=tmp_path, **options)

    before = sorted(installed.site.rglob("*"))
    config = "configs/pipelines/demo_short.py"
    plan = mmwood("run", config, "--dry-run")
    file = installed.site / "mmwood/.mim" / config
    assert f"{config}: not here, taken from mmwood: {file}\n" in plan
    assert "\nrun   draw: it has not run\n" in plan
    assert "\nrun   report: " in plan

    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/mine.py").write_text(
        f'_base_ = "{config}"\nwork_dir = "made"\n'
        '_few = ["data/few", "--train", "12", "--val", "6", "--ood", "6"]\n'
        'stages = dict(draw=dict(args=_few, outputs=dict(images="data/few")))\n'
    )
    text = mmwood("run", "runs/mine.py", "--until", "draw")
    assert "1 stages ran" in text
    assert (tmp_path / "data/few/JPEGImages").is_dir()
    record = json.loads((tmp_path / "made/records/draw.json").read_text())
    tool = installed.site / "mmwood/.mim/tools/dataset_converters/context_shapes.py"
    assert record["command"][0] == str(tool)
    text = mmwood("run", "runs/mine.py", "--dry-run", "--until", "draw")
    assert "skip  draw: done" in text
    # A config of a stage; the training itself ends before its first step.
    text = mmwood("train", "configs/demo/classifier.py", fails=True)
    assert "data/context_shapes" in text.splitlines()[-1]
    assert sorted(installed.site.rglob("*")) == before
