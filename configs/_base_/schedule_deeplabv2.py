# DeepLab-v2's rates, polynomial decay: the head's weights learn ten times as fast and its
# biases twenty times, without weight decay. 30,000 iterations of ten images, as in the
# program of size-balanced training; deeplab-pytorch has 20,000.
train_cfg = dict(type="IterBasedTrainLoop", max_iters=30000, val_interval=5000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
param_scheduler = [
    # To the end of the training, however long it is.
    dict(type="PolyLR", power=0.9, eta_min=0.0, begin=0, by_epoch=False)
]
bias = dict(lr_mult=20.0, decay_mult=0.0)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=2.5e-4, momentum=0.9, weight_decay=5e-4),
    paramwise_cfg=dict(
        custom_keys={
            "decode_head.aspp": dict(lr_mult=10.0),
            **{f"decode_head.aspp.{branch}.bias": bias for branch in range(4)},
        }
    ),
)
auto_scale_lr = dict(base_batch_size=10, enable=False)
