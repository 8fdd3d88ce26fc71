# A template for one's own images, without any mask: tags, candidates, your look at them,
# W-OoD, pseudo masks, segmentation network, report. docs/own_images.md writes the configs
# that it names; put your own over it, my_pipeline.py:
#   _base_ = "configs/pipelines/own_images.py"
#   inputs = dict(data="my_images", candidates="folder_of_images", ...)
_base_ = "../_base_/pipelines/recipe.py"

work_dir = "work_dirs/own_images"
inputs = dict(
    data="my_images",
    candidates="candidates",
    classifier_config="my_config.py",
    wood_config="my_wood_config.py",
    irn_config="my_irn_config.py",
    segmentor_a_config="my_segmentor.py",
)
_label = "train_dataloader.dataset.pipeline.label"
_show = ["--show-dir", "{dir}/pictures"]
stages = dict(
    classifier=dict(resume=True),
    review=dict(
        # For --auto, where nobody can look: the surest mostly do show the object.
        rules=["--duplicates", "--in-distribution", "{data}"]
        + ["--max-probability", "0.99", "--keep-rest"]
    ),
    wood=dict(resume=True),
    seeds_wood=dict(
        args=["--tta", *_show, "--interval", "20"],
        options={"default_hooks.pseudo_label.save_scores": ["strided"]},
    ),
    # PAMR refines IRN's labels while it trains. W-OoD's program has this background;
    # with IRN's, 0.05, many images have no sure background at all.
    irn_wood=dict(
        resume=True,
        options={f"{_label}.folder": None, f"{_label}.background": 0.15},
    ),
    masks_wood=dict(args=[*_show, "--interval", "20"]),
    segmentor_a_wood=dict(resume=True),
    # Without masks there is nothing to compare with and nothing to test.
    test_a_wood=None,
    segmentor_b_wood=None,
    test_b_wood=None,
    report=dict(
        report=dict(
            title="My images",
            text="From image tags to masks, without any drawn mask.",
            data=dict(images="{data}", suffix=".jpg"),
            branches=[
                dict(
                    name="with OoD images",
                    labels=[
                        dict(name="seeds", folder="{seeds_wood.scores}"),
                        dict(name="pseudo masks", folder="{masks_wood.scores}"),
                    ],
                )
            ],
        )
    ),
)
for _stage in (
    "seeds",
    "irn",
    "masks",
    "segmentor_a",
    "test_a",
    "segmentor_b",
    "test_b",
):
    stages[f"{_stage}_plain"] = None
for _stage in ("affinity", "crf", "crf_scores"):
    stages[f"{_stage}_plain"] = stages[f"{_stage}_wood"] = None
stages["plain"] = None
