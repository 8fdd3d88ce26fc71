# UPerNet on DeiT-B, on the pseudo masks of W-OoD and IRN, PASCAL VOC 2012; README.md.
_base_ = [
    "../_base_/models/upernet.py",
    "../_base_/datasets/voc12aug_segmentation_512.py",
    "../_base_/schedule_adamw_40k.py",
]

model = dict(
    backbone=dict(
        type="mmpretrain.VisionTransformer",
        arch="deit-base",
        img_size=512,
        out_type="featmap",
        out_indices=(2, 5, 8, 11),
        # It would be of the last of the four maps alone.
        final_norm=False,
        drop_path_rate=0.1,
        init_cfg=dict(
            type="Pretrained", checkpoint="weights/deit-base.pth", prefix="backbone."
        ),
    ),
    # Four strides of one.
    neck=dict(
        type="MultiLevelNeck",
        in_channels=[768] * 4,
        out_channels=768,
        scales=[4, 2, 1, 0.5],
    ),
    decode_head=dict(in_channels=[768] * 4),
    auxiliary_head=dict(in_channels=768, in_index=3),
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            name: dict(decay_mult=0.0) for name in ("pos_embed", "cls_token", ".ln")
        }
    )
)
