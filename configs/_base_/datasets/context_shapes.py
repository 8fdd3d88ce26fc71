# The built-in data at data/context_shapes, made by
# tools/dataset_converters/context_shapes.py.
_base_ = ["../image_level.py"]

dataset = dict(
    type="mmwood.ImageLevelDataset",
    label_source="mask",
    classes=["aeroplane", "bird", "boat", "car", "sheep", "train"],
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
# Two of IRN's four scales: half of so small an image shows little, and without the largest a
# test takes half the time. With the true masks these were found to give better seeds.
_resize = dict(
    type="Resize", keep_ratio=True, backend="pillow", interpolation="bicubic"
)
tta_pipeline = [
    dict(type="mmwood.LoadImage"),
    dict(type="mmwood.LoadSemanticMask", optional=True),
    dict(
        type="TestTimeAug",
        transforms=[
            [dict(**_resize, scale_factor=scale) for scale in (1.0, 1.5)],
            [dict(type="mmwood.RandomFlip", prob=p) for p in (0.0, 1.0)],
            [{{_base_.pack}}],
        ],
    ),
]
train = dict(**dataset, ann_file="ImageSets/Segmentation/train.txt")

train_dataloader = dict(num_workers=1, dataset=dict(**train, pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=1, dataset=dict(**dataset, ann_file="ImageSets/Segmentation/val.txt")
)
# Seeds are made, and evaluated, on the training images.
test_dataloader = dict(batch_size=8, num_workers=1, dataset=train)
