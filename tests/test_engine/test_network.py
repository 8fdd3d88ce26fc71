"""A network's folder: complete, safe, self-contained, and nobody else's files."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

pytest.importorskip("mmseg")
pytest.importorskip("mmpretrain")

from mmengine.registry import init_default_scope
from mmseg.apis import MMSegInferencer

from mmwood.engine import network
from mmwood.engine.network import load_network, publish_network
from mmwood.fileio.labels import voc_palette

CLASSES = ["background", "disc", "square", "stripe"]


@pytest.fixture
def checkpoint(segmentor_weights):
    """As a training leaves it: wrapped, with an optimizer and a hook's state."""
    content = torch.load(segmentor_weights, weights_only=False)
    state = {f"module.{name}": value for name, value in content["state_dict"].items()}
    state["ewc.fisher"] = torch.zeros(2)
    optimizer = dict(state={0: np.zeros(3)})
    torch.save(dict(content, state_dict=state, optimizer=optimizer), segmentor_weights)
    return segmentor_weights


@pytest.mark.slow
def test_folder(segmentor_config, checkpoint, tmp_path, voc_folder):
    text = segmentor_config.read_text().replace(
        'type="mmpretrain.ResNet"',
        'init_cfg=dict(type="Pretrained", checkpoint="/home/me/start.pth"), '
        'norm_cfg=dict(type="SyncBN"), type="mmpretrain.ResNet"',
    )
    segmentor_config.write_text(text + '\nload_from = "https://host/task_a.pth"\n')
    out = tmp_path / "network"
    metrics = dict(val=dict(mIoU=41.25, aAcc=None))
    manifest = publish_network(segmentor_config, checkpoint, out, metrics=metrics)
    assert manifest["training_images"] == 6
    assert manifest["supervision"] == "masks"
    assert manifest["pretraining"] == ["https://host/task_a.pth", "start.pth"]

    # Nothing but tensors and plain values.
    content = torch.load(out / "weights.pth", weights_only=True)
    assert set(content) == {"state_dict", "meta"}
    assert "ewc.fisher" not in content["state_dict"]
    assert content["meta"]["dataset_meta"]["classes"] == tuple(CLASSES)
    # No place of the machine that made it, nothing of the training.
    for name in ("config.py", "README.md", "classes.csv", "manifest.json"):
        text = (out / name).read_text()
        assert str(tmp_path) not in text
        assert "/home/me" not in text
    cfg = Config.fromfile(out / "config.py")
    assert "_base_" not in (out / "config.py").read_text()
    assert "init_cfg" not in cfg.model.backbone
    assert cfg.model.backbone.norm_cfg.type == "BN"
    assert not {"train_dataloader", "optim_wrapper", "load_from"} & set(cfg)
    with (out / "classes.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["class"] for row in rows] == CLASSES
    assert rows[1]["red"] == "128"
    readme = (out / "README.md").read_text()
    for part in (
        "| val | mIoU | 41.25 |",
        "Training images: 6",
        "start.pth",
        "licence",
    ):
        assert part in readme

    loaded = load_network(out)
    assert loaded.classes == tuple(CLASSES)
    np.testing.assert_array_equal(loaded.palette, voc_palette(4))
    pair = load_network(segmentor_config, checkpoint)
    for name, value in loaded.model.state_dict().items():
        torch.testing.assert_close(value, pair.model.state_dict()[name])

    # As MMSegmentation's users take it.
    image = voc_folder / "JPEGImages/image_0.jpg"
    inferencer = MMSegInferencer(
        str(out / "config.py"), str(out / "weights.pth"), device="cpu"
    )
    found = inferencer(str(image), out_dir=str(tmp_path / "drawn"), show=False)
    assert found["predictions"].shape == (40, 48)
    (drawn,) = (tmp_path / "drawn/vis").iterdir()
    assert Image.open(drawn).size == (48, 40)


@pytest.mark.slow
def test_written_again(segmentor_config, checkpoint, tmp_path):
    out = tmp_path / "network"
    publish_network(segmentor_config, checkpoint, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    publish_network(segmentor_config, checkpoint, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    (out / "README.md").write_text("My own words.\n")
    with pytest.raises(FileExistsError, match=r"README\.md was changed since"):
        publish_network(segmentor_config, checkpoint, out)
    assert (out / "README.md").read_text() == "My own words.\n"
    publish_network(segmentor_config, checkpoint, out, overwrite=True)
    assert (out / "README.md").read_bytes() == before["README.md"]

    content = torch.load(checkpoint, weights_only=False)
    name = "module.decode_head.conv_seg.bias"
    content["state_dict"][name] = content["state_dict"][name] + 1
    torch.save(content, checkpoint)
    with pytest.raises(ValueError, match="made with another checkpoint_sha256"):
        publish_network(segmentor_config, checkpoint, out)
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.txt").write_text("of a user")
    with pytest.raises(ValueError, match="holds files but no manifest"):
        publish_network(segmentor_config, checkpoint, other, overwrite=True)


def test_half_a_folder_is_none(segmentor_config, checkpoint, voc_folder, tmp_path):
    out = tmp_path / "network"
    # The training's images need not be at hand.
    voc_folder.rename(tmp_path / "elsewhere")
    assert publish_network(segmentor_config, checkpoint, out)["supervision"] is None
    assert "- Training images: not known" in (out / "README.md").read_text()
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps(dict(manifest, complete=False)))
    with pytest.raises(ValueError, match="is not complete: run tools/model_converters"):
        load_network(out)
    (out / "manifest.json").write_text(json.dumps(manifest))
    (out / "weights.pth").write_bytes(checkpoint.read_bytes())
    with pytest.raises(ValueError, match="are not the weights that"):
        load_network(out)


def test_weights_of_other_classes(segmentor_config, checkpoint, tmp_path):
    text = segmentor_config.read_text()
    segmentor_config.write_text(text.replace("num_classes=4", "num_classes=5"))
    with pytest.raises(ValueError, match="another network than") as error:
        publish_network(segmentor_config, checkpoint, tmp_path / "network")
    assert "(4, 8, 1, 1) instead of (5, 8, 1, 1)" in str(error.value)
    assert "trained on 4 classes" in str(error.value)
    segmentor_config.write_text(text.replace("channels=8", "channels=9"))
    with pytest.raises(ValueError, match="another network than"):
        load_network(segmentor_config, checkpoint)
    assert not (tmp_path / "network").exists()


def test_classifiers_are_no_networks(small_config, checkpoint):
    with pytest.raises(ValueError, match="CAMClassifier, which is no segmentation"):
        load_network(small_config, checkpoint)


def test_classes_and_colours_that_a_data_set_has():
    from mmseg.datasets import ADE20KDataset

    init_default_scope("mmseg")
    cfg = Config(dict(test_dataloader=dict(dataset=dict(type="ADE20KDataset"))))
    classes, palette = network._classes(cfg, {}, Path("config.py"))
    assert classes == ADE20KDataset.METAINFO["classes"]
    np.testing.assert_array_equal(palette, ADE20KDataset.METAINFO["palette"])
    with pytest.raises(ValueError, match="names the classes: add the latter"):
        network._classes(Config(dict(model=dict())), {}, Path("config.py"))
