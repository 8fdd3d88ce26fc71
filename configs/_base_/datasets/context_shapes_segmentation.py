# The built-in data at data/context_shapes for segmentation networks: trained on pseudo
# masks of train, evaluated with the true masks and instances of val.
_base_ = "../segmentation.py"

pseudo_masks = "work_dirs/demo/masks_wood/pseudo_labels/labels"
metainfo = dict(
    classes=["background", "aeroplane", "bird", "boat", "car", "sheep", "train"],
    # VOC's colours: without any, background would have a random one.
    palette=[
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [0, 0, 128],
        [128, 0, 128],
        [0, 128, 128],
    ],
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(
        type="RandomResize", scale=(128, 128), ratio_range=(0.9, 1.4), keep_ratio=True
    ),
    dict(type="RandomCrop", crop_size=(112, 112)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    dataset=dict(
        type="BaseSegDataset",
        metainfo=metainfo,
        ann_file="data/context_shapes/ImageSets/Segmentation/train.txt",
        data_prefix=dict(
            img_path="data/context_shapes/JPEGImages", seg_map_path=pseudo_masks
        ),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        type="BaseSegDataset",
        metainfo=metainfo,
        data_root="data/context_shapes",
        ann_file="ImageSets/Segmentation/val.txt",
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(metrics=dict(ia_iou=dict(instance_dir="SegmentationObject")))
test_evaluator = val_evaluator
