"""MMDetection's models, for configs that name this module in ``custom_imports``.

Importing it raises an ImportError that says what is missing.
"""

try:
    import mmdet.models  # noqa: F401
except ImportError as error:
    raise ImportError(
        "Mask2Former needs MMDetection, and mmcv with its compiled operations "
        f"({error}): configs/segmentation/README.md says which; the other networks "
        "there need neither"
    ) from error
