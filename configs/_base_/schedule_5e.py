# Five epochs, polynomial decay each iteration, ten times the rate for the new layer.
train_cfg = dict(by_epoch=True, max_epochs=5, val_interval=1)
val_cfg = dict()
test_cfg = dict()
param_scheduler = [
    dict(
        type="PolyLR",
        power=0.9,
        eta_min=0.0,
        begin=0,
        # To the end of the training, however long it is.
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
optim_wrapper = dict(
    optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys={"head.classifier": dict(lr_mult=10.0)}),
)
auto_scale_lr = dict(base_batch_size=16, enable=False)
