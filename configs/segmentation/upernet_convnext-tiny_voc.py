# UPerNet on ConvNeXt-T, on the pseudo masks of W-OoD and IRN, PASCAL VOC 2012; README.md.
_base_ = [
    "../_base_/models/upernet.py",
    "../_base_/datasets/voc12aug_segmentation_512.py",
    "../_base_/schedule_adamw_40k.py",
]

model = dict(
    backbone=dict(
        type="mmpretrain.ConvNeXt",
        arch="tiny",
        out_indices=[0, 1, 2, 3],
        drop_path_rate=0.4,
        layer_scale_init_value=1.0,
        gap_before_final_norm=False,
        init_cfg=dict(
            type="Pretrained",
            checkpoint="weights/convnext-tiny.pth",
            prefix="backbone.",
        ),
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384, in_index=2),
    test_cfg=dict(mode="slide", crop_size=(512, 512), stride=(341, 341)),
)
# Each stage learns slower than the one above it.
optim_wrapper = dict(
    optimizer=dict(lr=1e-4, weight_decay=0.05),
    constructor="LearningRateDecayOptimizerConstructor",
    paramwise_cfg=dict(decay_rate=0.9, decay_type="stage_wise", num_layers=6),
)
