"""CLIP's maps with random weights: against loops, and with open_clip where it is."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from mmwood.engine.clip_maps import BACKGROUND, CLIPMaps, dense_tokens

WIDTH, HEADS, PATCH = 8, 2, 4


class Block(nn.Module):
    """A block as open_clip names its parts."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn = nn.MultiheadAttention(WIDTH, HEADS, batch_first=batch_first)
        self.mlp = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens):
        normal = self.ln_1(tokens)
        tokens = tokens + self.attn(normal, normal, normal, need_weights=False)[0]
        return tokens + self.mlp(self.ln_2(tokens))


class Visual(nn.Module):
    """A vision transformer as open_clip names its parts."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(WIDTH))
        self.positional_embedding = nn.Parameter(torch.randn(1 + 9, WIDTH))
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(Block(batch_first) for _ in range(3))
        self.transformer.batch_first = batch_first
        self.proj = nn.Parameter(torch.randn(WIDTH, 5))


def slow_addition(attention: nn.MultiheadAttention, tokens: torch.Tensor):
    """What a block adds to the second path: all three compared; by loops."""
    width = WIDTH // HEADS
    rows = tokens @ attention.in_proj_weight.T + attention.in_proj_bias
    joined = torch.zeros_like(tokens)
    for head in range(HEADS):
        parts = [rows[:, part * WIDTH + head * width :][:, :width] for part in range(3)]
        for i in range(len(tokens)):
            for part in parts:
                weights = [
                    math.exp(float(part[i] @ part[j]) / math.sqrt(width))
                    for j in range(len(tokens))
                ]
                for j, weight in enumerate(weights):
                    share = weight / sum(weights) / 3
                    joined[i, head * width :][:width] += share * parts[2][j]
    return joined @ attention.out_proj.weight.T + attention.out_proj.bias


@pytest.mark.parametrize("batch_first", [True, False])
@torch.no_grad()
def test_tokens_of_the_second_path(batch_first):
    torch.manual_seed(0)
    visual = Visual(batch_first).double().eval()
    for layer in visual.modules():
        if isinstance(layer, nn.MultiheadAttention):
            nn.init.normal_(layer.in_proj_bias)
    image = torch.randn(3, 12, 12, dtype=torch.float64)
    compared = ("query", "key", "value")
    found, grid = dense_tokens(visual, image, 2, compared)
    assert grid == (3, 3)

    tokens = [visual.class_embedding]
    for row in range(3):
        for column in range(3):
            patch = image[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            tokens.append((visual.conv1.weight * patch).sum(dim=(1, 2, 3)))
    first = visual.ln_pre(torch.stack(tokens) + visual.positional_embedding)
    blocks = visual.transformer.resblocks
    first = blocks[0](first[None] if batch_first else first[:, None]).reshape(10, -1)
    second = first
    for block in blocks[1:]:
        second = second + slow_addition(block.attn, block.ln_1(first))
        first = block(first[None] if batch_first else first[:, None]).reshape(10, -1)
    second[0] = first[0]
    expected = visual.ln_post(second) @ visual.proj
    torch.testing.assert_close(found, expected.float())


TINY = dict(
    embed_dim=6,
    vision_cfg=dict(
        image_size=32, layers=3, width=16, head_width=8, patch_size=8, mlp_ratio=2
    ),
    text_cfg=dict(context_length=16, vocab_size=49408, width=8, heads=2, layers=1),
)


@pytest.fixture
def tiny(tmp_path):
    """A model of open_clip of random weights, and their file."""
    clip = pytest.importorskip("open_clip")
    (tmp_path / "mmwood-tiny.json").write_text(json.dumps(TINY))
    clip.add_model_config(tmp_path / "mmwood-tiny.json")
    torch.manual_seed(0)
    model = clip.create_model("mmwood-tiny").eval()
    path = tmp_path / "weights.pt"
    torch.save(model.state_dict(), path)
    return model, str(path)


@torch.no_grad()
def test_with_open_clip(tiny):
    model, path = tiny
    maps = CLIPMaps(path, "mmwood-tiny", blocks=2, device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    # Of an image of the model's own size the class token is the model's.
    tokens, grid = dense_tokens(maps.visual, maps._prepared(image), 2, ("value",))
    assert grid == (4, 4)
    inputs = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    mean = torch.tensor(model.visual.image_mean)[:, None, None]
    std = torch.tensor(model.visual.image_std)[:, None, None]
    torch.testing.assert_close(tokens[:1], model.encode_image((inputs - mean) / std))
    assert set(maps.description()) == {"weights_sha256"}

    odd = np.random.default_rng(1).integers(0, 256, (45, 61, 3), dtype=np.uint8)
    found = maps(odd, ["train", "boat"])
    assert found.shape == (2, 6, 8)
    assert found.min() == 0
    assert found.max() == 1
    # Another class beside it changes what a map shares with all texts.
    assert not np.allclose(maps(odd, ["train"])[0], found[0])
    with pytest.raises(ValueError, match="background names the class 'tree'"):
        maps(odd, ["tree"])
    with pytest.raises(ValueError, match="blocks must be an integer of at least 1"):
        CLIPMaps(path, "mmwood-tiny", blocks=4)


def test_nothing_is_downloaded(tiny):
    _, path = tiny
    with pytest.raises(ValueError, match="no 'hf-hub:some/model'"):
        CLIPMaps(path, "hf-hub:some/model")
    with pytest.raises(ValueError, match="'ViT-B-16-SigLIP' would be downloaded"):
        CLIPMaps(path, "ViT-B-16-SigLIP")


def test_wrong_options(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"checkpoint: there is no file none\."):
        CLIPMaps("none.pt")
    path = tmp_path / "weights.pt"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"prompt needs \{\}"):
        CLIPMaps(str(path), prompt="a photo")
    with pytest.raises(ValueError, match="scale must be positive"):
        CLIPMaps(str(path), scale=0)
    assert len(set(BACKGROUND)) == 25
