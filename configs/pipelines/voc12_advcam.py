# As voc12_r101.py, with AdvCAM's maps of the classifiers that it has trained: run that one
# first, at least until these (--until classifier, --until wood). This is W-OoD's headline
# with ResNet-101; AdvCAM takes some 75 times the time of plain maps.
_base_ = "./voc12_r101.py"

work_dir = "work_dirs/voc12_advcam"
inputs = dict(
    plain_config="configs/advcam/resnet50_advcam_voc12aug.py",
    wood_config="configs/advcam/resnet50_advcam_wood_voc12aug.py",
    plain_checkpoint="work_dirs/voc12/classifier/epoch_5.pth",
    wood_checkpoint="work_dirs/voc12/wood/epoch_5.pth",
)
# Without OoD images as AdvCAM's program gives the maps to IRN: labels with 0.35 and 0.15,
# background 0.25 after the walk (the config's). With them as W-OoD's: 0.30 and 0.15
# (_base_/pipelines/published.py), and 0.22. Both raise the maps to a power.
_labels = {"train_dataloader.dataset.pipeline.label.foreground": 0.35}
_power = {"model.test_cfg.cam_power": 1.5}
_walk = {
    **_power,
    "default_hooks.pseudo_label.threshold": 0.22,
    "default_hooks.visualization.threshold": 0.22,
    "test_evaluator.metrics.seeds.threshold": 0.22,
}
stages = dict(
    classifier=None,
    mine=None,
    review=None,
    wood=None,
    clusters=None,
    affinity_plain=dict(options=_labels),
    irn_plain=dict(options=_labels),
    masks_plain=dict(options=_power),
    masks_wood=dict(options=_walk),
    report=dict(
        report=dict(
            title="PASCAL VOC 2012, AdvCAM", mining=None, review=None, figures=[]
        )
    ),
)
