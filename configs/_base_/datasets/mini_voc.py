# 1,299 images of PASCAL VOC 2012 with long side 320, at data/mini_voc. Tags are the
# sets of classes in the masks; beyond that, masks are only evaluated with.
_base_ = ["./voc_classes.py", "../image_level.py"]

dataset = dict(
    type="mmwood.ImageLevelDataset",
    label_source="mask",
    classes={{_base_.classes}},
    data_root="data/mini_voc",
    data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
)
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
train = dict(**dataset, ann_file="ImageSets/Segmentation/train.txt")

train_dataloader = dict(num_workers=2, dataset=dict(**train, pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=1, dataset=dict(**dataset, ann_file="ImageSets/Segmentation/val.txt")
)
# Seeds are made, and evaluated, on the training images.
test_dataloader = dict(num_workers=1, dataset=train)
