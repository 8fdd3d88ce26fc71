# The built-in data at data/context_shapes, made by
# tools/dataset_converters/context_shapes.py.
_base_ = ["../cam_test.py"]

classes = ["aeroplane", "bird", "boat", "car", "sheep", "train"]
dataset = dict(
    type="mmwood.ImageLevelDataset",
    label_source="mask",
    classes=classes,
    data_root="data/context_shapes",
    data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
)
train_pipeline = [
    dict(type="mmwood.LoadImage"),
    dict(
        type="RandomResize", scale=(128, 128), ratio_range=(0.9, 1.4), keep_ratio=True
    ),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomCrop", crop_size=112, pad_if_needed=True, pad_val=128),
    dict(type="PackInputs"),
]

train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(
        **dataset,
        ann_file="ImageSets/Segmentation/train.txt",
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(
        **dataset,
        ann_file="ImageSets/Segmentation/val.txt",
        pipeline={{_base_.test_pipeline}},
    ),
)
test_dataloader = dict(
    batch_size=8,
    num_workers=1,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(
        **dataset,
        ann_file="ImageSets/Segmentation/train.txt",
        pipeline={{_base_.test_pipeline}},
    ),
)
val_evaluator = dict(type="AveragePrecision")
test_evaluator = [
    dict(type="AveragePrecision"),
    dict(type="mmwood.SeedMetric", threshold=0.15),
]
