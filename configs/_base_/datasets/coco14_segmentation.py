# COCO 2014 for segmentation networks, 80 classes and background: trained on the pseudo
# masks of train2014, evaluated with the true masks and instances of val2014.
# tools/dataset_converters/coco.py makes the lists and the masks.
_base_ = ["./coco_classes.py", "../segmentation.py"]

pseudo_masks = "work_dirs/resnet50_irn_coco14/pseudo_labels/labels"
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    # COCO's long side is 640.
    dict(
        type="RandomResize", scale=(640, 640), ratio_range=(0.5, 1.5), keep_ratio=True
    ),
    dict(type="RandomCrop", crop_size=(321, 321)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    dataset=dict(
        type="BaseSegDataset",
        metainfo={{_base_.metainfo}},
        ann_file="data/coco2014/ImageSets/train2014.txt",
        data_prefix=dict(img_path="data/coco2014/train2014", seg_map_path=pseudo_masks),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type="BaseSegDataset",
        metainfo={{_base_.metainfo}},
        data_root="data/coco2014",
        ann_file="ImageSets/val2014.txt",
        data_prefix=dict(img_path="val2014", seg_map_path="SegmentationClass"),
    ),
)
test_dataloader = val_dataloader
instances = "data/coco2014/annotations/instances_val2014.json"
test_evaluator = dict(metrics=dict(ia_iou=dict(instance_file=instances)))
