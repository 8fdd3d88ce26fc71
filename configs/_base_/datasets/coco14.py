# COCO 2014, 80 classes, at data/coco2014: tags are those of the annotations of train2014.
# tools/dataset_converters/coco.py makes the lists and the masks; these are evaluated with
# alone.
_base_ = ["./coco_classes.py", "../image_level_published.py"]

dataset = dict(
    type="mmwood.ImageLevelDataset",
    label_source="coco",
    classes={{_base_.classes}},
    data_root="data/coco2014",
)
train = dict(
    **dataset,
    ann_file="annotations/instances_train2014.json",
    data_prefix=dict(img_path="train2014", seg_map_path="SegmentationClass"),
)

train_dataloader = dict(dataset=train)
val_dataloader = dict(
    dataset=dict(
        **dataset,
        ann_file="annotations/instances_val2014.json",
        data_prefix=dict(img_path="val2014", seg_map_path="SegmentationClass"),
    )
)
test_dataloader = dict(dataset=train)
