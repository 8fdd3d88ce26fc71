# IRN on COCO 2014, with the settings of PASCAL VOC (resnet50_irn_voc12aug.py), whose steps
# are the same here.
_base_ = [
    "../_base_/models/resnet50_irn.py",
    "../_base_/datasets/coco14.py",
    "../_base_/schedule_irn.py",
    "../_base_/default_runtime.py",
]

classifier = "work_dirs/resnet50_coco14/epoch_5.pth"
scores = dict(
    score_dir="work_dirs/cam_coco14/pseudo_labels", score_checkpoint=classifier
)
model = dict(
    backbone=dict(init_cfg=dict(checkpoint=classifier)),
    test_cfg=dict(pad_to=640),
)

# The mean of the preprocessor, in the order blue, green, red.
mean = (103.53, 116.28, 123.675)
train_pipeline = [
    dict(type="mmwood.LoadImage"),
    dict(
        type="mmwood.AffinityLabel",
        foreground=0.30,
        background=0.05,
        refine=dict(method="crf"),
        folder="work_dirs/affinity_labels_coco14",
    ),
    # COCO's long side is 640.
    dict(
        type="RandomResize",
        scale=(640, 640),
        ratio_range=(0.5, 1.5),
        keep_ratio=True,
        backend="pillow",
        interpolation="bicubic",
    ),
    dict(type="RandomFlip", prob=0.5),
    dict(type="mmseg.RandomCrop", crop_size=(512, 512)),
    dict(type="Pad", size=(512, 512), pad_val=dict(img=mean, seg=255)),
    dict(type="PackInputs", algorithm_keys=["gt_seg_map"]),
]
train_dataloader = dict(batch_size=32, dataset=dict(**scores, pipeline=train_pipeline))
test_dataloader = dict(dataset=dict(**scores, pipeline={{_base_.irn_pipeline}}))
test_evaluator = [dict(type="mmwood.SeedMetric", threshold=0.25)]
val_dataloader = None
val_evaluator = None
tta_model = None
# The classifier's: lr 0.1 at momentum 1e-4, which the released program runs with.
optim_wrapper = dict(optimizer=dict(lr=0.1, momentum=1e-4))
default_hooks = dict(
    displacement_mean=dict(type="mmwood.DisplacementMeanHook"),
    pseudo_label=dict(threshold=0.25),
    visualization=dict(threshold=0.25),
)
