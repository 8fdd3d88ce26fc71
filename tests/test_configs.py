"""Every config parses and builds; the published one trains on real images."""

import re
from pathlib import Path

import pytest
from mmengine.config import Config
from undrawn_weights import UndrawnWeights

pytest.importorskip("mmpretrain")

from mmengine.registry import DATASETS, MODELS, init_default_scope

from mmwood.engine.runner import use_tta
from mmwood.fileio.labels import voc_palette

REPOSITORY = Path(__file__).parents[1]
CONFIGS = [
    path.relative_to(REPOSITORY / "configs")
    for path in sorted((REPOSITORY / "configs").rglob("*.py"))
    if not {"_base_", "pipelines"} & set(path.parts)
]


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS, ids=str)
def test_config_builds(name):
    if "efficientnet" in str(name):
        pytest.importorskip("timm")
    if "mask2former" in str(name):
        # Its model alone needs mmcv's compiled operations.
        Config.fromfile(REPOSITORY / "configs" / name, import_custom_modules=False)
        pytest.importorskip("mmdet.models", exc_type=ImportError)
    cfg = Config.fromfile(REPOSITORY / "configs" / name)
    for key in ("default_scope", "train_dataloader", "optim_wrapper", "tta_pipeline"):
        assert key in cfg
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        # MMPretrain's train.py and test.py fill these in differently;
        # MMSegmentation's inferencer takes none, and mmengine's default is right.
        stated = cfg.default_scope == "mmpretrain" or loader == "train_dataloader"
        assert cfg[loader] is None or ("collate_fn" in cfg[loader]) == stated
    # Without any file of weights: a checkpoint needs none beside its config.
    init_default_scope(cfg.default_scope)
    with UndrawnWeights():
        model = MODELS.build(cfg.model)
    dataset = cfg.train_dataloader.dataset
    classes = dataset.get("in_distribution", dataset).get("classes")
    if hasattr(model, "decode_head"):
        dataset = dataset.get("in_distribution", dataset)
        metainfo = dict(DATASETS.get(f"mmseg.{dataset.type}").METAINFO)
        metainfo.update(dataset.get("metainfo", {}))
        if not metainfo:
            # A config over one's own images' names the classes.
            assert "own-images" in str(name)
            return
        assert model.decode_head.num_classes == len(metainfo["classes"])
        # Without a palette mmseg draws background in a random colour.
        assert metainfo["palette"] == voc_palette(len(metainfo["classes"])).tolist()
    # An IRN has no classes of its own.
    elif classes is not None and hasattr(model, "head"):
        assert model.head.num_classes == len(classes)


@pytest.mark.parametrize("name", [n for n in CONFIGS if "task-b" in n.name], ids=str)
def test_task_b_begins_where_task_a_ends(name):
    folder = Path("work_dirs", name.stem.replace("task-b", "task-a"))
    task_a, task_b = (
        Config.fromfile(REPOSITORY / "configs" / name.with_stem(stem))
        for stem in (folder.name, name.stem)
    )
    assert task_b.load_from == f"{folder}/iter_{task_a.train_cfg.max_iters}.pth"
    assert task_a.default_hooks.ewc.mode == "consolidate"
    assert task_b.default_hooks.ewc.file == f"{folder}/ewc.safetensors"


def test_the_demo_s_configs_name_what_make_demo_leaves():
    """So that each can be run by hand after it."""
    demo = REPOSITORY / "configs/demo"
    cfg = {path.stem: Config.fromfile(path) for path in demo.glob("*.py")}
    work = "work_dirs/demo"
    classifier, wood = (
        f"{work}/{name}/epoch_{cfg[name].train_cfg.max_epochs}.pth"
        for name in ("classifier", "wood")
    )
    task_a = f"{work}/segmentor_a_wood"
    for name in ("plain", "wood", "seam", "seam_wood"):
        assert cfg[name].load_from == classifier
    for name in ("irn", "segmentor", "segmentor_ce", "segmentor_sbce"):
        assert cfg[name].model.backbone.init_cfg.checkpoint == wood
    for name in ("segmentor_ce", "segmentor_sbce"):
        end = cfg["segmentor"].train_cfg.max_iters
        assert cfg[name].load_from == f"{task_a}/iter_{end}.pth"
    assert cfg["segmentor_sbce"].default_hooks.ewc.file == f"{task_a}/ewc.safetensors"
    data = cfg["segmentor"].train_dataloader.dataset.data_prefix
    assert data.seg_map_path == f"{work}/masks_wood/pseudo_labels/labels"
    # Lengths are stated nowhere else.
    stages = Config.fromfile(REPOSITORY / "configs/pipelines/demo.py").stages
    for stage in filter(None, stages.values()):
        assert not any(key.startswith("train_cfg") for key in stage.get("options", ()))


#: Two images a step without pretrained weights; the rest is as configured.
SMALL = (
    *("--work-dir", "work", "--no-validate", "--cfg-options"),
    "model.backbone.init_cfg=None",
    "train_dataloader.batch_size=2",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "train_cfg.max_epochs=1",
    "default_hooks.logger.interval=1",
)


@pytest.mark.slow
def test_published_resnet50_takes_a_step_on_mini_voc(mini_voc, run_tool, tmp_path):
    names = (mini_voc / "ImageSets/Segmentation/train.txt").read_text().split()
    (tmp_path / "list.txt").write_text("\n".join(names[:2]))
    data = "train_dataloader.dataset"
    text = run_tool(
        "train.py",
        REPOSITORY / "configs/classification/resnet50_voc12aug.py",
        *SMALL,
        f"{data}.data_root={mini_voc}",
        f"{data}.ann_file={tmp_path / 'list.txt'}",
        f"{data}.label_source=mask",
        f"{data}.data_prefix.seg_map_path=SegmentationClass",
        f"{data}.data_prefix.xml_path=JPEGImages",
    )
    assert "Epoch(train) [1][1/1]" in text


def test_irn_of_own_images_as_the_page_says(tmp_path):
    """The page's config builds: its fields are those of the model and the data sets."""
    text = (REPOSITORY / "docs/step_by_step.md").read_text()
    (config,) = re.findall(r"```python\n([^`]*irn_own-images[^`]*)```", text)
    (tmp_path / "configs").symlink_to(REPOSITORY / "configs")
    (tmp_path / "my_irn_config.py").write_text(config)
    cfg = Config.fromfile(tmp_path / "my_irn_config.py")
    init_default_scope(cfg.default_scope)
    assert cfg.model.backbone.init_cfg.checkpoint == cfg.classifier
    cfg.model.backbone.init_cfg = None
    MODELS.build(cfg.model)
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        # Everything that is named is there but the user's images.
        with pytest.raises(FileNotFoundError, match=r"my_images/tags\.csv"):
            DATASETS.build(loader.dataset)


def test_irn_has_no_test_time_augmentation():
    cfg = Config.fromfile(REPOSITORY / "configs/demo/irn.py")
    with pytest.raises(ValueError, match="the config has no tta_model"):
        use_tta(cfg)
