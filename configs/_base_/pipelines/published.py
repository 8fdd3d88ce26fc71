# What the published protocol adds to the recipe: the classifier itself is what W-OoD is
# compared with, IRN learns from labels with W-OoD's background (0.15), the size-balanced
# network is a run of its own whose loss changes halfway, networks are tested with the dense
# CRF, and a training that was ended continues from its last checkpoint.
_base_ = "./recipe.py"

inputs = dict(plain_checkpoint="{classifier.checkpoint}")
_label = "train_dataloader.dataset.pipeline.label"
_test = dict(args=["--tta"], options={"tta_model.crf.iterations": 10})
stages = dict(classifier=dict(resume=True), plain=None, wood=dict(resume=True))
for _b, _name in dict(plain="without OoD images", wood="with OoD images").items():
    # Labels and training have the same settings. IRN's own program has 0.05.
    _sure = {f"{_label}.foreground": 0.30, f"{_label}.background": 0.15}
    stages[f"affinity_{_b}"] = dict(options=_sure)
    stages[f"crf_{_b}"] = dict(
        options={f"{_label}.foreground": 0.15, f"{_label}.background": 0.15},
    )
    stages[f"irn_{_b}"] = dict(options=_sure, resume=True)
    stages[f"segmentor_a_{_b}"] = dict(
        title=f"train a segmentation network with cross-entropy, {_name}", resume=True
    )
    stages[f"segmentor_b_{_b}"] = dict(
        title=f"train one with SB-CE and EWC from halfway on, {_name}",
        resume=True,
        options={"load_from": None, "default_hooks.ewc.file": None},
    )
    for _task in "ab":
        stages[f"test_{_task}_{_b}"] = _test
