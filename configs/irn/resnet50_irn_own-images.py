# IRN on one's own images, from the maps that a classifier's test left (README.md). Name
# the classifier and the folder of its maps as there. PAMR refines the labels while the
# network trains; for the dense CRF, and labels made once, see
# configs/irn/resnet50_irn_voc12aug.py.
_base_ = [
    "../_base_/models/resnet50_irn.py",
    "../_base_/datasets/own_images.py",
    "../_base_/schedule_irn.py",
    "../_base_/default_runtime.py",
]

mean = (103.53, 116.28, 123.675)
train_pipeline = [
    dict(type="mmwood.LoadImage"),
    dict(type="mmwood.AffinityLabel", refine=dict(method="pamr"), maps="strided"),
    # The long side becomes 250 to 750.
    dict(
        type="RandomResize", scale=(500, 500), ratio_range=(0.5, 1.5), keep_ratio=True
    ),
    dict(type="RandomFlip", prob=0.5),
    dict(type="mmseg.RandomCrop", crop_size=(512, 512)),
    dict(type="Pad", size=(512, 512), pad_val=dict(img=mean, seg=255)),
    dict(type="PackInputs", algorithm_keys=["gt_seg_map"]),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
test_dataloader = dict(dataset=dict(pipeline={{_base_.irn_pipeline}}))
tta_model = None
default_hooks = dict(
    displacement_mean=dict(type="mmwood.DisplacementMeanHook"),
    pseudo_label=dict(threshold=0.25),
    visualization=dict(threshold=0.25),
)
