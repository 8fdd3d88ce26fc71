# The small DeepLab-v2 on mini_voc's pseudo masks, with reviewed OoD images as images of
# nothing but background: one image in ten. Tested on val (mIoU) and on the OoD images that
# were kept out of the training (false positives) at once.
_base_ = "./deeplabv2_efficientnet-lite0_mini-voc.py"

# OoD images are 128 pixels wide, the others 320: so that softness does not tell background,
# half of both are made as soft.
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="mmwood.RandomSoften", scale=(96, 128), prob=0.5),
    dict(
        type="RandomResize", scale=(320, 320), ratio_range=(0.5, 1.5), keep_ratio=True
    ),
    dict(type="RandomCrop", crop_size=(256, 256)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
# The OoD images become as large as the others, in the test too.
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(320, 320), keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
ood = dict(type="mmwood.OoDBackgroundDataset", ann_file="data/ood_candidates/ood.csv")
train_dataloader = dict(
    sampler=dict(
        _delete_=True, type="mmwood.OoDFractionSampler", batch_size=8, fraction=0.1
    ),
    dataset=dict(
        _delete_=True,
        type="mmwood.OoDMixDataset",
        in_distribution={{_base_.train_dataloader.dataset}},
        ood=dict(**ood, part="train"),
        pipeline=train_pipeline,
    ),
)
test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="mmwood.OoDMixDataset",
        in_distribution={{_base_.test_dataloader.dataset}},
        # Left out of mIoU.
        ood=dict(**ood, part="held-out", label=255),
        pipeline=test_pipeline,
    )
)
test_evaluator = dict(
    metrics=dict(false_positives=dict(type="mmwood.FalsePositiveMetric", min_area=100))
)
