# W-OoD on mini_voc, with a list of OoD images that are small and soft. So that softness
# does not tell the two kinds apart, all images lose the same detail.
_base_ = "../classification/efficientnet-lite0_mini-voc.py"

train_pipeline = [
    dict(type="mmwood.LoadImage"),
    dict(type="mmwood.RandomSoften", scale=(96, 128)),
    dict(
        type="RandomResize", scale=(320, 320), ratio_range=(0.9, 1.4), keep_ratio=True
    ),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomCrop", crop_size=256, pad_if_needed=True, pad_val=128),
    dict(type="PackInputs"),
]
cluster_pipeline = [
    dict(type="mmwood.LoadImage"),
    dict(type="mmwood.RandomSoften", scale=(112, 112)),
    dict(type="Resize", scale=(320, 320), keep_ratio=True),
    dict(type="PackInputs"),
]
model = dict(head=dict(type="mmwood.WOoDHead"))
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
load_from = "work_dirs/efficientnet-lite0_mini-voc/epoch_5.pth"
