"""A classifier of timm with a checkpoint of timm, to predict with."""

import os
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Literal, get_args

from mmpretrain.models import TimmClassifier
from torch import Tensor

from mmwood.registry import MODELS
from mmwood.utils.check import one_of
from mmwood.utils.require import require

#: What makes probabilities of a network's outputs: of classes of which an image shows
#: one, or any number.
Activation = Literal["softmax", "sigmoid"]


def timm_with(model_name: str) -> ModuleType:
    """The module timm, which must know a network.

    Raises:
        ImportError: It is not installed.
        ValueError: It does not know the network.
    """
    timm = require("timm", "demo", "a network of timm")
    if not timm.is_model(model_name):
        similar = timm.list_models(f"*{model_name}*")[:5]
        hint = f"; similar ones are {', '.join(similar)}" if similar else ""
        raise ValueError(f"timm has no network {model_name!r}{hint}")
    return timm


@MODELS.register_module()
class TimmNetwork(TimmClassifier):
    """MMPretrain's ``TimmClassifier`` with a checkpoint that must fit.

    Args:
        model_name: Of timm, such as 'efficientnet_lite0'.
        checkpoint: Weights that timm's ``load_state_dict`` reads: ``.pth`` or
            ``.safetensors``; averaged ones are preferred.
        num_classes: Number of classes C.
        activation: Of the outputs.
        **kwargs: Others of ``TimmClassifier``.

    Raises:
        ImportError: timm is not installed.
        OSError: The checkpoint cannot be read.
        ValueError: timm knows no such network; the checkpoint is of another one, or of
            another number of classes.

    Shape:
        - inputs: (B, 3, H, W); ``pred_score`` of each data sample: (C,)

    Example:
        >>> model = dict(type='mmwood.TimmNetwork', model_name='efficientnet_lite0',
        ...              checkpoint='model.pth', num_classes=20)
    """

    def __init__(
        self,
        model_name: str,
        checkpoint: str | os.PathLike,
        num_classes: int,
        activation: Activation = "softmax",
        **kwargs: Any,
    ) -> None:
        one_of("activation", activation, get_args(Activation))
        timm = timm_with(model_name)
        super().__init__(model_name, num_classes=num_classes, **kwargs)
        self.activation = activation
        try:
            state = timm.models.load_state_dict(os.fspath(checkpoint))
        except OSError:
            raise
        except Exception as error:
            # Each kind of file fails in a way of its own.
            raise ValueError(
                f"checkpoint {checkpoint} holds no weights of timm's {model_name} "
                f"({type(error).__name__}: {error})"
            ) from error
        self._refuse_others(model_name, f"checkpoint {checkpoint}", num_classes, state)
        self.model.load_state_dict(state)

    def _refuse_others(
        self, name: str, checkpoint: str, classes: int, state: Any
    ) -> None:
        own = self.model.state_dict()
        if not isinstance(state, Mapping) or not own.keys() & state.keys():
            raise ValueError(f"{checkpoint} holds no weights of timm's {name}")
        lacking, others = (
            sorted(x.keys() - y.keys()) for x, y in ((own, state), (state, own))
        )
        if lacking or others:
            first = (lacking or others)[0]
            raise ValueError(
                f"{checkpoint} is not of timm's {name}: it lacks {len(lacking)} of its "
                f"{len(own)} tensors and has {len(others)} others, such as {first}"
            )
        wrong = [key for key in own if own[key].shape != state[key].shape]
        last = self.model.pretrained_cfg.get("classifier") or ()
        last = (last,) if isinstance(last, str) else tuple(last)
        if wrong and all(key.rpartition(".")[0] in last for key in wrong):
            raise ValueError(
                f"{checkpoint} is for {len(state[wrong[0]])} classes, and {classes} "
                "are named"
            )
        if wrong:
            raise ValueError(
                f"{checkpoint} is not of timm's {name}: {wrong[0]} has the shape "
                f"{tuple(state[wrong[0]].shape)} instead of "
                f"{tuple(own[wrong[0]].shape)}"
            )

    def _get_predictions(self, cls_score: Tensor, data_samples: Any = None) -> Any:
        if self.activation == "softmax":
            return super()._get_predictions(cls_score, data_samples)
        for sample, score in zip(data_samples, cls_score.sigmoid()):
            sample.set_pred_score(score)
        return data_samples
