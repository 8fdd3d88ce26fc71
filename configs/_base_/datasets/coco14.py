# COCO 2014, 80 classes, at data/coco2014: tags are those of the annotations of train2014.
# tools/dataset_converters/coco.py makes the lists and the masks; these are evaluated with
# alone.
_base_ = ["./coco_classes.py", "../image_level.py"]

dataset = dict(
    type="mmwood.ImageLevelDataset",
    label_source="coco",
    classes={{_base_.classes}},
    data_root="data/coco2014",
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
train = dict(
    **dataset,
    ann_file="annotations/instances_train2014.json",
    data_prefix=dict(img_path="train2014", seg_map_path="SegmentationClass"),
)

train_dataloader = dict(dataset=dict(**train, pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(
        **dataset,
        ann_file="annotations/instances_val2014.json",
        data_prefix=dict(img_path="val2014", seg_map_path="SegmentationClass"),
    )
)
test_dataloader = dict(dataset=train)
