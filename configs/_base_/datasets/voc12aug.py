# PASCAL VOC 2012, the 10,582 images of trainaug (SBD), at data/VOCdevkit/VOC2012.
# Tags are those of the published experiments: every object of the image's annotation,
# difficult ones included. Seeds are evaluated on the 1,464 images of train. To make
# labels for all of trainaug: --cfg-options
# test_dataloader.dataset.ann_file=ImageSets/Segmentation/trainaug.txt
# test_dataloader.dataset.data_prefix.seg_map_path=SegmentationClassAug
_base_ = ["./voc_classes.py", "../cam_test.py"]

dataset = dict(
    type="mmwood.ImageLevelDataset",
    label_source="voc_xml",
    classes={{_base_.classes}},
    data_root="data/VOCdevkit/VOC2012",
)
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
    pin_memory=True,
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(
        **dataset,
        ann_file="ImageSets/Segmentation/trainaug.txt",
        data_prefix=dict(img_path="JPEGImages", xml_path="Annotations"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(
        **dataset,
        ann_file="ImageSets/Segmentation/val.txt",
        data_prefix=dict(
            img_path="JPEGImages",
            xml_path="Annotations",
            seg_map_path="SegmentationClass",
        ),
        pipeline={{_base_.test_pipeline}},
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(
        **dataset,
        ann_file="ImageSets/Segmentation/train.txt",
        data_prefix=dict(
            img_path="JPEGImages",
            xml_path="Annotations",
            seg_map_path="SegmentationClass",
        ),
        pipeline={{_base_.test_pipeline}},
    ),
)
val_evaluator = dict(type="AveragePrecision")
test_evaluator = [
    dict(type="AveragePrecision"),
    dict(type="mmwood.SeedMetric", threshold=0.15),
]
