# Test-time pipelines of class activation maps: one scale, and four with flips.
pack = dict(
    type="PackInputs",
    algorithm_keys=["gt_sem_seg"],
    meta_keys=[
        "img_id",
        "img_path",
        "ori_shape",
        "img_shape",
        "scale_factor",
        "flip",
        "flip_direction",
    ],
)
load = [
    dict(type="mmwood.LoadImage"),
    dict(type="mmwood.LoadSemanticMask", optional=True),
]
test_pipeline = [*load, pack]
# Pillow's bicubic resize, as in IRN's program.
resize = dict(type="Resize", keep_ratio=True, backend="pillow", interpolation="bicubic")
tta_pipeline = [
    *load,
    dict(
        type="TestTimeAug",
        transforms=[
            [dict(**resize, scale_factor=scale) for scale in (0.5, 1.0, 1.5, 2.0)],
            [dict(type="RandomFlip", prob=0.0), dict(type="RandomFlip", prob=1.0)],
            [pack],
        ],
    ),
]
tta_model = dict(type="mmwood.MultiScaleCAM")
