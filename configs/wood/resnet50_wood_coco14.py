# W-OoD on COCO 2014, with the settings of PASCAL VOC (resnet50_wood_voc12aug.py).
_base_ = "../classification/resnet50_coco14.py"

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
            ann_file="data/ood/ood_coco.csv",
        ),
        pipeline={{_base_.train_pipeline}},
    ),
)
default_hooks = dict(ood_clusters=dict(type="mmwood.OoDClusterHook", clusters=50))
load_from = "work_dirs/resnet50_coco14/epoch_5.pth"
