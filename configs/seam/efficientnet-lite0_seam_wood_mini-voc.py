# W-OoD on SEAM, on mini_voc: fine-tuned from the classifier, as
# configs/wood/efficientnet-lite0_wood_mini-voc.py is.
_base_ = "../wood/efficientnet-lite0_wood_mini-voc.py"

model = dict(
    type="mmwood.SEAM",
    levels=["timm_model.blocks.2", "timm_model.blocks.4"],
    pcm_in_channels=[40, 112],
    pcm_channels=[32, 64],
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={"pcm_": dict(lr_mult=10.0)}))
