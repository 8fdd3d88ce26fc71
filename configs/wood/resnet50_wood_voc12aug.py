# W-OoD as published (Lee et al., CVPR 2022) on IRN's classifier and PASCAL VOC 2012:
# 16 + 16 images a batch, K = 50, tau = 20 %, lambda = 0.007, alpha = 1. It starts from
# the classifier without OoD images. Ablations: configs/wood/README.md.
_base_ = "../classification/resnet50_voc12aug.py"

model = dict(head=dict(type="mmwood.WOoDHead"))
train_dataloader = dict(
    batch_size=32,
    sampler=dict(_delete_=True, type="mmwood.OoDRatioSampler"),
    dataset=dict(
        _delete_=True,
        type="mmwood.OoDMixDataset",
        in_distribution={{_base_.train_dataloader.dataset}},
        ood=dict(
            type="mmwood.OoDDataset",
            ann_file="data/ood/ood.csv",
        ),
        pipeline={{_base_.train_pipeline}},
    ),
)
default_hooks = dict(
    # Both kinds of images at VOC's long side.
    ood_clusters=dict(type="mmwood.OoDClusterHook", clusters=50, ood_size=500)
)
load_from = "work_dirs/resnet50_voc12aug/epoch_5.pth"
