# The demo's IRN: pseudo masks from the maps of the demo's W-OoD classifier.
# After `make demo`: tools/test.py THIS work_dirs/demo/irn_wood/epoch_1.pth
_base_ = [
    "../_base_/models/resnet50_irn.py",
    "../_base_/datasets/context_shapes_irn.py",
]

classifier = "work_dirs/demo/wood/epoch_4.pth"
scores = dict(
    score_dir="work_dirs/demo/seeds_wood/pseudo_labels", score_checkpoint=classifier
)
model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[63.75, 63.75, 63.75]),
    backbone=dict(
        depth=18,
        stem_channels=16,
        base_channels=16,
        strides=(1, 2, 1, 1),
        init_cfg=dict(checkpoint=classifier),
    ),
    in_channels=[16, 16, 32, 64, 128],
    radius=5,
    # 32 steps gave better masks than 64, by the true ones (one run each).
    test_cfg=dict(pad_to=None, cam_power=2.0, steps=32),
)

pipeline = dict(
    # PAMR needs no compiler, and the images are so small that it need not be run
    # beforehand (tools/make_affinity_labels.py).
    label=dict(
        foreground=0.45,
        background=0.2,
        refine=dict(method="pamr", iterations=5, dilations=(1, 2, 4)),
        maps="strided",
    ),
    # Objects of these small images are a few cells of the stride-4 grid: enlarged by
    # about a half. By two is hardly better and takes half as long again.
    resize=dict(scale=(192, 192), ratio_range=(0.7, 1.4)),
    crop=dict(crop_size=(112, 112)),
    pad=dict(size=(112, 112), pad_val=dict(img=(127.5, 127.5, 127.5))),
)
train_dataloader = dict(dataset=dict(**scores, pipeline=pipeline))
test_pipeline = [
    dict(type="mmwood.LoadImage"),
    dict(type="mmwood.LoadScoreMaps"),
    dict(type="mmwood.LoadSemanticMask", optional=True),
    dict(type="Resize", scale_factor=1.5, keep_ratio=True),
    dict(
        type="PackInputs",
        algorithm_keys=["gt_sem_seg", "score_maps", "score_classes", "pred_score"],
        meta_keys={{_base_.pack.meta_keys}},
    ),
]
test_dataloader = dict(dataset=dict(**scores, pipeline=test_pipeline))

# A short training: the published one, SGD, takes many times the steps.
train_cfg = dict(max_epochs=1)
optim_wrapper = dict(
    _delete_=True, optimizer=dict(type="AdamW", lr=2e-3, weight_decay=0.05)
)
default_hooks = dict(
    channels_last=dict(type="mmwood.ChannelsLastHook"),
    displacement_mean=dict(
        pipeline=[
            dict(type="mmwood.LoadImage"),
            dict(type="Resize", scale_factor=1.5, keep_ratio=True),
            dict(type="PackInputs"),
        ],
        max_images=50,
    ),
)
