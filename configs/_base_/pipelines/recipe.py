# From tags to masks in two branches, without (plain) and with (wood) hard
# out-of-distribution images. A pipeline over this names its inputs: the configs of the
# stages; data, the images and all that belongs to them; masks, to measure labels with;
# candidates, images that should show no object. A stage that is set to None is left out;
# one with when="NAME" is there only with NAME = True (or --with NAME), and like="STAGE" gives
# it the fields and options of that stage.
_without, _with = "without OoD images", "with OoD images"
# What IRN's labels are made with.
_label = "train_dataloader.dataset.pipeline.label"

inputs = dict(
    # Whose maps each branch spreads.
    plain_checkpoint="{plain.checkpoint}",
    wood_checkpoint="{wood.checkpoint}",
)

stages = dict(
    classifier=dict(
        title="train a classifier on the image tags alone",
        train="{classifier_config}",
        reads=["{data}"],
    ),
    mine=dict(
        title="find the candidates that it takes for its objects",
        mine="{classifier_config}",
        checkpoint="{classifier.checkpoint}",
        args=["--candidates", "{candidates}"],
    ),
    review=dict(
        title="look at them, and keep those that show no object",
        review="mine",
        rules=["--duplicates", "--keep-rest"],
    ),
    plain=dict(
        train="{plain_config}",
        args=["--no-validate"],
        title="fine-tune for some epochs without OoD images, to compare with",
        options=dict(load_from="{classifier.checkpoint}"),
        reads=["{data}"],
    ),
    wood=dict(
        train="{wood_config}",
        args=["--no-validate"],
        title="fine-tune for as many with the OoD images (W-OoD)",
        options={
            "load_from": "{classifier.checkpoint}",
            "train_dataloader.dataset.ood.ann_file": "{review.manifest}",
        },
        reads=["{data}"],
    ),
)
for _b, _name in dict(plain=_without, wood=_with).items():
    _maps = {
        "model.backbone.init_cfg.checkpoint": f"{{{_b}_checkpoint}}",
        "train_dataloader.dataset.score_dir": f"{{seeds_{_b}.scores}}",
        "train_dataloader.dataset.score_checkpoint": f"{{{_b}_checkpoint}}",
        "test_dataloader.dataset.score_dir": f"{{seeds_{_b}.scores}}",
        "test_dataloader.dataset.score_checkpoint": f"{{{_b}_checkpoint}}",
    }
    _labels = {
        "train_dataloader.dataset.data_prefix.seg_map_path": f"{{masks_{_b}.labels}}"
    }
    stages[f"seeds_{_b}"] = dict(
        title=f"maps and seeds, {_name}",
        test=f"{{{_b}_config}}",
        checkpoint=f"{{{_b}_checkpoint}}",
        args=["--tta"],
        # The maps at the image's size are what a CRF refines.
        options={"default_hooks.pseudo_label.save_scores": ["strided", "full"]},
        reads=["{data}"],
    )
    # Sure parts of the maps, refined along the image's edges (CRF or PAMR), for IRN to
    # learn from; and all pixels, to see what that does for the seeds.
    for _stage, _what in (("affinity", "the sure parts of the maps"), ("crf", "seeds")):
        stages[f"{_stage}_{_b}"] = dict(
            title=f"refine {_what} along the edges of the image, {_name}",
            run="make_affinity_labels.py",
            args=["{irn_config}", "--out", "{dir}/labels"],
            options={
                key: value for key, value in _maps.items() if key.startswith("train_")
            },
            outputs=dict(labels="{dir}/labels"),
            reads=["{data}"],
        )
    stages[f"crf_scores_{_b}"] = dict(
        title=f"compare the refined seeds with the true masks, {_name}",
        run="analysis_tools/evaluate_labels.py",
        args=[f"seeds={{crf_{_b}.labels}}", "--masks", "{masks}"]
        + ["--out", "{dir}/scores.json"],
        outputs=dict(scores="{dir}/scores.json"),
    )
    stages[f"irn_{_b}"] = dict(
        title=f"learn from the sure parts of the maps where objects end (IRN), {_name}",
        train="{irn_config}",
        options={
            **_maps,
            f"{_label}.folder": f"{{affinity_{_b}.labels}}",
        },
        reads=["{data}"],
    )
    stages[f"masks_{_b}"] = dict(
        title=f"pseudo masks: the maps walk until they meet an edge, {_name}",
        test="{irn_config}",
        checkpoint=f"{{irn_{_b}.checkpoint}}",
        args=["--show-dir", "{dir}/pictures", "--interval", "50"],
        options=_maps,
        reads=["{data}"],
    )
    # Task A: cross-entropy. Task B continues from it, size-balanced and held by EWC.
    stages[f"segmentor_a_{_b}"] = dict(
        title=f"train a segmentation network with cross-entropy (task A), {_name}",
        train="{segmentor_a_config}",
        args=["--no-validate"],
        options=_labels,
        reads=["{data}"],
    )
    stages[f"test_a_{_b}"] = dict(
        title=f"test it on images that no stage has seen, {_name}",
        test="{segmentor_a_config}",
        checkpoint=f"{{segmentor_a_{_b}.checkpoint}}",
        options={"test_evaluator.metrics.iou.output_dir": "{dir}/predictions"},
        reads=["{data}"],
    )
    stages[f"segmentor_b_{_b}"] = dict(
        title=f"continue with SB-CE and EWC, for small objects (task B), {_name}",
        train="{segmentor_b_config}",
        args=["--no-validate"],
        options={
            **_labels,
            "load_from": f"{{segmentor_a_{_b}.checkpoint}}",
            "default_hooks.ewc.file": f"{{segmentor_a_{_b}.dir}}/ewc.safetensors",
        },
        reads=["{data}"],
    )
    stages[f"test_b_{_b}"] = dict(
        title=f"test it, {_name}",
        test="{segmentor_b_config}",
        checkpoint=f"{{segmentor_b_{_b}.checkpoint}}",
        options={"test_evaluator.metrics.iou.output_dir": "{dir}/predictions"},
        reads=["{data}"],
    )
# Refined seeds are only looked at: no stage shall wait for them.
for _stage in [name for name in stages if name.startswith("crf_")]:
    stages[_stage] = stages.pop(_stage)
# Supervised by pixels, and read by no stage but its test: the same network, schedule and
# images as task A, with the true masks in place of pseudo masks.
stages["segmentor_upper"] = dict(
    when="upper_bound",
    like="segmentor_a_wood",
    title="upper bound: train the network of task A with the true masks",
    options={
        "train_dataloader.dataset.data_prefix.seg_map_path": "{masks}",
        # Nothing continues from it.
        "default_hooks.ewc": "None",
    },
)
stages["test_upper"] = dict(
    when="upper_bound",
    like="test_a_wood",
    title="test it",
    checkpoint="{segmentor_upper.checkpoint}",
)
# Task A on pseudo masks without what only goes together with objects (MARS's filter), by
# features of the classifier that made the maps, always at hand.
stages["filter"] = dict(
    when="label_filter",
    title=f"remove from the pseudo masks what only goes with objects, {_with}",
    run="filter_labels.py",
    args=["{classifier_config}", "{masks_wood.scores}", "--out", "{dir}/filtered"]
    + ["--checkpoint", "{wood_checkpoint}"],
    outputs=dict(scores="{dir}/filtered", labels="{dir}/filtered/labels"),
    reads=["{data}"],
    resume=True,
)
stages["filter_scores"] = dict(
    when="label_filter",
    title=f"compare the filtered masks with the true masks, {_with}",
    run="analysis_tools/evaluate_labels.py",
    args=["filtered={filter.labels}", "--masks", "{masks}"]
    + ["--out", "{dir}/scores.json"],
    outputs=dict(scores="{dir}/scores.json"),
)
stages["segmentor_filter"] = dict(
    when="label_filter",
    like="segmentor_a_wood",
    title=f"train a network on the filtered masks, {_with}",
    options={"train_dataloader.dataset.data_prefix.seg_map_path": "{filter.labels}"},
)
stages["test_filter"] = dict(
    when="label_filter",
    like="test_a_wood",
    title=f"test it, {_with}",
    checkpoint="{segmentor_filter.checkpoint}",
)
# Task A with OoD images as images of nothing but background; and what both networks find
# in those that were kept out of this training.
_held_out = {
    "test_dataloader.dataset.ood.ann_file": "{review.manifest}",
    # Images without masks would be among the predictions.
    "test_evaluator.metrics.iou.output_dir": None,
}
stages["segmentor_ood"] = dict(
    when="ood_in_network",
    like="segmentor_a_wood",
    title=f"train a network with the OoD images as background, {_with}",
    train="{segmentor_ood_config}",
    options={
        "train_dataloader.dataset.data_prefix.seg_map_path": None,
        "train_dataloader.dataset.in_distribution.data_prefix.seg_map_path": (
            "{masks_wood.labels}"
        ),
        "train_dataloader.dataset.ood.ann_file": "{review.manifest}",
    },
)
for _stage, _trained, _what in (
    ("test_ood", "segmentor_ood", "test it"),
    ("test_a_ood", "segmentor_a_wood", "test that of task A"),
):
    stages[_stage] = dict(
        when="ood_in_network",
        like="test_a_wood",
        title=f"{_what}, on held-out OoD images too, {_with}",
        test="{segmentor_ood_config}",
        checkpoint=f"{{{_trained}.checkpoint}}",
        options=_held_out,
    )
_more = dict(
    a=dict(upper_bound=dict(when="upper_bound", folder="{test_upper.dir}")), b={}
)
_a_ood = dict(false_positives=dict(when="ood_in_network", folder="{test_a_ood.dir}"))
_filtered_labels = dict(
    when="label_filter",
    name="filtered pseudo masks",
    folder="{filter.scores}",
    scores="{filter_scores.scores}",
)
_filter_network = dict(
    when="label_filter",
    name="network trained on filtered pseudo masks",
    folder="{test_filter.dir}",
    predictions="{test_filter.dir}/predictions",
)
_ood_network = dict(
    when="ood_in_network",
    name="network trained with OoD images as background, too",
    folder="{test_ood.dir}",
)
stages["clusters"] = dict(
    title="draw the clusters of the OoD images",
    run="analysis_tools/ood_clusters.py",
    args=["{wood.dir}/ood_clusters", "--out", "{dir}"],
)
stages["report"] = dict(
    title="write the report",
    report=dict(
        branches=[
            dict(
                name=_name,
                labels=[
                    dict(
                        name="seeds",
                        folder=f"{{seeds_{_b}.scores}}",
                        curve=f"{{seeds_{_b}.curve}}",
                    ),
                    dict(name="refined seeds", scores=f"{{crf_scores_{_b}.scores}}"),
                    dict(
                        name="pseudo masks",
                        folder=f"{{masks_{_b}.scores}}",
                        curve=f"{{masks_{_b}.curve}}",
                    ),
                ]
                + ([_filtered_labels] if _b == "wood" else []),
                networks=[
                    dict(
                        name=_task,
                        folder=f"{{test_{_t}_{_b}.dir}}",
                        predictions=f"{{test_{_t}_{_b}.dir}}/predictions",
                        **_more[_t],
                        **(_a_ood if (_t, _b) == ("a", "wood") else {}),
                    )
                    for _t, _task in (
                        ("a", "network trained with cross-entropy (task A)"),
                        ("b", "size-balanced with SB-CE and EWC (task B)"),
                    )
                ]
                + ([_filter_network, _ood_network] if _b == "wood" else []),
            )
            for _b, _name in (("plain", _without), ("wood", _with))
        ],
        mining="{mine.summary}",
        review="{review.manifest}",
        figures=[
            dict(
                title="Clusters of the OoD images",
                file="{clusters.dir}/overview.png",
                text="Each row is a cluster, its images nearest to the centre first. "
                "Below an image is the class that the classifier took it for.",
            ),
        ],
    ),
)
