# A small vision transformer from scratch on the built-in data. Its last tokens become
# alike; configs/demo/vit_ptc.py keeps them apart.
_base_ = "./classifier.py"

epochs = 30
train_cfg = dict(max_epochs=epochs, val_interval=epochs)
patch = 8
model = dict(
    backbone=dict(
        _delete_=True,
        type="VisionTransformer",
        arch=dict(embed_dims=64, num_layers=4, num_heads=4, feedforward_channels=128),
        img_size=112,
        patch_size=patch,
        out_type="featmap",
        # The third block, and the last with its normalisation.
        out_indices=[2, 3],
    ),
    # Maps of whole images, patches at the edge included.
    test_cfg=dict(round_up_to=patch),
    head=dict(in_channels=64, pooling="max"),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=1.0))
# There are few convolutions.
default_hooks = dict(channels_last=None)
