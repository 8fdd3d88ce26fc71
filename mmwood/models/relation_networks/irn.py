"""IRN: a network that knows where objects end, over a frozen backbone."""

import warnings
from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmwood.functional.affinity import random_walk
from mmwood.functional.cam import EPSILON, MapDtype, strided_size
from mmwood.functional.instances import (
    detect_instances,
    find_centroids,
    group_centroids,
)
from mmwood.functional.relation_loss import RelationTerms, relation_terms, total_loss
from mmwood.models.utils import keep_channels_first, step_by_shape, with_defaults
from mmwood.models.utils.named_features import NamedFeatures, check_named_features
from mmwood.registry import MODELS
from mmwood.utils.check import one_of

#: What a forward pass gives, as in every model of OpenMMLab.
Mode = Literal["tensor", "loss", "predict"]
# Made once: torch.compile of torch 2.1 cannot trace get_args.
MODES: tuple[Mode, ...] = get_args(Mode)
#: Channels of the displacement branches of the five levels (IRN's program).
DISPLACEMENT_CHANNELS = (64, 128, 256, 256, 256)


@MODELS.register_module()
class IRN(BaseModel):
    r"""Edges and displacements that turn class activation maps into pseudo masks.

    Ahn et al., Weakly Supervised Learning of Instance Segmentation with Inter-pixel
    Relations, CVPR 2019. Two branches over five levels of a frozen backbone give, on
    the stride-4 grid, the probability that a pixel is an edge between classes, and
    its displacement to the centroid of its object. They learn from pairs of pixels
    of ``gt_seg_map`` (:class:`mmwood.AffinityLabel`), in which 255 is unknown.

    In tests the maps of a classifier (:class:`mmwood.LoadScoreMaps`) walk over the
    image until they meet an edge (:func:`mmwood.functional.affinity.random_walk`). A
    prediction has ``cam`` (n, H, W), the maps after the walk divided by the maximum
    over all of them, ``cam_strided`` on the grid, ``cam_classes``, ``pred_score``,
    ``edge`` (h, w) and ``displacement`` (2, h, w) in pixels of the grid, rows first.
    :class:`mmwood.PseudoLabelHook` makes pseudo masks of it, as it makes seeds of a
    classifier's; :class:`mmwood.SeedMetric` measures them at every threshold.

    The published constants are for images with a long side of 500. Smaller ones
    should be enlarged in both pipelines (``Resize``): the maps are taken along, and
    predictions are at the size of the original image.

    Args:
        backbone: Config of a backbone of MMPretrain, MMSegmentation or timm. It is
            frozen and stays in evaluation mode. To begin with the classifier's:
            ``init_cfg=dict(type='Pretrained', checkpoint=..., prefix='backbone.')``.
        in_channels: Channels of the five levels, the finest first.
        levels: Names of the backbone's modules whose outputs are the levels, such as
            ``['maxpool', 'layer1', 'layer2', 'layer3', 'layer4']`` for ResNet (stem,
            stages 1 to 4). None takes what the backbone returns. Published strides
            are 4, 4, 8, 16, 16; others are resized to these grids.
        radius: Of the pixel pairs in training, in pixels of the stride-4 grid.
        data_preprocessor: As in a classifier, whose mean and std it should share.
        test_cfg: Fields with their defaults:

            - ``radius`` 5, ``beta`` 10 and ``steps`` 256 of the random walk,
            - ``cam_power`` 1: power of the maps before it,
            - ``pad_to`` None: images are padded to this side with zeros, the mean
              colour, as crops were in training; larger ones are taken as they are,
            - ``cam_dtype`` 'float16': of ``cam`` and ``cam_strided``,
            - ``instances`` None: a dict, as ``dict(background=0.25)``, makes instance
              labels too: displacements lead to centroids, centroids make groups, and
              the maps of each group walk on their own
              (:mod:`mmwood.functional.instances`). A prediction then has
              ``instances``, a list. Further fields: ``min_fraction`` 0.01, ``steps``
              300 and ``threshold`` 2.5.

        init_cfg: As in every OpenMMLab module.

    Raises:
        ValueError: There are not five levels, or they have other channels; a field of
            ``test_cfg`` is unknown, or its ``cam_dtype``; an image has no score maps.

    Example:
        >>> model = dict(
        ...     type='mmwood.IRN',
        ...     backbone=dict(type='ResNet', depth=50, strides=(1, 2, 2, 1)),
        ...     levels=['maxpool', 'layer1', 'layer2', 'layer3', 'layer4'],
        ...     in_channels=(64, 256, 512, 1024, 2048))
    """

    TEST_CFG = dict(
        radius=5,
        beta=10,
        steps=256,
        cam_power=1.0,
        pad_to=None,
        cam_dtype="float16",
        instances=None,
    )
    INSTANCES = dict(background=0.25, min_fraction=0.01, steps=300, threshold=2.5)

    def __init__(
        self,
        backbone: dict,
        in_channels: Sequence[int],
        levels: Sequence[str] | None = None,
        radius: int = 10,
        data_preprocessor: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        preprocessor = dict(type="mmpretrain.ClsDataPreprocessor")
        super().__init__(
            data_preprocessor={**preprocessor, **(data_preprocessor or {})},
            init_cfg=init_cfg,
        )
        options = with_defaults("model.test_cfg", test_cfg, self.TEST_CFG)
        if options["instances"] is not None:
            options["instances"] = with_defaults(
                "model.test_cfg.instances", options["instances"], self.INSTANCES
            )
        dtype = options["cam_dtype"]
        one_of("model.test_cfg.cam_dtype", dtype, get_args(MapDtype))
        self.test_cfg = options
        _check_levels("in_channels", in_channels)
        self.radius = radius
        self.backbone = MODELS.build(backbone)
        self.backbone.requires_grad_(False)
        keep_channels_first(self.backbone)
        self._levels: NamedFeatures | None = None
        if levels is not None:
            _check_levels("levels", levels)
            self._levels = NamedFeatures(self.backbone, levels, "model.levels")
        self.in_channels = tuple(in_channels)
        self.edge_branches = nn.ModuleList(
            _branch(channels, 32, groups=4) for channels in in_channels
        )
        self.edge_head = nn.Conv2d(5 * 32, 1, 1)
        self.displacement_branches = nn.ModuleList(
            _branch(channels, out, groups=8 if out == 64 else 16)
            for channels, out in zip(in_channels, DISPLACEMENT_CHANNELS)
        )
        fine, middle = DISPLACEMENT_CHANNELS[:2], DISPLACEMENT_CHANNELS[2:]
        self.displacement_middle = _branch(sum(middle), 256, groups=16)
        self.displacement_head = nn.Sequential(
            *_branch(sum(fine) + 256, 256, groups=16),
            nn.ReLU(),
            nn.Conv2d(256, 2, 1, bias=False),
        )
        # NaN: never measured, see mmwood.DisplacementMeanHook.
        self.register_buffer("displacement_mean", torch.full((2,), torch.nan))

    def train(self, mode: bool = True) -> "IRN":
        """Set the mode; the backbone stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(
        self,
        inputs: Tensor,
        data_samples: list[BaseDataElement] | None = None,
        mode: Mode = "tensor",
    ) -> tuple[Tensor, Tensor] | dict[str, Tensor] | list[BaseDataElement]:
        """As in every model of OpenMMLab: 'tensor', 'loss' or 'predict'.

        Args:
            inputs: Normalised images.
            data_samples: What belongs to them.
            mode: 'tensor' gives the logits of the edge and the displacement, before
                its mean is subtracted, both on the stride-4 grid.

        Shape:
            - inputs: (B, 3, H, W); edge: (B, h, w); displacement: (B, 2, h, w) with
              h = (H-1)//4+1, w = (W-1)//4+1
        """
        one_of("mode", mode, MODES)
        if mode == "tensor":
            return self._relations(inputs)
        if data_samples is None:
            raise ValueError(f"mode {mode!r} needs data_samples")
        if mode == "loss":
            return self.loss(inputs, data_samples)
        return self.predict(inputs, data_samples)

    def loss(
        self, inputs: Tensor, data_samples: list[BaseDataElement]
    ) -> dict[str, Tensor]:
        """``loss_affinity`` and ``loss_displacement`` of a batch.

        Both are ratios of sums over pairs. Processes share the divisors, so that the
        mean of their losses, and of their gradients, is that of one process with the
        whole batch.
        """
        edge, displacement = self._relations(inputs)
        label = torch.stack(
            [torch.as_tensor(sample.gt_seg_map) for sample in data_samples]
        ).to(inputs.device)
        # The pixel in the middle of each cell of the grid.
        label = F.interpolate(
            label[:, None].float(), size=edge.shape[1:], mode="nearest-exact"
        )[:, 0].long()
        # In half precision 1 + 1e-5 is 1, whose logarithms would not be finite.
        terms = relation_terms(
            edge.float().sigmoid(), displacement.float(), label, self.radius
        )
        counts = terms.counts.clone()
        all_reduce(counts)
        return total_loss(RelationTerms(terms.sums * get_world_size(), counts))

    def val_step(self, data: dict) -> list[BaseDataElement]:
        """As :meth:`test_step`."""
        return self.test_step(data)

    def test_step(self, data: dict) -> list[BaseDataElement]:
        """Predictions of a batch of images of any sizes, in their order."""
        return step_by_shape(super().test_step, data)

    @torch.no_grad()
    def predict(
        self, inputs: Tensor, data_samples: list[BaseDataElement]
    ) -> list[BaseDataElement]:
        """Edges, displacements and the maps after the walk, of images of one size."""
        height, width = inputs.shape[2:]
        edges, displacements = self.relations(inputs, flip=True)
        cams = []
        for sample, displacement in zip(data_samples, displacements):
            cam = self._maps(sample).to(inputs.device).float()
            cam = _resize(cam[:, None], displacement.shape[1:])
            cam = cam ** self.test_cfg["cam_power"]
            cams.append(cam * self._groups(displacement))

        def walk(data: dict) -> list[Tensor]:
            # Images with equally many maps walk together.
            maps = torch.stack(data["inputs"])
            together = random_walk(
                maps.flatten(1, 2),
                torch.stack(data["edges"]),
                radius=self.test_cfg["radius"],
                beta=self.test_cfg["beta"],
                steps=self.test_cfg["steps"],
            )
            return list(together.view_as(maps))

        walked = step_by_shape(walk, dict(inputs=cams, edges=edges))
        dtype = getattr(torch, self.test_cfg["cam_dtype"])
        for index, sample in enumerate(data_samples):
            original = sample.ori_shape[:2]
            # A walk is linear: that of the whole map is the sum of its groups'.
            whole = walked[index].sum(dim=1, keepdim=True)
            full = _normalised(_enlarge(whole, (height, width), original)[:, 0])
            strided = _normalised(_resize(whole, strided_size(original))[:, 0])
            fields = dict(
                cam=full.to(dtype),
                cam_strided=strided.to(dtype),
                cam_classes=sample.score_classes,
                edge=edges[index],
                displacement=displacements[index],
            )
            for name, value in fields.items():
                sample.set_field(value, name, dtype=Tensor)
            if self.test_cfg["instances"] is not None:
                found = detect_instances(
                    _normalised(_enlarge(walked[index], (height, width), original)),
                    sample.score_classes,
                    background=self.test_cfg["instances"]["background"],
                    min_fraction=self.test_cfg["instances"]["min_fraction"],
                )
                sample.set_field(found, "instances")
        return data_samples

    @torch.no_grad()
    def relations(self, inputs: Tensor, flip: bool) -> tuple[Tensor, Tensor]:
        """Edge probabilities and displacements of images of one size.

        Args:
            inputs: Normalised images.
            flip: Whether the edge's logits are averaged with those of the flipped
                image.

        Shape:
            - inputs: (B, 3, H, W); edge: (B, h, w); displacement: (B, 2, h, w)
        """
        height, width = inputs.shape[2:]
        rows, columns = strided_size((height, width))
        side = self.test_cfg["pad_to"] or 0
        pad = (0, max(0, side - width), 0, max(0, side - height))
        views = F.pad(torch.cat([inputs, inputs.flip(-1)] if flip else [inputs]), pad)
        grid = strided_size((views.shape[2], views.shape[3]))
        levels = self._extract(views)
        edge = self._edge(levels, grid)[:, :rows, :columns]
        # Those of flipped images are used nowhere.
        levels = [level[: len(inputs)] for level in levels]
        displacement = self._displacement(levels, grid)[..., :rows, :columns]
        if flip:
            edge, flipped = edge.chunk(2)
            edge = (edge + flipped.flip(-1)) / 2
        mean = self.displacement_mean.nan_to_num().view(1, 2, 1, 1)
        return edge.sigmoid(), displacement - mean

    def _groups(self, displacement: Tensor) -> Tensor:
        """(m, h, w) masks of the pixels that share an object, or all of them."""
        options = self.test_cfg["instances"]
        if options is None:
            return displacement.new_ones(1, *displacement.shape[1:])
        if self.displacement_mean.isnan().any():
            warnings.warn(
                "the mean displacement of this mmwood.IRN was never measured, so it is "
                "taken to be 0, which makes other instances: set default_hooks."
                "displacement_mean.type=mmwood.DisplacementMeanHook",
                stacklevel=2,
            )
        centroids = find_centroids(displacement, options["steps"])
        groups = group_centroids(centroids, displacement, options["threshold"])
        numbers = torch.arange(int(groups.max()) + 1, device=groups.device)
        return (groups == numbers[:, None, None]).to(displacement.dtype)

    def _relations(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        grid = strided_size((inputs.shape[2], inputs.shape[3]))
        levels = self._extract(inputs)
        return self._edge(levels, grid), self._displacement(levels, grid)

    def _edge(self, levels: list[Tensor], grid: tuple[int, int]) -> Tensor:
        edges = [
            F.relu(_resize(branch(level), grid))
            for branch, level in zip(self.edge_branches, levels)
        ]
        return self.edge_head(torch.cat(edges, dim=1))[:, 0]

    def _displacement(self, levels: list[Tensor], grid: tuple[int, int]) -> Tensor:
        middle = levels[2].shape[2:]
        fields = [
            F.relu(_resize(branch(level), size))
            for branch, level, size in zip(
                self.displacement_branches, levels, (grid, grid, middle, middle, middle)
            )
        ]
        joined = self.displacement_middle(torch.cat(fields[2:], dim=1))
        joined = F.relu(_resize(joined, grid))
        return self.displacement_head(torch.cat([*fields[:2], joined], dim=1))

    @torch.no_grad()
    def _extract(self, inputs: Tensor) -> list[Tensor]:
        """The five levels of the frozen backbone."""
        outputs = self.backbone(inputs)
        if self._levels is not None:
            outputs = self._levels.take()
        check_named_features(
            outputs,
            self.in_channels,
            "model.in_channels",
            "model.levels names the modules that are taken",
        )
        return list(outputs)

    @staticmethod
    def _maps(sample: BaseDataElement) -> Tensor:
        if "score_maps" not in sample:
            raise ValueError(
                f"{sample.get('img_path')} has no score maps: the test pipeline must "
                "load them (mmwood.LoadScoreMaps) and pack them (PackInputs("
                "algorithm_keys=('score_maps', 'score_classes', 'pred_score')))"
            )
        return sample.score_maps


def _check_levels(field: str, values: Sequence) -> None:
    if len(values) != len(DISPLACEMENT_CHANNELS):
        raise ValueError(
            f"model.{field} must name five levels, the finest first, got {list(values)}"
        )


def _branch(in_channels: int, out_channels: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.GroupNorm(groups, out_channels),
    )


def _resize(features: Tensor, size: Sequence[int]) -> Tensor:
    if features.shape[2:] == torch.Size(size):
        return features
    return F.interpolate(features, size=size, mode="bilinear", align_corners=False)


def _enlarge(maps: Tensor, size: tuple[int, int], original: tuple[int, int]) -> Tensor:
    """Maps (n, m, h, w) of the stride-4 grid of an input at its original's size."""
    if not maps.numel():
        return maps.new_zeros(*maps.shape[:2], *original)
    # Each cell is 4 by 4 pixels of the input; the last cells may reach out of it.
    full = F.interpolate(maps, scale_factor=4, mode="bilinear", align_corners=False)
    return _resize(full[:, :, : size[0], : size[1]], original)


def _normalised(maps: Tensor) -> Tensor:
    """Maps divided by the maximum over all of them."""
    return maps / (maps.amax() + EPSILON) if maps.numel() else maps
