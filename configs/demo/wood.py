# The demo's classifier, gone on with from its last epoch with OoD images.
_base_ = "./classifier.py"

epochs = 10
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
optim_wrapper = dict(optimizer=dict(lr=5e-4))
train_cfg = dict(max_epochs=epochs, val_interval=epochs)
param_scheduler = [
    dict(
        type="PolyLR",
        power=0.9,
        eta_min=0.0,
        begin=0,
        end=epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
load_from = "work_dirs/demo/classifier/epoch_40.pth"
