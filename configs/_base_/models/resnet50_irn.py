# IRN (Ahn et al., CVPR 2019) over the frozen ResNet-50 of the classifier whose maps it
# spreads; name that as model.backbone.init_cfg.checkpoint.
model = dict(
    type="mmwood.IRN",
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
    ),
    backbone=dict(
        type="ResNet",
        depth=50,
        strides=(1, 2, 2, 1),
        init_cfg=dict(type="Pretrained", checkpoint=None, prefix="backbone."),
    ),
    levels=["maxpool", "layer1", "layer2", "layer3", "layer4"],
    in_channels=[64, 256, 512, 1024, 2048],
    test_cfg=dict(pad_to=512),
)
