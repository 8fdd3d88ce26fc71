# What all image-level data sets share: loaders, evaluators, the published training
# pipeline of classifiers, and the test-time pipelines of class activation maps: one scale,
# and four with flips.
pack = dict(
    type="PackInputs",
    algorithm_keys=["gt_sem_seg"],
    meta_keys=[
        "img_id",
        "img_path",
        "ori_shape",
        "img_shape",
        "scale_factor",
        "flip",
        "flip_direction",
    ],
)
load = [
    dict(type="mmwood.LoadImage"),
    dict(type="mmwood.LoadSemanticMask", optional=True),
]
test_pipeline = [*load, pack]
# Pillow's bicubic resize, as in IRN's program.
resize = dict(type="Resize", keep_ratio=True, backend="pillow", interpolation="bicubic")
tta_pipeline = [
    *load,
    dict(
        type="TestTimeAug",
        transforms=[
            [dict(**resize, scale_factor=scale) for scale in (0.5, 1.0, 1.5, 2.0)],
            [dict(type="mmwood.RandomFlip", prob=p) for p in (0.0, 1.0)],
            [pack],
        ],
    ),
]
tta_model = dict(type="mmwood.MultiScaleCAM")
# IRN's: with the score maps that it spreads.
irn_pack = dict(
    type="PackInputs",
    algorithm_keys=["gt_sem_seg", "score_maps", "score_classes", "pred_score"],
    meta_keys=pack["meta_keys"],
)
irn_pipeline = [load[0], dict(type="mmwood.LoadScoreMaps"), load[1], irn_pack]

train_pipeline = [
    dict(type="mmwood.LoadImage"),
    # The long side becomes 320 to 640.
    dict(
        type="RandomResize",
        scale=(320, 320),
        ratio_range=(1.0, 2.0),
        keep_ratio=True,
        backend="pillow",
        interpolation="bicubic",
    ),
    dict(type="RandomFlip", prob=0.5),
    dict(
        type="RandomCrop",
        crop_size=512,
        pad_if_needed=True,
        # The mean of the preprocessor, in the order blue, green, red.
        pad_val=(104, 116, 124),
    ),
    dict(type="PackInputs"),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(pipeline=train_pipeline),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    # Two processes must not write the labels of one image.
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(pipeline=test_pipeline),
)
val_dataloader = test_dataloader
val_evaluator = dict(type="AveragePrecision")
test_evaluator = dict(
    type="mmwood.NamedEvaluator",
    metrics=dict(
        average_precision=dict(type="AveragePrecision"),
        seeds=dict(type="mmwood.SeedMetric", threshold=0.15),
    ),
)
