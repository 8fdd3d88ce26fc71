"""What README and the documentation say is tried: configs, commands, fields, the site.

Configs are loaded and their parts built; commands are given to the parsers of their
tools; those of the main path run, word by word, on small data and small networks.
"""

import argparse
import ast
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from copy import deepcopy
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from undrawn_weights import UndrawnWeights

pytest.importorskip("mmpretrain")
pytest.importorskip("mmseg")

from mmengine.config import Config, DictAction
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS, init_default_scope

from mmwood.fileio.candidates import read_manifest
from mmwood.pipeline.graph import load_pipeline
from mmwood.registry import MODELS as OWN_MODELS
from mmwood.registry import TRANSFORMS
from mmwood.utils.config import metric_configs
from mmwood.utils.locations import TOOLS, verb

REPOSITORY = Path(__file__).parents[1]
STEPS = REPOSITORY / "docs/step_by_step.md"
#: This one first: the other pages go on from its configs.
PAGES = [
    STEPS,
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted({*(REPOSITORY / "docs").glob("*.md")} - {STEPS}),
    *sorted((REPOSITORY / "configs").glob("*/README.md")),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.M | re.S)
#: Stands before blocks that are parts of a config only.
STOCK = {
    "# a stock MMSegmentation config": "mmsegmentation/configs/fcn/"
    "fcn_r50-d8_4xb4-20k_voc12aug-512x512.py",
    "# a stock MMPretrain config": "mmpretrain::resnet/resnet50_8xb32_in1k.py",
}
#: How commands begin that no test runs or parses, and why.
UNTESTED = {
    'pip install "setuptools<70"': "downloads gigabytes",
    "MMCV_WITH_OPS=1 pip install": "builds mmcv for half an hour",
    "python my_filter.py": "an example, run by tests/test_models/test_own_method.py",
    "comm -12": "of the shell, on lists of mini_voc",
    "shuf -n": "of the shell, on a list of VOC",
}

#: Its scripts run beside files of their own: test_scripts_that_run_exported_networks.
EXPORT = REPOSITORY / "docs/export.md"


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


# Configs


def python_blocks(page: Path) -> list[tuple[str, str]]:
    """(file name, content): the name is the last one in the text before."""
    blocks, before = [], 0
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        if match[1] == "python":
            names = re.findall(r"`(\w+\.py)`", text[before : match.start()])
            name = names[-1] if names else f"block_{len(blocks)}.py"
            content = match[2]
            first = content.partition("\n")[0]
            if first in STOCK:
                content = f'_base_ = "{STOCK[first]}"\n{content}'
            blocks.append((name, content))
            before = match.end()
    return blocks


def write_configs(folder: Path, *pages: Path) -> None:
    """The repository's configs, a clone of MMSegmentation, and the pages' blocks."""
    (folder / "configs").symlink_to(REPOSITORY / "configs")
    stock = Path(find_spec("mmseg").origin).parent / ".mim/configs"
    (folder / "mmsegmentation").mkdir()
    if stock.is_dir():
        (folder / "mmsegmentation/configs").symlink_to(stock)
    for page in pages:
        for name, content in python_blocks(page):
            (folder / name).write_text(content)


def without_weights(part: dict) -> None:
    """Checkpoints are files that a test does not have."""
    if isinstance(part, dict):
        for key in ("init_cfg", "checkpoint_path", "pretrained"):
            part.pop(key, None)
        if part.get("type") == "SyncBN":
            part["type"] = "BN"
        for value in part.values():
            without_weights(value)


@pytest.fixture(autouse=True)
def registrations_forgotten():
    """What a page's own code registered is unknown again."""
    yield
    for name, kind in dict(OWN_MODELS.module_dict).items():
        if not kind.__module__.startswith("mmwood."):
            del OWN_MODELS.module_dict[name]
            sys.modules.pop(kind.__module__, None)


BLOCKS = [
    pytest.param(page, name, content, id=f"{name_of(page)}-{name}")
    for page in PAGES
    if page != EXPORT
    for name, content in python_blocks(page)
    # Scripts of one's own are run by tests of their page.
    if "sys.argv" not in content
]


@pytest.mark.slow
@pytest.mark.parametrize(("page", "name", "content"), BLOCKS)
def test_python_block(page, name, content, tmp_path, monkeypatch):
    """A config's model, hooks and metrics can be built; other code runs."""
    if re.search(r"^(import|from) ", content, flags=re.M):
        exec(compile(content, f"{page}:{name}", "exec"), {"__name__": "block"})
        return
    monkeypatch.chdir(tmp_path)
    # Modules that a config imports.
    monkeypatch.syspath_prepend(tmp_path)
    write_configs(tmp_path, PAGES[0], page)
    base = re.search(r'_base_ = "(mmsegmentation/[^"]*)"', content)
    if base and not (tmp_path / base[1]).is_file():
        pytest.skip("this installation of mmseg holds no configs")
    if "_base_" not in content:
        pytest.fail(f"{name} is no config that can be loaded: it has no _base_")
    cfg = Config.fromfile(tmp_path / name)
    if "stages" in cfg:
        for folder in (cfg.inputs.data, cfg.inputs.candidates):
            Path(folder).mkdir(parents=True)
        assert load_pipeline(name, REPOSITORY / "tools").stages
        return
    without_weights(cfg.model)
    init_default_scope(cfg.default_scope)
    with UndrawnWeights():
        MODELS.build(cfg.model)
    hooks = [*cfg.get("default_hooks", {}).values(), *(cfg.get("custom_hooks") or [])]
    for hook in filter(None, hooks):
        # Stock hooks for pictures want a Runner's visualizer.
        if hook["type"].startswith("mmwood."):
            HOOKS.build(hook)
    for metric in metric_configs(cfg.get("test_evaluator")):
        # Annotation files of data sets that a test does not have.
        metric.pop("instance_file", None)
        METRICS.build(metric)
    # Of the user's data only the images are missing.
    dataset = cfg.train_dataloader.dataset
    if str(dataset.type).startswith("mmwood."):
        # mmseg asserts that its lists are there.
        with pytest.raises((FileNotFoundError, AssertionError), match=r"no |load"):
            DATASETS.build(dataset)
        if "ood" in dataset:
            with pytest.raises(FileNotFoundError):
                DATASETS.build(dataset.ood)


# Commands


def commands(page: Path) -> list[str]:
    """Those of code blocks without a language, and those within sentences."""
    text = page.read_text(encoding="utf-8")
    found = []
    for kind, content in FENCE.findall(text):
        if kind == "" and "image,labels" not in content:
            lines = re.sub(r"(?m)(^| +)#.*", "", content.replace("\\\n", " "))
            found += filter(None, lines.splitlines())
    sentences = FENCE.sub("", text)
    # Not `tools/test.py --tta`, which names an option.
    found += re.findall(r"`((?:python )?tools/[\w/]+\.\w+\s[^`-][^`]*)`", sentences)
    found += re.findall(r"`(make [a-z-]+)`", sentences)
    return [" ".join(line.split()) for line in found if "..." not in line]


ALL_COMMANDS = [
    pytest.param(page, command, id=f"{name_of(page)}-{command[:60]}")
    for page in PAGES
    for command in dict.fromkeys(commands(page))
]


class ParsedError(Exception):
    """Ends a tool without a function of its own for its options."""


@cache
def load_tool(path: str) -> dict:
    return runpy.run_path(str(REPOSITORY / path), run_name="tool")


def parse(path: str, arguments: list[str], monkeypatch) -> argparse.Namespace | None:
    """Let the tool read its options, and end there."""
    tool = load_tool(path)
    monkeypatch.setattr(sys, "argv", [path, *arguments])
    if "parse_args" in tool:
        return tool["parse_args"]()
    read = argparse.ArgumentParser.parse_args

    def read_and_end(*args, **kwargs):
        read(*args, **kwargs)
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", read_and_end)
    with pytest.raises(ParsedError):
        tool["main"]()
    return None


def as_one_process(words: list[str]) -> list[str]:
    """A line that starts several processes as the tool that each runs."""
    kinds = dict(train=1, test=2, mine=2)
    kind = re.fullmatch(r"tools/(?:dist|slurm)_(\w+)\.sh", words[0])[1]
    place = 1 + kinds[kind]
    int(words[place])
    tool = "mine_ood" if kind == "mine" else kind
    return [f"tools/{tool}.py", *words[1:place], *words[place + 1 :]]


def make_targets() -> set[str]:
    text = (REPOSITORY / "Makefile").read_text()
    return set(re.findall(r"^([a-z-]+):", text, flags=re.M))


@pytest.mark.parametrize(("page", "command"), ALL_COMMANDS)
def test_command_is_understood(page, command, tmp_path, monkeypatch):
    if any(command.startswith(start) for start in UNTESTED):
        return
    words = shlex.split(command)
    if words[0] == "make":
        assert set(words[1:]) <= make_targets()
        return
    if words[:2] == ["pip", "install"]:
        check_installation(words)
        return
    if words[0].startswith(".venv/bin/"):
        check_tests(words)
        return
    while re.match(r"[A-Z_]+=", words[0]):
        del words[0]
    if words[0] == "mmwood":
        tools = {verb(path): name_of(path) for path in TOOLS.rglob("*.py")}
        words[:2] = [tools[words[1]]]
    words = words[words[0] == "python" :]
    assert (REPOSITORY / words[0]).is_file(), f"no test knows what to do: {command}"
    if words[0].endswith(".sh"):
        words = as_one_process(words)
    write_configs(tmp_path, PAGES[0], page)
    monkeypatch.chdir(tmp_path)
    args = parse(words[0], words[1:], monkeypatch)
    for word in words[1:]:
        if word.endswith(".py"):
            assert Path(word).is_file(), f"there is no {word}"
    config = getattr(args, "config", None)
    if getattr(args, "cfg_options", None) and str(config).endswith(".py"):
        cfg = Config.fromfile(config)
        assert {key.partition(".")[0] for key in args.cfg_options} <= set(cfg)
        cfg.merge_from_dict(args.cfg_options)


def check_tests(words: list[str]) -> None:
    """The folders of tests that a command names are there."""
    assert words[0].removeprefix(".venv/bin/") in ("python", "mypy")
    for word in words[1:]:
        if word.startswith("tests"):
            assert (REPOSITORY / word).is_dir()


def check_installation(words: list[str]) -> None:
    """The extras and the constraints of an installation are there."""
    where = words[words.index("-e") + 1]
    extras = re.fullmatch(r"\.(?:\[(.*)\])?", where)[1]
    for extra in filter(None, (extras or "").split(",")):
        assert (REPOSITORY / f"requirements/{extra}.txt").is_file()
    if "-c" in words:
        assert (REPOSITORY / words[words.index("-c") + 1]).is_file()


def test_untested_commands_are_there():
    everything = [command for page in PAGES for command in commands(page)]
    for start in UNTESTED:
        assert any(command.startswith(start) for command in everything), start


# Paths

#: What stands before a path of the repository.
PLACES = (
    "benchmarks/",
    "configs/",
    "docs/",
    "mmwood/",
    "requirements/",
    "tests/",
    "tools/",
)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_paths_exist(page):
    spans = re.findall(
        r"`([\w./*-]+)`", FENCE.sub("", page.read_text(encoding="utf-8"))
    )
    for span in spans:
        if span.startswith(PLACES):
            assert list(REPOSITORY.glob(span.rstrip("/"))), span


# Fields of "Paper or program?"


def sections(page: Path) -> dict[str, list[str]]:
    """Config of a section -> its overrides."""
    found = {}
    for section in page.read_text(encoding="utf-8").split("\n## ")[1:]:
        config = re.search(r"^Of `(configs/\S+\.py)`\.", section, flags=re.M)
        if config:
            spans = re.findall(r"`([^`]*)`", section)
            options = [s for s in spans if re.match(r"[a-z_]+\.[\w.]+=", s)]
            found[config[1]] = [" ".join(o.split()) for o in options]
    return found


FIELDS = [
    pytest.param(config, options, id=options)
    for config, spans in sections(REPOSITORY / "docs/paper_or_program.md").items()
    for options in spans
]


@pytest.mark.slow
@pytest.mark.parametrize(("config", "options"), FIELDS)
def test_field_exists(config, options):
    """What an override reaches can be built with it, and had the field before."""
    cfg = Config.fromfile(REPOSITORY / config)
    pairs = dict(option.split("=", 1) for option in options.split())
    cfg.merge_from_dict({k: DictAction._parse_iterable(v) for k, v in pairs.items()})
    init_default_scope(cfg.default_scope)
    for key in pairs:
        first, *rest = key.split(".")
        if first == "model":
            model = deepcopy(cfg.model)
            without_weights(model)
            with UndrawnWeights():
                MODELS.build(model)
            if key.startswith("model.backbone.init_cfg"):
                assert {"type", "checkpoint"} <= set(cfg.model.backbone.init_cfg)
        elif first == "default_hooks":
            HOOKS.build(cfg.default_hooks[rest[0]])
        elif first == "tta_model":
            model = deepcopy(cfg.model)
            without_weights(model)
            with UndrawnWeights():
                MODELS.build(dict(cfg.tta_model, module=model))
        elif first == "test_evaluator":
            assert rest[0] == "metrics"
            METRICS.build(cfg.test_evaluator.metrics[rest[1]])
        elif first == "optim_wrapper":
            assert ".".join(rest) in (
                "optimizer.lr",
                "optimizer.momentum",
                "accumulative_counts",
            )
        elif key in ("train_cfg.max_iters", "train_dataloader.batch_size"):
            continue  # A number, from which nothing is built.
        elif "pipeline" in rest:
            step = cfg.train_dataloader.dataset.pipeline[rest[2]]
            TRANSFORMS.build(dict(step, folder=None, refine=None))
        else:
            assert first == "train_dataloader"
            dataset = cfg.train_dataloader.dataset
            with pytest.raises(FileNotFoundError):
                DATASETS.build(dataset)


def test_fields_are_found():
    assert len(FIELDS) >= 20
    assert len({field.values[0] for field in FIELDS}) == 7


# The main path

#: In a copy of configs/: small images, small networks, few steps.
SMALLER = {
    "_base_/image_level.py": {
        "num_workers=4": "num_workers=0",
        "persistent_workers=True": "persistent_workers=False",
    },
    "_base_/segmentation.py": {
        "num_workers=4": "num_workers=0",
        "persistent_workers=True": "persistent_workers=False",
    },
    "_base_/datasets/own_images.py": {"(320, 320)": "(32, 32)", "=512": "=48"},
    "_base_/datasets/voc12aug_segmentation.py": {
        "(500, 500)": "(64, 64)",
        "(321, 321)": "(33, 33)",
    },
    "_base_/models/resnet50_cam.py": {
        "depth=50": "depth=18, stem_channels=8, base_channels=8",
        'init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet50"),': "",
        "frozen_stages=2": "frozen_stages=-1",
        "in_channels=2048": "in_channels=64",
    },
    "_base_/models/deeplabv2.py": {"(321, 321)": "(33, 33)"},
    "_base_/models/deeplabv2_r101.py": {
        "depth=101": "depth=18, stem_channels=8, base_channels=8",
        'init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet101"),': "",
        "in_channels=2048": "in_channels=64",
    },
    "_base_/schedule_deeplabv2.py": {"max_iters=30000": "max_iters=2"},
    "_base_/models/resnet50_irn.py": {
        "depth=50": "depth=18, stem_channels=8, base_channels=8",
        "[64, 256, 512, 1024, 2048]": "[8, 8, 16, 32, 64]",
        "pad_to=512": "pad_to=64",
    },
    "_base_/irn.py": {
        "(500, 500)": "(64, 64)",
        "(512, 512)": "(48, 48)",
    },
}

#: The chain as docs/step_by_step.md and docs/own_images.md give it. A person's part is
#: taken by rules.
MAIN_PATH = (
    "python tools/dataset_converters/tags.py my_images --table labels.csv "
    "--image-column file --label-column species --images jpg --check",
    "python tools/train.py my_config.py",
    "python tools/test.py my_config.py work_dirs/my_config/epoch_5.pth --tta "
    "--show-dir pictures",
    "python tools/mine_ood.py my_config.py work_dirs/my_config/epoch_5.pth "
    "--candidates folder_of_images --out ood.csv",
    "python tools/review_ood.py ood.csv --auto --duplicates --in-distribution "
    "my_images --max-probability 0.99 --keep-rest",
    "tools/train.py my_wood_config.py",
    "python tools/test.py my_wood_config.py work_dirs/my_wood_config/epoch_5.pth --tta",
    "python tools/train.py my_irn_config.py",
    "python tools/test.py my_irn_config.py work_dirs/my_irn_config/epoch_3.pth "
    "--show-dir pictures",
    "tools/train.py my_segmentor.py --no-validate",
)
#: A network of a few steps is sure of nothing.
ADDED = {"mine_ood.py": ("--threshold", "0.05")}


def small_configs(folder: Path) -> None:
    """A copy of configs/ in which every change of SMALLER was possible."""
    shutil.copytree(REPOSITORY / "configs", folder / "configs")
    for name, changes in SMALLER.items():
        path = folder / "configs" / name
        text = path.read_text()
        for old, new in changes.items():
            assert old in text, f"{name} has no {old}"
            text = text.replace(old, new)
        path.write_text(text)


def make_own_images(folder: Path) -> None:
    """Twenty images with a table of their labels, and sixty candidates."""
    rng = np.random.default_rng(0)
    rows = ["file,species"]
    for name, count in (("my_images/jpg", 20), ("folder_of_images", 60)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            height, width = rng.integers(40, 56, 2)
            pixels = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
            image = Image.fromarray(pixels).resize((int(width), int(height)))
            image.save(folder / name / f"{number:02d}.jpg")
    for number in range(20):
        rows.append(f"{number:02d}.jpg,train")
        if number % 3 == 0:
            rows.append(f"{number:02d}.jpg,boat")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


@pytest.mark.slow
def test_main_path_as_the_pages_say(tmp_path, run_tool):
    said = {c for page in PAGES for c in commands(page)}
    small_configs(tmp_path)
    for name, content in python_blocks(STEPS):
        if "mmsegmentation" not in content:
            (tmp_path / name).write_text(content)
    make_own_images(tmp_path)
    for command in MAIN_PATH:
        assert command in said
        tool, *arguments = command.removeprefix("python ").split()
        tool = tool.removeprefix("tools/")
        run_tool(tool, *arguments, *ADDED.get(tool, ()))
    assert len(list((tmp_path / "pictures").rglob("*.png"))) == 20
    kept = [
        row for _, row in read_manifest(tmp_path / "ood.csv") if row.state == "kept"
    ]
    assert len({row.image for row in kept}) >= 50
    labels = tmp_path / "work_dirs/my_irn_config/pseudo_labels/labels"
    assert len(list(labels.rglob("*.png"))) == 20
    assert (tmp_path / "work_dirs/my_segmentor/iter_2.pth").is_file()


# Exported networks

#: What the script of each format must do without.
ALONE = {
    "onnx": (
        "network.onnx",
        "masks.py",
        ("mmwood", "mmengine", "mmcv", "torch", "cv2"),
    ),
    "torchscript": (
        "network.pt",
        "masks_torchscript.py",
        ("mmwood", "mmengine", "cv2"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALONE)
def test_scripts_that_run_exported_networks(call_main, network_folder, tmp_path, kind):
    """As they stand there, without what they say that they do not need."""
    pytest.importorskip("onnxruntime")
    out, script, absent = ALONE[kind]
    call_main("export.py", network_folder, "--out", out, "--format", kind)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((201, 150)).save(tmp_path / "photo.jpg")
    (tmp_path / script).write_text(dict(python_blocks(EXPORT))[script])
    start = f"import runpy, sys; sys.modules.update(dict.fromkeys({absent}))"
    printed = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"{start}; runpy.run_path({script!r})"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    call_main("predict.py", network_folder, "photo.jpg", "--out", "masks")
    with Image.open(tmp_path / "masks/labels/photo.png") as image:
        expected, palette = np.array(image), image.getpalette()[:12]
    names = ("background", "disc", "square", "stripe")
    values, counts = np.unique(expected, return_counts=True)
    found = {names[value]: int(n) for value, n in zip(values, counts)}
    assert ast.literal_eval(printed) == found
    assert len(found) > 1
    if kind == "onnx":
        with Image.open(tmp_path / "mask.png") as image:
            np.testing.assert_array_equal(image, expected)
            assert image.getpalette()[:12] == palette


# The index of models


@pytest.mark.slow
def test_model_index_lists_every_config():
    modelindex = pytest.importorskip("modelindex")
    index = yaml.safe_load((REPOSITORY / "model-index.yml").read_text())
    files = sorted(name_of(p) for p in (REPOSITORY / "configs").glob("*/metafile.yml"))
    assert sorted(index["Import"]) == files
    listed = []
    for file in files:
        content = yaml.safe_load((REPOSITORY / file).read_text())
        collections = {c["Name"]: c for c in content["Collections"]}
        for collection in collections.values():
            assert (REPOSITORY / collection["README"]).is_file()
        for model in content["Models"]:
            assert model["In Collection"] in collections
            # None is offered.
            assert "Weights" not in model
            assert Path(model["Config"]).parent == Path(file).parent
            listed.append(model["Config"])
            for result in model.get("Results", ()):
                for metric, value in result["Metrics"].items():
                    assert re.match("(published|measured) ", metric)
                    assert 0 < value < 100
    # A pipeline is a list of stages, whose configs are listed; an old path is another
    # name of what is. tests/test_configs.py reads each.
    there = [
        name_of(path)
        for path in (REPOSITORY / "configs").rglob("*.py")
        if not {"_base_", "pipelines"} & set(path.parts)
        and not path.read_text().startswith("# Now in configs/segmentation/")
    ]
    assert sorted(listed) == sorted(there)
    # As OpenMMLab's tools read it.
    loaded = modelindex.load(str(REPOSITORY / "model-index.yml"))
    loaded.build_models_with_collections()
    assert len(loaded.models) == len(listed)


# The site


def modules(package: str) -> set[str]:
    root = REPOSITORY / "mmwood" / package
    return {
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        for path in root.rglob("*.py")
        # An app with a tool of its own, no library.
        if path.name != "__init__.py" and "review" not in path.parts
    }


API = sorted((REPOSITORY / "docs/api").glob("*.md"))


@pytest.mark.parametrize("page", API, ids=lambda page: page.stem)
def test_api_page_has_every_module(page):
    named = set(re.findall(r"^::: (\S+)$", page.read_text(), flags=re.M))
    assert named == (modules(page.stem) or {f"mmwood.{page.stem}"})


def test_every_package_has_a_page():
    packages = {p.parent.name for p in (REPOSITORY / "mmwood").glob("*/__init__.py")}
    assert packages | {"registry"} == {page.stem for page in API}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site as `make docs` builds it."""
    for name in ("mkdocs", "material", "mkdocstrings", "latex2mathml"):
        pytest.importorskip(name, reason=f"the site needs the extra `docs` ({name})")
    folder = tmp_path_factory.mktemp("site")
    result = subprocess.run(
        [
            *(sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"),
            *("--site-dir", str(folder)),
        ],
        cwd=REPOSITORY,
        env=dict(os.environ, NO_MKDOCS_2_WARNING="1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.mark.slow
def test_site_loads_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:link|script|img|iframe|source)\b[^>]*>", text)
        assert not [tag for tag in loaded if re.search(r'="(https?:)?//', tag)], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import )['\"]?(https?:)?//", sheet.read_text())


@pytest.mark.slow
def test_site_shows_docstrings_as_text(site):
    """Nothing of Sphinx's markup is left, and equations are MathML."""
    equations = 0
    for page in (site / "api").glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r":(class|func|meth|mod|data|attr|math):", text), page
        assert ".. math::" not in text
        equations += text.count('<div class="equation"><math')
    assert equations >= 18
    functional = (site / "api/functional.html").read_text(encoding="utf-8")
    assert 'id="mmwood.functional.cam.merge_scales"' in functional
    models = (site / "api/models.html").read_text(encoding="utf-8")
    assert 'href="functional.html#mmwood.functional.cam.merge_scales"' in models
    index = json.loads((site / "search/search_index.json").read_text())
    assert any("IA-mIoU" in entry["text"] for entry in index["docs"])


WIDTHS = (1280, 390)


@pytest.mark.long
@pytest.mark.slow
def test_site_fits_its_window(site, browser):
    """In a real browser no page is wider than a desktop's window or a phone's."""
    for width in WIDTHS:
        tab = browser.new_page(viewport=dict(width=width, height=900))
        asked = []
        tab.on("request", lambda request, asked=asked: asked.append(request.url))
        for page in sorted(site.rglob("*.html")):
            tab.goto(page.as_uri())
            wide = "document.documentElement.scrollWidth"
            assert tab.evaluate(wide) <= width, page
        assert all(url.startswith(("file:", "data:")) for url in asked)
