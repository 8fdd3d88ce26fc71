# One's own images with a table of tags: tags.csv with the columns image,labels (labels
# separated by semicolons), image paths relative to data_root. Without masks there is
# nothing to measure seeds with; look at them with --show-dir.
_base_ = ["../image_level.py"]

dataset = dict(
    type="mmwood.ImageLevelDataset",
    label_source="csv",
    ann_file="tags.csv",
    data_root="data/own_images",
    data_prefix=dict(img_path=""),
    # Every image is decoded once at start-up, so that damaged ones are found then.
    check="decode",
)
train_pipeline = [
    dict(type="mmwood.LoadImage"),
    # The long side becomes 320 to 640.
    dict(
        type="RandomResize", scale=(320, 320), ratio_range=(1.0, 2.0), keep_ratio=True
    ),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomCrop", crop_size=512, pad_if_needed=True, pad_val=(104, 116, 124)),
    dict(type="PackInputs"),
]

# A few images may be less than a batch.
train_dataloader = dict(
    drop_last=False, dataset=dict(**dataset, pipeline=train_pipeline)
)
test_dataloader = dict(dataset=dataset)
val_dataloader = None
val_evaluator = None
test_evaluator = dict(metrics=dict(seeds=None))
