"""Fine-grained background as a feature loss.

Yin et al., Fine-grained Background Representation for Weakly Supervised Semantic
Segmentation, TCSVT 2024.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmwood.functional.fine_grained_background import (
    background_regions,
    class_prototypes,
    contrast_loss,
    draw_other_classes,
    pixel_labels,
    query_cosines,
    query_pixels,
)
from mmwood.registry import MODELS
from mmwood.utils.check import at_least

#: How messages begin.
_FIELD = "mmwood.FineGrainedBackgroundLoss: "


@MODELS.register_module()
class FineGrainedBackgroundLoss(nn.Module):
    r"""FBR: drive unsure foreground from regions of the background, and classes apart.

    For ``feature_losses`` of :class:`mmwood.CAMHead` and of :class:`mmwood.WOoDHead`.
    Two 1×1 convolutions with a ReLU make foreground features u and background features
    v of the last map f. The loss is the sum of

    - ``loss_fbr_fb``: unsure pixels of a class
      (:func:`mmwood.functional.fine_grained_background.query_pixels`), at most
      ``max_queries`` of them, against background regions
      (:func:`.background_regions`), drawn from a queue of the latest
      (:func:`.contrast_loss` of u, the mean of the classes that have such pixels);
    - ``loss_fbr_if``: the same pixels against those of other classes of the batch
      (:func:`.draw_other_classes`);
    - ``loss_fbr_sim``: the mean of cos(u, v) over all pixels;
    - ``loss_fbr_seg``: the binary cross-entropy of a classifier of background on v,
      with batch normalisation before the ReLU and dropout after it; background is
      where the sum of the maps is below ``floor``.

    Each is logged with its weight. A weight of 0 leaves a term out. Beside them the
    mean cosines of the first with prototypes and with regions are logged,
    ``fbr_cos_prototype`` and ``fbr_cos_region``, in steps that have queries: the second
    should fall.

    Gradients of both contrasts flow through the queries alone. In the program that the
    authors released the first contrast has no gradient and takes its cosines along
    another axis, in one of its two versions the second has none either; this is the
    text.

    The queue, a buffer of ``queue_size`` vectors, belongs to the checkpoint, and so
    does the number of steps, of which together with ``seed`` everything random is
    drawn: a resumed training goes on as if it had never stopped. Several processes
    have a queue each, and none is averaged; a checkpoint has the first process's, with
    which all go on after a resume. In a :class:`mmwood.CAMClassifier` that holds for
    ``model_wrapper_cfg.broadcast_buffers=True`` too; in other classifiers that option,
    which mmengine has off, hands the first process's queue to all in every step.

    Its layers are new: give them the classifier's learning rate, see
    :class:`mmwood.CAMHead`. Nothing of it takes part in a test.

    Args:
        in_channels: D, the channels of the features.
        channels: Of u and v.
        fb_weight: Weight of ``loss_fbr_fb``. Published: 0.01 on PPC, 0.05 on AMN.
        if_weight: Weight of ``loss_fbr_if``.
        sim_weight: Weight of ``loss_fbr_sim``.
        seg_weight: Weight of ``loss_fbr_seg``. Published: 0.1 on PPC, 0 on AMN.
        background: Score of the background beside the maps.
        floor: What is less is no foreground.
        unsure: See :func:`.query_pixels`. Published: 0.6 on PPC, 0.4 on AMN.
        entropy_quantile: See there. Published: 0.1 on PPC, 0.25 on AMN.
        prototype_part: The prototype of a class is made of as many pixels as an image
            has, divided by this (:func:`.class_prototypes`). Published: 16 on PPC, 32
            on AMN.
        regions: Background regions of an image.
        queue_size: How many the queue holds. Published: 50,000 on PPC, 100,000 on AMN.
        temperature: τ of the contrasts.
        max_queries: Pixels of a class that are contrasted in a step; ours.
        negatives: Drawn for each class, and shared by its pixels.
        dropout: Probability of a value to be left out before the classifier.
        ood_regions: Whether OoD images take part, as background everywhere; ours.
            False leaves them out of all terms.
        seed: Random seed.

    Raises:
        ValueError: A weight is negative, all are 0, or another field is out of its
            range.

    Shape:
        - features: (B, in_channels, h, w); maps: (B, C, h, w); labels: (B, C);
          is_ood: (B,), bool

    Example:
        >>> head = dict(
        ...     type='mmwood.WOoDHead', num_classes=20, in_channels=2048,
        ...     feature_losses=dict(fbr=dict(
        ...         type='mmwood.FineGrainedBackgroundLoss', in_channels=2048)))
        >>> optim_wrapper = dict(paramwise_cfg=dict(custom_keys={
        ...     'head.feature_losses': dict(lr_mult=10)}))
    """

    #: Buffers that are each process's own.
    process_buffers = ("queue", "queued", "steps")

    queue: Tensor
    queued: Tensor
    steps: Tensor

    def __init__(
        self,
        in_channels: int,
        channels: int = 128,
        fb_weight: float = 0.01,
        if_weight: float = 0.1,
        sim_weight: float = 0.1,
        seg_weight: float = 0.1,
        background: float = 0.1,
        floor: float = 0.05,
        unsure: float = 0.6,
        entropy_quantile: float = 0.1,
        prototype_part: int = 16,
        regions: int = 8,
        queue_size: int = 50_000,
        temperature: float = 0.5,
        max_queries: int = 256,
        negatives: int = 256,
        dropout: float = 0.5,
        ood_regions: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        weights = {
            "fb": fb_weight,
            "if": if_weight,
            "sim": sim_weight,
            "seg": seg_weight,
        }
        for name, weight in weights.items():
            at_least(f"{_FIELD}{name}_weight", weight, 0)
        if not any(weights.values()):
            raise ValueError(f"{_FIELD}all weights are 0: leave the loss out")
        for name, count in (
            ("prototype_part", prototype_part),
            ("regions", regions),
            ("queue_size", queue_size),
            ("max_queries", max_queries),
            ("negatives", negatives),
        ):
            at_least(f"{_FIELD}{name}", count, 1, integer=True)
        for name, share in (
            ("background", background),
            ("floor", floor),
            ("unsure", unsure),
            ("entropy_quantile", entropy_quantile),
        ):
            if not 0 <= share <= 1:
                raise ValueError(f"{_FIELD}{name} must be in [0, 1], but is {share!r}")
        at_least(f"{_FIELD}dropout", dropout, 0, below=1)
        at_least(f"{_FIELD}seed", seed, 0, integer=True)
        if not temperature > 0:
            raise ValueError(
                f"{_FIELD}temperature must be positive, but is {temperature!r}"
            )
        self.weights = weights
        self.background = background
        self.floor = floor
        self.unsure = unsure
        self.entropy_quantile = entropy_quantile
        self.prototype_part = prototype_part
        self.regions = regions
        self.temperature = temperature
        self.max_queries = max_queries
        self.negatives = negatives
        self.dropout = dropout
        self.ood_regions = ood_regions
        self.seed = seed
        # It has no part in tests, so statistics of its own would serve nothing.
        self.seg_norm = nn.BatchNorm2d(channels, track_running_stats=False)
        self.to_foreground = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.to_background = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.seg_classifier = nn.Conv2d(channels, 1, 1)
        for convolution in (self.to_foreground, self.to_background):
            nn.init.xavier_uniform_(convolution.weight)
        self.register_buffer("queue", torch.zeros(queue_size, channels))
        self.register_buffer("queued", torch.tensor(0))
        self.register_buffer("steps", torch.tensor(0))

    def forward(
        self, features: Tensor, maps: Tensor, labels: Tensor, is_ood: Tensor
    ) -> dict[str, Tensor]:
        """The terms, and the mean cosines, by name."""
        # Small sums decide what is drawn: not in half precision.
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(self.to_foreground.weight.dtype)
            if not self.ood_regions:
                features, maps = features[~is_ood], maps[~is_ood]
            return self._terms(features, maps)

    def _terms(self, features: Tensor, maps: Tensor) -> dict[str, Tensor]:
        generator = torch.Generator(features.device)
        generator.manual_seed(self.seed * 1_000_003 + int(self.steps))
        self.steps += 1
        u, v = self.to_foreground(features).relu(), self.to_background(features)
        # DistributedDataParallel wants every parameter used, whatever images show.
        zero = 0 * torch.stack([own.sum() for own in self.parameters()]).sum()
        terms = {name: zero for name, weight in self.weights.items() if weight}
        logged: dict[str, Tensor] = {}
        if len(features):
            logged = self._add_contrasts(terms, u, v.relu(), maps, generator)
            if "sim" in terms:
                terms["sim"] = zero + F.cosine_similarity(u, v.relu(), dim=1).mean()
            if "seg" in terms:
                terms["seg"] = zero + self._segmentation(v, maps, generator)
        weighted = {
            f"loss_fbr_{name}": self.weights[name] * term
            for name, term in terms.items()
        }
        return weighted | logged

    def _add_contrasts(
        self,
        terms: dict[str, Tensor],
        u: Tensor,
        v: Tensor,
        maps: Tensor,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Add the two contrasts to ``terms``; gives what is only logged."""
        places = pixel_labels(maps, self.background)
        if "fb" in terms:
            self._enqueue(background_regions(v, places == 0, self.regions))
        part = places[0].numel() // self.prototype_part
        prototypes = class_prototypes(u, maps, max(part, 1))
        asks = query_pixels(
            maps, self.background, self.unsure, self.entropy_quantile, self.floor
        ).flatten()
        pixels, places = u.permute(0, 2, 3, 1).flatten(0, 2), places.flatten()
        found: dict[str, list[Tensor]] = {"fb": [], "if": []}
        for label in places[asks].unique().tolist():
            own = torch.where(asks & (places == label))[0]
            queries = pixels[self._choose(own, generator)]
            against = {}
            if "fb" in terms:
                against["fb"] = self._draw_regions(generator)
            if "if" in terms:
                among = places, prototypes, label
                drawn = draw_other_classes(
                    *among, self.negatives, self.temperature, generator
                )
                against["if"] = pixels[drawn]
            for name, negatives in against.items():
                if len(negatives):
                    cosines = query_cosines(queries, prototypes[label - 1], negatives)
                    found[name].append(cosines)
        for name, of_classes in found.items():
            if of_classes:
                losses = [contrast_loss(c, self.temperature) for c in of_classes]
                terms[name] = terms[name] + torch.stack(losses).mean()
        if not found["fb"]:
            return {}
        every = torch.cat(found["fb"]).detach()
        return dict(
            fbr_cos_prototype=every[:, 0].mean(), fbr_cos_region=every[:, 1:].mean()
        )

    def _segmentation(
        self, v: Tensor, maps: Tensor, generator: torch.Generator
    ) -> Tensor:
        """L_seg, of v before its ReLU."""
        seen = self.seg_norm(v).relu()
        kept = torch.rand(seen.shape, device=seen.device, generator=generator)
        seen = seen * (kept >= self.dropout) / (1 - self.dropout)
        target = (maps.sum(dim=1, keepdim=True) < self.floor).to(seen)
        return F.binary_cross_entropy_with_logits(self.seg_classifier(seen), target)

    def _enqueue(self, regions: Tensor) -> None:
        """First in, first out."""
        size = len(self.queue)
        number = torch.arange(len(regions), device=regions.device)
        self.queue[(self.queued + number)[-size:] % size] = regions[-size:]
        self.queued += len(regions)

    def _draw_regions(self, generator: torch.Generator) -> Tensor:
        """Vectors of the queue; none if it is empty."""
        held = min(int(self.queued), len(self.queue))
        count = self.negatives if held else 0
        drawn = torch.randint(
            max(held, 1), (count,), device=self.queue.device, generator=generator
        )
        return self.queue[drawn]

    def _choose(self, places: Tensor, generator: torch.Generator) -> Tensor:
        """At most ``max_queries`` of some pixels."""
        if len(places) <= self.max_queries:
            return places
        order = torch.randperm(len(places), device=places.device, generator=generator)
        return places[order[: self.max_queries]]

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        stored = state_dict.get(f"{prefix}queue")
        if stored is not None and stored.shape != self.queue.shape:
            # A queue of another size begins anew.
            for name in ("queue", "queued"):
                state_dict = {**state_dict, prefix + name: getattr(self, name)}
        super()._load_from_state_dict(state_dict, prefix, *args)
