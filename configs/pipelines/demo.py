# The built-in data, from drawing it to the report: `make demo`. One thread a stage and two
# stages at a time, so that results do not depend on the number of cores.
_base_ = "../_base_/pipelines/recipe.py"

work_dir = "work_dirs/demo"
threads = 1
jobs = 2
inputs = dict(
    data="{draw.images}",
    masks="{draw.images}/SegmentationClass",
    candidates="{draw.images}/OoD/list.txt",
    classifier_config="configs/demo/classifier.py",
    plain_config="configs/demo/plain.py",
    wood_config="configs/demo/wood.py",
    irn_config="configs/demo/irn.py",
    segmentor_a_config="configs/demo/segmentor.py",
    segmentor_b_config="configs/demo/segmentor_sbce.py",
)
_label = "train_dataloader.dataset.pipeline.label"
stages = dict(
    draw=dict(
        title="draw images of objects, seven in ten on their own context, and "
        "out-of-distribution (OoD) images, which show contexts alone",
        run="dataset_converters/context_shapes.py",
        args=["data/context_shapes", "--correlation", "0.7"],
        outputs=dict(images="data/context_shapes"),
    ),
    classifier=dict(threads=2),
    mine=dict(
        args=["--candidates", "{candidates}", "--root", "{data}"],
    ),
    # They were drawn without objects.
    review=None,
    wood=dict(options={"train_dataloader.dataset.ood.ann_file": "{mine.manifest}"}),
    tsne=dict(
        title="draw where the classifier places OoD images, before and after",
        run="analysis_tools/tsne.py",
        args=["{wood_config}", "{classifier.checkpoint}", "{wood.checkpoint}"]
        + ["--classes", "boat", "train", "--out", "{dir}/tsne.png"]
        + ["--work-dir", "{dir}", "--cfg-options"]
        + ["train_dataloader.dataset.ood.ann_file={mine.manifest}"],
        reads=["{data}"],
    ),
    report=dict(
        report=dict(
            title="Built-in data",
            text="600 drawn images of six classes to train with, by their tags alone, "
            "150 to test with, and OoD images that show the objects' contexts without "
            "objects. Seven in ten objects stand on the context of their class: boats "
            "on water, trains on rails.",
            data=dict(
                images="{data}/JPEGImages",
                suffix=".jpg",
                masks="{masks}",
                classes=["aeroplane", "bird", "boat", "car", "sheep", "train"],
            ),
            review=None,
            figures=[
                dict(
                    title="Clusters of the OoD images",
                    file="{clusters.dir}/overview.png",
                    text="Each row is a cluster, its images nearest to the centre "
                    "first. Below an image is the class that the classifier took it "
                    "for.",
                ),
                dict(
                    title="Where the classifier places images",
                    file="{tsne.dir}/tsne.png",
                    text="t-SNE of the features of images that show boats or trains, "
                    "and of OoD images taken for them, before and after training with "
                    "these.",
                ),
            ],
        )
    ),
)
for _b in ("plain", "wood"):
    stages[f"seeds_{_b}"] = dict(
        options={"default_hooks.pseudo_label.save_scores": ["strided"]}
    )
    # IRN refines its labels while it trains: the images are small.
    stages[f"affinity_{_b}"] = None
    stages[f"irn_{_b}"] = dict(options={f"{_label}.folder": None})
    stages[f"crf_{_b}"] = dict(
        options={f"{_label}.foreground": 0.45, f"{_label}.background": 0.45}
    )
    _backbone = {"model.backbone.init_cfg.checkpoint": f"{{{_b}_checkpoint}}"}
    for _task in "ab":
        for _stage in ("segmentor", "test"):
            stages[f"{_stage}_{_task}_{_b}"] = dict(options=_backbone)
