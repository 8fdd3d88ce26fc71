# IRN on mini_voc, over the frozen backbone of the classifier whose maps it spreads. Its
# maps are those of W-OoD, at four scales with flips:
#   tools/test.py configs/wood/efficientnet-lite0_wood_mini-voc.py \
#       work_dirs/efficientnet-lite0_wood_mini-voc/epoch_1.pth --tta \
#       --work-dir work_dirs/cam_mini-voc \
#       --cfg-options default_hooks.pseudo_label.save_scores=[strided,full]
#   tools/make_affinity_labels.py configs/irn/efficientnet-lite0_irn_mini-voc.py
_base_ = "../classification/efficientnet-lite0_mini-voc.py"

classifier = "work_dirs/efficientnet-lite0_wood_mini-voc/epoch_1.pth"
scores = dict(
    score_dir="work_dirs/cam_mini-voc/pseudo_labels", score_checkpoint=classifier
)
model = dict(
    _delete_=True,
    type="mmwood.IRN",
    data_preprocessor={{_base_.model.data_preprocessor}},
    backbone=dict(
        type="TIMMBackbone",
        model_name="tf_efficientnet_lite0",
        output_stride=16,
        init_cfg=dict(type="Pretrained", checkpoint=classifier, prefix="backbone."),
    ),
    levels=[
        "timm_model.blocks.0",
        "timm_model.blocks.1",
        "timm_model.blocks.2",
        "timm_model.blocks.4",
        "timm_model.bn2",
    ],
    in_channels=[16, 24, 40, 112, 1280],
    test_cfg=dict(pad_to=320),
)

train_pipeline = [
    dict(type="mmwood.LoadImage"),
    dict(
        type="mmwood.AffinityLabel",
        foreground=0.4,
        background=0.15,
        refine=dict(method="crf"),
        folder="work_dirs/affinity_labels_mini-voc",
    ),
    dict(
        type="RandomResize", scale=(320, 320), ratio_range=(0.5, 1.5), keep_ratio=True
    ),
    dict(type="RandomFlip", prob=0.5),
    dict(type="mmseg.RandomCrop", crop_size=(256, 256)),
    dict(type="Pad", size=(256, 256), pad_val=dict(img=(127.5, 127.5, 127.5), seg=255)),
    dict(type="PackInputs", algorithm_keys=["gt_seg_map"]),
]
train_dataloader = dict(
    dataset=dict(**scores, pipeline=train_pipeline),
)
test_pipeline = [
    dict(type="mmwood.LoadImage"),
    dict(type="mmwood.LoadScoreMaps"),
    dict(type="mmwood.LoadSemanticMask", optional=True),
    dict(
        type="PackInputs",
        algorithm_keys=["gt_sem_seg", "score_maps", "score_classes", "pred_score"],
        meta_keys={{_base_.pack.meta_keys}},
    ),
]
test_dataloader = dict(batch_size=4, dataset=dict(**scores, pipeline=test_pipeline))
test_evaluator = dict(_delete_=True, type="mmwood.SeedMetric", threshold=0.25)
val_dataloader = None
val_evaluator = None
val_cfg = None
tta_model = None

train_cfg = dict(_delete_=True, by_epoch=True, max_epochs=3)
param_scheduler = [
    dict(
        type="PolyLR",
        power=0.9,
        eta_min=0.0,
        begin=0,
        end=3,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
# IRN's program runs SGD with next to no momentum at ten times these rates.
optim_wrapper = dict(
    optimizer=dict(lr=0.01),
    paramwise_cfg=dict(
        _delete_=True, custom_keys=dict(displacement=dict(lr_mult=10.0))
    ),
)
default_hooks = dict(
    checkpoint_guard=dict(weight="edge_head.weight", per_class=False),
    displacement_mean=dict(type="mmwood.DisplacementMeanHook"),
    pseudo_label=dict(threshold=0.25),
    visualization=dict(threshold=0.25),
)
