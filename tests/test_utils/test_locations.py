"""What is found from a folder that has no configs and tools."""

import os
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from mmwood.__main__ import main
from mmwood.pipeline.graph import load_pipeline
from mmwood.utils import locations
from mmwood.utils.locations import (
    ROOT,
    TOOLS,
    find_config,
    read_config,
    tool_command,
    verb,
)

PIPELINE = "configs/pipelines/demo_short.py"
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """What was said is forgotten."""
    monkeypatch.chdir(tmp_path)
    locations._say.cache_clear()


def test_this_is_a_clone():
    assert (ROOT, TOOLS) == (REPOSITORY, REPOSITORY / "tools")


def test_a_config_of_mmwood_is_said_once(tmp_path, capsys):
    for _ in range(2):
        assert find_config(PIPELINE) == ROOT / PIPELINE
    said = f"{PIPELINE}: not here, taken from mmwood: {ROOT / PIPELINE}\n"
    assert capsys.readouterr().err == said
    # One's own goes first, and nothing else is looked for.
    for name in (PIPELINE, "mine.py"):
        own = tmp_path / name
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_text("a = 1")
        assert find_config(name) == Path(name)
    for name in (
        "configs/none.py",
        "tools/train.py",
        "configs/../setup.py",
        ROOT / "x",
    ):
        assert find_config(name) == Path(name)
    assert capsys.readouterr().err == ""


def test_bases_of_mmwood(tmp_path):
    """As from the clone itself; a base beside the config goes first."""
    (tmp_path / "runs").mkdir()
    path = tmp_path / "runs/mine.py"
    path.write_text(f'_base_ = ["{PIPELINE}"]\njobs = 7')
    stock = Config.__dict__["_get_cfg_path"]
    found = read_config("runs/mine.py").to_dict()
    assert Config.__dict__["_get_cfg_path"] is stock
    assert found == Config.fromfile(ROOT / PIPELINE).to_dict() | dict(jobs=7)

    own = tmp_path / "runs" / PIPELINE
    own.parent.mkdir(parents=True)
    own.write_text("threads = 3")
    assert read_config(path).to_dict() == dict(threads=3, jobs=7)
    with pytest.raises(FileNotFoundError, match=r"config: there is no file none\.py"):
        read_config("none.py")
    path.write_text('_base_ = "configs/none.py"')
    with pytest.raises(FileNotFoundError, match=r"configs/none\.py"):
        read_config(path)


def test_a_pipeline_of_mmwood_keeps_its_names():
    """Paths in records do not tell where mmwood is."""
    pipeline = load_pipeline(PIPELINE, TOOLS)
    assert str(pipeline.path("classifier_config")) == "configs/demo/classifier.py"
    stage = pipeline.stages["classifier"]
    assert stage.command(pipeline)[1] == "configs/demo/classifier.py"
    digest, seed = pipeline.config(stage)
    assert len(digest) == 64
    assert seed is not None
    os.makedirs("data/context_shapes")
    key = stage.key(pipeline)
    config = ROOT / "configs/demo/classifier.py"
    assert key["inputs"]["configs/demo/classifier.py"] == pipeline.hashes[config]


def test_commands_have_names_of_their_own(monkeypatch):
    tools = [*TOOLS.rglob("*.py")]
    assert len({verb(path) for path in tools}) == len(tools)
    assert verb("tools/run_pipeline.py") == "run"
    script = os.path.relpath(TOOLS / "review_ood.py")
    assert tool_command("review_ood.py", ["my ood.csv"]) == (
        f"python {script} 'my ood.csv'"
    )
    monkeypatch.setattr(locations, "_IN_WHEEL", True)
    assert tool_command("review_ood.py", ["ood.csv"]) == "mmwood review ood.csv"
    tool = TOOLS / "dataset_converters/tags.py"
    assert tool_command(tool, ["images"]) == "mmwood tags images"
    assert tool_command("/own/tool.py").endswith("own/tool.py")
    assert locations.pip_install("coco") == 'pip install "mmwood[coco]"'


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "usage: mmwood {run,"),
        (["revew"], "mmwood: no command 'revew'; did you mean `mmwood review`? "),
        (["../train"], "mmwood: no command '../train'; "),
    ],
)
def test_no_command(words, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mmwood", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    text = capsys.readouterr().err
    assert text.startswith(message)
    assert text.endswith("`mmwood --help` lists all\n")


def test_a_tool_that_a_command_runs(monkeypatch, capsys):
    """Its errors are one line, its help has the command's name."""
    # The command takes the place of the main module.
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.setattr(sys, "argv", ["mmwood", "mini_voc", "nowhere"])
    with pytest.raises(SystemExit, match=r"^voc: nowhere is not VOC2012"):
        main()
    monkeypatch.setattr(sys, "argv", ["mmwood", "mini_voc", "--help"])
    with pytest.raises(SystemExit):
        main()
    text = capsys.readouterr().out
    assert text.startswith("usage: mmwood mini_voc [-h]")
    assert "\n    mmwood mini_voc data/VOCdevkit/VOC2012 \\\n" in text
