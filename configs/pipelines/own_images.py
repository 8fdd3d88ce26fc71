# One's own images, without any drawn mask: a folder of images and their tags in, pseudo
# masks and a segmentation network out.
#   python tools/run_pipeline.py configs/pipelines/own_images.py --data my_images
# writes configs over this one to work_dirs/my_images/configs/ and runs them
# (docs/own_images.md). They leave out the branch (plain: without, wood: with OoD images) and
# the stages that the data have nothing for.
_base_ = "../_base_/pipelines/recipe.py"

work_dir = "work_dirs/own_images"
inputs = dict(
    # The folder, which is only read, and the plan for it.
    source=None,
    plan=None,
    # Its copy at one scale.
    data="{prepare.images}",
    candidates="{prepare.images}/candidates",
    classifier_config=None,
    plain_config="{classifier_config}",
    wood_config="{classifier_config}",
    irn_config=None,
    segmentor_a_config=None,
    # Of the finished segmentation network.
    network_checkpoint="{segmentor_a_wood.checkpoint}",
)
# What stages read of the copy: masks, where there are any, are for tests alone.
_reads = ["{data}/images", "{data}/tags.csv"]
_show = ["--show-dir", "{dir}/pictures"]
stages = dict(
    weights=dict(title="take ImageNet weights", outputs=dict(folder="{dir}")),
    prepare=dict(
        title="copy the images at one scale",
        run="dataset_converters/own_images.py",
        outputs=dict(images="{work_dir}/data"),
    ),
    classifier=dict(resume=True),
    review=dict(
        # For --auto, where nobody can look: the surest mostly do show the object.
        rules=["--duplicates", "--in-distribution", "{data}/images"]
        + ["--max-probability", "0.99", "--keep-rest"]
    ),
    wood=dict(
        # The config names the images.
        options={"train_dataloader.dataset.ood.ann_file": None},
        resume=True,
    ),
    network=dict(
        title="the network as a folder of its own, for tools/predict.py",
        run="model_converters/publish_network.py",
        args=["{segmentor_a_config}", "{network_checkpoint}", "--out", "{dir}"],
    ),
    report=dict(
        report=dict(
            text="From image tags to masks, without any drawn mask.",
            plan="{plan}",
            tags="{data}/tags.csv",
            data=dict(images="{data}/images", suffix=".png"),
        )
    ),
    filter=dict(title="remove from the pseudo masks what only goes with objects"),
    filter_scores=dict(title="compare the filtered masks with the true masks"),
    # The one network learns from the filtered masks.
    segmentor_filter=None,
    test_filter=None,
    # For experiments.
    plain=None,
    # There are no images with masks but those to train with.
    segmentor_upper=None,
    test_upper=None,
    segmentor_ood=None,
    test_ood=None,
    test_a_ood=None,
)
for _b in ("plain", "wood"):
    stages[f"seeds_{_b}"] = dict(
        args=["--tta", *_show, "--interval", "20"],
        options={"default_hooks.pseudo_label.save_scores": ["strided"]},
        reads=_reads,
    )
    stages[f"affinity_{_b}"] = dict(resume=True, reads=_reads)
    stages[f"irn_{_b}"] = dict(resume=True, reads=_reads)
    stages[f"masks_{_b}"] = dict(args=[*_show, "--interval", "20"], reads=_reads)
    stages[f"segmentor_a_{_b}"] = dict(
        title="train the segmentation network on the pseudo masks",
        resume=True,
        reads=_reads,
    )
    stages[f"test_a_{_b}"] = dict(title="test it on the training images")
    for _stage in ("crf", "crf_scores", "segmentor_b", "test_b"):
        stages[f"{_stage}_{_b}"] = None
