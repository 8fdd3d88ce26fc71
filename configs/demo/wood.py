# The demo's W-OoD: the classifier gone on with, 16 + 16 images a batch.
_base_ = "./plain.py"

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
            ann_file="OoD/list.txt",
            data_root={{_base_.dataset.data_root}},
        ),
        pipeline={{_base_.train_pipeline}},
    ),
)
default_hooks = dict(ood_clusters=dict(type="mmwood.OoDClusterHook", clusters=10))
