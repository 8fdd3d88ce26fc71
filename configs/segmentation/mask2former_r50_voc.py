# Mask2Former on ResNet-50, on the pseudo masks of W-OoD and IRN, PASCAL VOC 2012; it needs
# MMDetection: README.md.
_base_ = [
    "../_base_/models/mask2former_r50.py",
    "../_base_/datasets/voc12aug_segmentation_512.py",
    "../_base_/schedule_adamw_40k.py",
]

embedding = dict(lr_mult=1.0, decay_mult=0.0)
optim_wrapper = dict(
    optimizer=dict(lr=1e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=0.01, norm_type=2),
    paramwise_cfg=dict(
        custom_keys={
            "backbone": dict(lr_mult=0.1, decay_mult=1.0),
            "query_embed": embedding,
            "query_feat": embedding,
            "level_embed": embedding,
        },
        norm_decay_mult=0.0,
    ),
)
# Without a warm-up.
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=0.0, begin=0, by_epoch=False)]
