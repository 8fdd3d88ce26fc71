# W-OoD on mini_voc, gone on with for an epoch from the classifier. The OoD images at hand
# are small and soft. So that softness does not tell them from the others, half of all
# images lose the detail that those lack.
_base_ = "../classification/efficientnet-lite0_mini-voc.py"

train_pipeline = [
    dict(type="mmwood.LoadImage"),
    dict(type="mmwood.RandomSoften", scale=(96, 128), prob=0.5),
    # The long side becomes 240 to 352.
    dict(
        type="RandomResize", scale=(320, 320), ratio_range=(0.75, 1.1), keep_ratio=True
    ),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomCrop", crop_size=208, pad_if_needed=True, pad_val=128),
    dict(type="PackInputs"),
]
cluster_pipeline = [
    dict(type="mmwood.LoadImage"),
    dict(type="mmwood.RandomSoften", scale=(112, 112)),
    dict(type="Resize", scale=(320, 320), keep_ratio=True),
    dict(type="PackInputs"),
]
# Without L_d: over seeds 0, 1 and 2 the seeds' mIoU at 0.15 is 35.4, with the published
# weight 0.007 it is 34.9, and without OoD images 34.0 (README.md).
model = dict(head=dict(type="mmwood.WOoDHead", distance_weight=0.0))
train_dataloader = dict(
    batch_size=32,
    sampler=dict(_delete_=True, type="mmwood.OoDRatioSampler"),
    dataset=dict(
        _delete_=True,
        type="mmwood.OoDMixDataset",
        in_distribution={{_base_.train_dataloader.dataset}},
        ood=dict(type="mmwood.OoDDataset", ann_file="data/ood_candidates/ood.csv"),
        pipeline=train_pipeline,
    ),
)
default_hooks = dict(
    ood_clusters=dict(
        type="mmwood.OoDClusterHook", clusters=20, pipeline=cluster_pipeline
    )
)
optim_wrapper = dict(optimizer=dict(lr=0.003))
train_cfg = dict(max_epochs=1)
param_scheduler = [
    dict(
        type="PolyLR",
        power=0.9,
        eta_min=0.0,
        begin=0,
        end=1,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
load_from = "work_dirs/efficientnet-lite0_mini-voc/epoch_5.pth"
