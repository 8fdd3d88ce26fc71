# SegFormer, MiT-B2, on the pseudo masks of W-OoD and IRN, PASCAL VOC 2012; README.md.
_base_ = [
    "../_base_/models/segformer.py",
    "../_base_/datasets/voc12aug_segmentation_512.py",
    "../_base_/schedule_adamw_40k.py",
]

optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            "norm": dict(decay_mult=0.0),
            "pos_block": dict(decay_mult=0.0),
            "head": dict(lr_mult=10.0),
        }
    )
)
