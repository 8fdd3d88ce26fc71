# 1,299 images of PASCAL VOC 2012 with long side 320, at data/mini_voc. Tags are the
# sets of classes in the masks; beyond that, masks are only evaluated with.
_base_ = ["./voc_classes.py", "../cam_test.py"]

classes = {{_base_.classes}}
data_root = "data/mini_voc"
train_pipeline = [
    dict(type="mmwood.LoadImage"),
    # The long side becomes 0.9 to 1.4 times 320.
    dict(
        type="RandomResize", scale=(320, 320), ratio_range=(0.9, 1.4), keep_ratio=True
    ),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomCrop", crop_size=256, pad_if_needed=True, pad_val=128),
    dict(type="PackInputs"),
]
dataset = dict(
    type="mmwood.ImageLevelDataset",
    label_source="mask",
    classes=classes,
    data_root=data_root,
    data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
)

train_dataloader = dict(
    batch_size=16,
    num_workers=2,
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
    batch_size=1,
    num_workers=1,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(
        **dataset,
        ann_file="ImageSets/Segmentation/val.txt",
        pipeline={{_base_.test_pipeline}},
    ),
)
# Seeds are made, and evaluated, on the training images.
test_dataloader = dict(
    batch_size=1,
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
