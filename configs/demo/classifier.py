# The demo's classifier: a small ResNet from scratch on the built-in data.
_base_ = [
    "../_base_/datasets/context_shapes.py",
    "../_base_/schedule_5e.py",
    "../_base_/default_runtime.py",
]

epochs = 20
model = dict(
    type="mmwood.CAMClassifier",
    data_preprocessor=dict(
        mean=[127.5, 127.5, 127.5], std=[63.75, 63.75, 63.75], to_rgb=True
    ),
    backbone=dict(
        type="ResNet",
        depth=18,
        stem_channels=16,
        base_channels=16,
        # Output stride 8: small images, small objects.
        strides=(1, 2, 1, 1),
    ),
    head=dict(type="mmwood.CAMHead", num_classes=6, in_channels=128),
)
train_cfg = dict(max_epochs=epochs, val_interval=epochs)
# Nothing is pretrained, so every layer learns at one rate.
optim_wrapper = dict(
    _delete_=True, optimizer=dict(type="AdamW", lr=2e-3, weight_decay=0.05)
)
# Faster on a CPU.
default_hooks = dict(channels_last=dict(type="mmwood.ChannelsLastHook"))
