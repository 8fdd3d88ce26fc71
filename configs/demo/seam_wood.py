# W-OoD on SEAM, on the built-in data: continued from the classifier, longer than
# in configs/demo/wood.py and at a lower rate.
_base_ = "./wood.py"

model = dict(
    type="mmwood.SEAM",
    backbone=dict(out_indices=(1, 2, 3)),
    pcm_in_channels=[32, 64],
    pcm_channels=[16, 32],
    view_scale=0.5,
)
epochs = 8
train_cfg = dict(max_epochs=epochs, val_interval=epochs)
# PCM is new, the rest is not.
optim_wrapper = dict(
    optimizer=dict(lr=5e-4),
    paramwise_cfg=dict(custom_keys={"pcm_": dict(lr_mult=10.0)}),
)
