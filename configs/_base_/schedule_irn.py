# IRN's schedule: three epochs, polynomial decay each iteration, ten times the rate for
# the displacements; nothing is validated.
train_cfg = dict(by_epoch=True, max_epochs=3)
val_cfg = None
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
    paramwise_cfg=dict(custom_keys=dict(displacement=dict(lr_mult=10.0))),
)
auto_scale_lr = dict(base_batch_size=32, enable=False)
