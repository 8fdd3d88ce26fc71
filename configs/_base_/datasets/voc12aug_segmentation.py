# PASCAL VOC 2012 for segmentation networks: trained on the pseudo masks of the 10,582
# images of trainaug, evaluated with the true masks and instances of val.
_base_ = "../segmentation.py"

pseudo_masks = "work_dirs/resnet50_irn_voc12aug/pseudo_labels/labels"
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    # VOC's long side is 500.
    dict(
        type="RandomResize", scale=(500, 500), ratio_range=(0.5, 1.5), keep_ratio=True
    ),
    dict(type="RandomCrop", crop_size=(321, 321)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    dataset=dict(
        type="PascalVOCDataset",
        ann_file="data/VOCdevkit/VOC2012/ImageSets/Segmentation/trainaug.txt",
        data_prefix=dict(
            img_path="data/VOCdevkit/VOC2012/JPEGImages", seg_map_path=pseudo_masks
        ),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type="PascalVOCDataset",
        data_root="data/VOCdevkit/VOC2012",
        ann_file="ImageSets/Segmentation/val.txt",
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(metrics=dict(ia_iou=dict(instance_dir="SegmentationObject")))
test_evaluator = val_evaluator
