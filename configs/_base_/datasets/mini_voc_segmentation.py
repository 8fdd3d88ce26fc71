# mini_voc (data/mini_voc) for segmentation networks: trained on pseudo masks of the
# images of train, evaluated with the true masks of val. Instances are connected
# components: there are instance maps of most images only, made from boxes.
_base_ = "../segmentation.py"

pseudo_masks = "work_dirs/efficientnet-lite0_irn_mini-voc/pseudo_labels/labels"
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    # The long side becomes 160 to 480.
    dict(
        type="RandomResize", scale=(320, 320), ratio_range=(0.5, 1.5), keep_ratio=True
    ),
    dict(type="RandomCrop", crop_size=(256, 256)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    dataset=dict(
        type="PascalVOCDataset",
        ann_file="data/mini_voc/ImageSets/Segmentation/train.txt",
        data_prefix=dict(
            img_path="data/mini_voc/JPEGImages", seg_map_path=pseudo_masks
        ),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        type="PascalVOCDataset",
        data_root="data/mini_voc",
        ann_file="ImageSets/Segmentation/val.txt",
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
    ),
)
test_dataloader = val_dataloader
