# The demo with few images and few steps, in two minutes: for checks of the pipeline itself
# (tests/checks/). Its masks are worth nothing.
_base_ = "./demo.py"

work_dir = "work_dirs/demo_short"
_classifier = {"train_cfg.max_epochs": 2, "train_cfg.val_interval": 2}
_one_epoch = {"train_cfg.max_epochs": 1}
stages = dict(
    draw=dict(
        args=["data/context_shapes", "--correlation", "0.7"]
        + ["--train", "64", "--val", "16", "--ood", "32"]
    ),
    classifier=dict(options=_classifier, threads=1),
    mine=dict(
        args=["--candidates", "{candidates}", "--root", "{data}"]
        + ["--threshold", "0", "--max-per-image", "1"]
    ),
    plain=dict(options=_one_epoch),
    wood=dict(options=_one_epoch),
    tsne=None,
    report=dict(report=dict(figures=[])),
)
for _b in ("plain", "wood"):
    stages[f"segmentor_a_{_b}"] = dict(
        options={"train_cfg.max_iters": 8, "default_hooks.ewc.images": 16}
    )
    stages[f"segmentor_b_{_b}"] = dict(options={"train_cfg.max_iters": 4})
