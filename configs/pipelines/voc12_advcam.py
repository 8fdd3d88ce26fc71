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
# As W-OoD's program gives these maps to IRN.
_walk = {
    "model.test_cfg.cam_power": 1.5,
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
    masks_plain=dict(options=_walk),
    masks_wood=dict(options=_walk),
    report=dict(
        report=dict(
            title="PASCAL VOC 2012, AdvCAM", mining=None, review=None, figures=[]
        )
    ),
)
