# SEAM on mini_voc: the classifier fine-tuned for one epoch, on images as in
# configs/wood/efficientnet-lite0_plain_mini-voc.py. PCM looks at strides 8 and 16.
_base_ = "../wood/efficientnet-lite0_plain_mini-voc.py"

model = dict(
    type="mmwood.SEAM",
    levels=["timm_model.blocks.2", "timm_model.blocks.4"],
    pcm_in_channels=[40, 112],
    pcm_channels=[32, 64],
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={"pcm_": dict(lr_mult=10.0)}))
