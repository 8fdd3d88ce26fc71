"""What the report's words mean, for a reader who meets them for the first time."""

#: By a part of the name, in small letters; what the first that fits says.
_LABELS = (
    (
        "crf",
        "These labels after a dense conditional random field, which moves their "
        "borders to edges of colour.",
    ),
    (
        "refined",
        "These labels, moved to edges of colour by a dense conditional random field or "
        "by PAMR.",
    ),
    (
        "filtered pseudo mask",
        "The pseudo masks, but for pixels that are more like the background of other "
        "images than like their class: these are left open, and a segmentation network "
        "learns nothing of them.",
    ),
    (
        "pseudo mask",
        "The maps, spread over the image until they meet an edge. A segmentation "
        "network learns from these instead of from masks that a person drew.",
    ),
    (
        "seed",
        "The first guess: a pixel is of a class where the classifier's map of it is "
        "above a threshold.",
    ),
)
_LONGER = "Trained on from the network before: part of a gain is the longer training."
#: What all that fit say.
_NETWORKS = (
    ("cross-entropy", "Trained on the pseudo masks with the usual loss."),
    (
        "ood images as background",
        "Trained with reviewed OoD images, too, in which every pixel is background.",
    ),
    ("sb-ce", "SB-CE: in the loss the pixels of small objects weigh more."),
    ("ewc", "EWC: weights that mattered before are held fast."),
    ("continued", _LONGER),
    ("fine-tuned", _LONGER),
)
_SCORES = {
    "mIoU": "How well given and true areas agree: of all pixels that are of a class in "
    "either, the fraction that are in both; the mean over the classes and the "
    "background. 100 is perfect.",
    "precision": "Of 100 pixels that were given a class, so many are right; the mean "
    "over the classes.",
    "recall": "Of 100 pixels that truly are of a class, so many were found; the mean "
    "over the classes.",
    "best mIoU": "At the threshold that fits the true masks best: how good the maps "
    "could be, for somebody who had masks to choose it with.",
    "left open": "Of 100 pixels, so many were given no label. They count as not found.",
    "IA-mIoU": "Instance-aware mIoU: every single object has an IoU of its own and "
    "counts the same, small or large; the background of an image is one, too.",
    "IA_S": "IA-mIoU over small objects only (small, medium, large: as in COCO).",
    "IA_M": "Over medium objects.",
    "IA_L": "Over large objects.",
    "FP_pixels": "False positives: of 100 pixels of images that show no class (OoD "
    "images that were kept out of the training), so many were given one. 0 is perfect.",
    "FP_images": "Of 100 such images, so many have false positives of the test's "
    "smallest area or more.",
    "mIoU with true masks": "Upper bound: the same network, trained for as long on the "
    "same images with masks that people drew. It is supervised by pixels, a yardstick "
    "that no other stage uses.",
    "of that mIoU": "What the pseudo masks reach of it: the ratio of the two, in "
    "percent.",
}


def explain(name: str) -> str:
    """A name in plain words; empty if it is not known."""
    if name in _SCORES:
        return _SCORES[name]
    small = name.lower()
    for part, text in _LABELS:
        if part in small:
            return text
    return " ".join(text for part, text in _NETWORKS if part in small)
