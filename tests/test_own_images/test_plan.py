"""Configs of a plan: readable, the same twice, a person's kept, and built."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config

from mmwood.fileio.decoding import Decoding
from mmwood.fileio.labels import save_label_png
from mmwood.own_images.backbones import find_backbone
from mmwood.own_images.configs import Places, write_configs
from mmwood.own_images.plan import plan_own_images
from mmwood.own_images.settings import Facts, choose_settings
from mmwood.own_images.source import read_own_images
from mmwood.pipeline.graph import load_pipeline
from mmwood.pipeline.references import references

pytest.importorskip("mmpretrain")

REPOSITORY = Path(__file__).parents[2]
CONFIGS = REPOSITORY / "configs"


@pytest.fixture
def plan(folder, tmp_path, monkeypatch):
    """Plan for the folder; six images are too few for W-OoD otherwise."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mmwood.own_images.settings.IMAGES_PER_CLUSTER", 1)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    def run(**options):
        return plan_own_images(CONFIGS, folder, **options)

    return run


def texts(path: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in path.parent.iterdir()}


def stages(path: Path) -> list[str]:
    return [*load_pipeline(path, REPOSITORY / "tools").stages]


def test_the_same_bytes_and_a_persons_config(plan, tmp_path):
    first = plan()
    assert first.pipeline == tmp_path / "work_dirs/my_images/configs/pipeline.py"
    before = texts(first.pipeline)
    assert texts(plan().pipeline) == before
    assert "# long side: 60 (half of the images" in before["classifier.py"]

    # Other options change what nobody has touched, and nothing else.
    classifier = first.pipeline.parent / "classifier.py"
    classifier.write_text(before["classifier.py"] + "randomness = dict(seed=1)\n")
    changed = plan(short=True)
    assert changed.changed == [classifier]
    assert f"{classifier} was changed by hand and stays" in str(changed)
    assert json.loads(texts(first.pipeline)["plan.json"])["changed"] == [
        "classifier.py"
    ]
    assert classifier.read_text().endswith("randomness = dict(seed=1)\n")
    assert Config.fromfile(classifier).train_cfg.max_epochs == 50
    assert "max_iters=4)" in texts(first.pipeline)["network.py"]
    # A file that was there before all.
    classifier.write_text(before["classifier.py"])
    assert plan(short=True).changed == []


def test_levels(plan, deepen):
    rows = {row.name: row for row in plan().settings.rows}
    assert "levels" not in rows
    deepen(4, 0)
    found = plan()
    (row,) = (row for row in found.settings.rows if row.name == "levels")
    assert row.reason == (
        "6 images have more than 8 bits; 0.1% of their pixels are darker, as many "
        "brighter"
    )
    low, high = found.settings.decoding.levels
    assert row.value == f"{low} is black, {high} white"
    assert 0 <= low < 100
    assert 900 < high <= 1020
    network = Config.fromfile(found.pipeline.parent / "network.py")
    loader = network.test_dataloader.dataset.pipeline[0]
    assert loader == dict(type="mmwood.LoadImage", levels=(low, high))
    pipeline = load_pipeline(found.pipeline, REPOSITORY / "tools")
    command = pipeline.stages["prepare"].command(pipeline)
    assert command[command.index("--levels") + 1 :][:2] == [str(low), str(high)]
    named = plan(decoding=Decoding((-0.00001, 4095)))
    (row,) = (row for row in named.settings.rows if row.name == "levels")
    assert row.value == "-1e-05 is black, 4095 white"
    assert row.reason == "6 images have more than 8 bits; --levels"


def test_stages_are_those_that_the_data_have_something_for(
    plan, folder, tmp_path, save_image
):
    common = ["weights", "prepare", "classifier"]
    rest = ["seeds_{}", "affinity_{}", "irn_{}", "masks_{}", "segmentor_a_{}"]

    def expected(branch, *middle, tested=False):
        after = [name.format(branch) for name in rest]
        after += [f"test_a_{branch}"] * tested
        after += ["clusters"] * (branch == "wood")
        return {*common, *middle, *after, "network", "report"}

    assert set(stages(plan().pipeline)) == expected("wood", "wood")
    found = plan(untagged="leave-out")
    assert set(stages(found.pipeline)) == expected("plain")
    assert "left out  (there are no OoD images" in str(found)

    save_image(tmp_path / "candidates/x.png", (50, 40), 9)
    candidates = dict(candidates=tmp_path / "candidates")
    found = stages(plan(untagged="leave-out", **candidates).pipeline)
    assert set(found) == expected("wood", "mine", "review", "wood")
    assert found.index("review") < found.index("wood")
    # Both kinds of OoD images in one data set.
    path = plan(**candidates).pipeline
    dataset = Config.fromfile(path.parent / "wood.py").train_dataloader.dataset
    assert dataset.in_distribution.ann_file == "tags.csv"
    assert [Path(part.get("ann_file", "")).name for part in dataset.ood.datasets] == [
        "",
        "mine.csv",
    ]

    save_image(tmp_path / "masks/a.png", (60, 48), 9)
    before = texts(plan().pipeline)
    path = plan(masks=tmp_path / "masks").pipeline
    # Only the pipeline knows of masks, in the stages that measure.
    after = texts(path)
    assert {name for name in before if before[name] != after[name]} == {
        "pipeline.py",
        "plan.json",
        "written.json",
    }
    options = Config.fromfile(path).stages
    measured = {
        name
        for name, stage in options.items()
        if "masks}" in str(stage) or "/masks" in str(stage)
    }
    assert measured == {"prepare", "seeds_wood", "masks_wood", "test_a_wood", "report"}
    assert set(stages(path)) == expected("wood", "wood", tested=True)
    pipeline = load_pipeline(path, REPOSITORY / "tools")
    shown = {
        name
        for text in pipeline.stages["report"].texts()
        for name, _ in references(text)
    }
    assert {"seeds_wood", "masks_wood", "test_a_wood", "clusters"} <= shown
    needed = {need for needs in pipeline.needs.values() for need in needs}
    assert set(pipeline.stages) - needed == {"network", "report"}


def test_the_network_alone_learns_from_corrected_masks(plan, folder, tmp_path):
    before = texts(plan().pipeline)
    save_label_png(np.ones((48, 60), np.uint8), tmp_path / "corrected/b.png")
    found = plan(corrected=tmp_path / "corrected")
    after = texts(found.pipeline)
    assert "corrected masks           1  (the network learns from them" in str(found)
    assert {name for name in before if before[name] != after[name]} == {
        "network.py",
        "pipeline.py",
        "plan.json",
        "written.json",
    }
    pipeline = load_pipeline(found.pipeline, REPOSITORY / "tools")
    assert {*pipeline.needs["corrected"]} == {"prepare", "masks_wood"}
    assert "corrected" in pipeline.needs["segmentor_a_wood"]
    dataset = Config.fromfile(found.pipeline.parent / "network.py").train_dataloader
    masks = str(pipeline.path("corrected", "labels"))
    assert dataset.dataset.data_prefix.seg_map_path == masks
    assert "1 masks of 4 were corrected by hand" in after["pipeline.py"]


def test_one_class_is_learned_from_images_without_it(plan, folder):
    rows = ["a.jpg,boat", "b.png,boat", "empty 1.jpg,", "empty 2.png,"]
    (folder / "tags.csv").write_text("\n".join(["image,labels", *rows]) + "\n")
    path = plan().pipeline.parent
    train = Config.fromfile(path / "classifier.py").train_dataloader.dataset
    assert [part.ann_file for part in train.datasets] == ["tags.csv", "untagged.csv"]
    wood = Config.fromfile(path / "wood.py").train_dataloader.dataset
    assert wood.in_distribution.ann_file == "tags.csv"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "network"),
    [
        ("efficientnet-lite0", "efficientnet-lite0"),
        ("resnet50", "resnet101"),
        ("resnet18", "resnet18"),
        ("timm:mobilenetv3_small_100", "timm:mobilenetv3_small_100"),
        ("wide-resnet38", "wide-resnet38"),
    ],
)
@pytest.mark.parametrize("wood", [True, False])
def test_configs_build(backbone, network, wood, folder, tmp_path, monkeypatch):
    """Every model of every plan gives maps, levels and labels of its classes."""
    import torch
    from mmengine.registry import init_default_scope

    from mmwood.registry import MODELS, import_locations

    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/wide_resnet38.pth").write_bytes(b"")
    own = read_own_images(folder)
    facts = Facts(tuple(own.classes), (500,) * 40, untagged=40 * wood)
    if backbone != "efficientnet-lite0":
        facts = replace(facts, gpu="a GPU", memory=80.0)
    settings = choose_settings(facts, find_backbone(backbone), find_backbone(network))
    places = Places(CONFIGS, tmp_path / "work", folder, None, None, None, "use")
    places.own.mkdir(parents=True)
    texts = write_configs(own, facts, settings, places)
    assert ("wood.py" in texts) == wood
    for name, text in texts.items():
        compile(text.replace("{{", "").replace("}}", ""), name, "exec")
        (places.own / name).write_text(text)
    import_locations()
    for name in texts.keys() - {"pipeline.py"}:
        cfg = Config.fromfile(places.own / name)
        init_default_scope(cfg.default_scope)
        model = MODELS.build(cfg.model).eval()
        images = torch.zeros(1, 3, 64, 64)
        with torch.no_grad():
            if name == "irn.py":
                model.to("cpu")
                model.backbone(images)
                levels = model._levels.take()
                channels = [level.shape[1] for level in levels]
                assert channels == list(cfg.model.in_channels)
                step = cfg.train_dataloader.dataset.pipeline.label
                small = backbone == "efficientnet-lite0"
                assert step.foreground == (0.4 if small else 0.3)
                assert step.background == 0.15
            elif name == "network.py":
                assert model.decode_head.num_classes == 3
                assert model._forward(images).shape[1] == 3
            else:
                assert model.head.weight.shape[0] == 2
                assert model(images).shape[1] == 2
