# W-OoD on SEAM: 8 + 8 images a batch, from the classifier without OoD images. Lee et al.
# (CVPR 2022) publish seeds of it, but no settings: K, tau and lambda are those of
# configs/wood/resnet50_wood_voc12aug.py.
_base_ = "./wrn38_seam_voc12aug.py"

model = dict(head=dict(type="mmwood.WOoDHead"))
train_dataloader = dict(
    batch_size=16,
    sampler=dict(
        _delete_=True, type="mmwood.OoDRatioSampler", in_per_batch=8, ood_per_batch=8
    ),
    dataset=dict(
        _delete_=True,
        type="mmwood.OoDMixDataset",
        in_distribution={{_base_.train_dataloader.dataset}},
        ood=dict(type="mmwood.OoDDataset", ann_file="data/ood/ood.csv"),
        pipeline={{_base_.train_pipeline}},
    ),
)
default_hooks = dict(
    # Both kinds of images at VOC's long side.
    ood_clusters=dict(type="mmwood.OoDClusterHook", clusters=50, ood_size=500)
)
load_from = "work_dirs/wrn38_seam_voc12aug/epoch_8.pth"
