# IRN over the frozen EfficientNet-Lite0 of the classifier whose maps it spreads, for images
# of long side 320; name that classifier as model.backbone.init_cfg.checkpoint.
_base_ = "./efficientnet-lite0.py"

model = dict(
    type="mmwood.IRN",
    backbone=dict(init_cfg=dict(checkpoint=None, prefix="backbone.")),
    levels=[
        "timm_model.blocks.0",
        "timm_model.blocks.1",
        "timm_model.blocks.2",
        "timm_model.blocks.4",
        "timm_model.bn2",
    ],
    in_channels=[16, 24, 40, 112, 1280],
    # The grid has 80 cells where VOC's has 125: fewer steps go as far. The maps are wide,
    # with their best seeds at 0.4 instead of 0.15; squared, at 0.16. configs/irn/README.md
    # says on what both were tried.
    test_cfg=dict(pad_to=320, cam_power=2.0, steps=64),
)
