# image_level.py with maps from images of the sizes that the released programs give them:
# halves are rounded to the even number.
_base_ = ["./image_level.py"]

_rescale = dict(type="mmwood.Rescale", backend="pillow", interpolation="bicubic")
tta_pipeline = [
    dict(type="mmwood.LoadImage"),
    dict(type="mmwood.LoadSemanticMask", optional=True),
    dict(
        type="TestTimeAug",
        transforms=[
            [dict(**_rescale, scale_factor=scale) for scale in (0.5, 1.0, 1.5, 2.0)],
            [dict(type="mmwood.RandomFlip", prob=p) for p in (0.0, 1.0)],
            [{{_base_.pack}}],
        ],
    ),
]
