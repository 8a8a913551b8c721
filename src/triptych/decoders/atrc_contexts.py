"""The contexts of ATRC: how the features of one task attend to those of another."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from triptych.decoders.layers import BatchNorm2d

CONTEXTS = ("none", "global", "local", "target-label", "source-label")
"""By their published codes."""

Maps = Float[Tensor, "batch channels height width"]
Source = Float[Tensor, "batch channels source_height source_width"]
"""Maps, or vectors as (B, C, K, 1)."""
Inner = Float[Tensor, "batch inner height width"]
InnerSource = Float[Tensor, "batch inner source_height source_width"]


class Conv1x1(nn.Sequential):
    """1x1 convolution and batch norm, with a ReLU unless `relu` is off."""

    def __init__(self, in_channels: int, out_channels: int, *, relu: bool = True) -> None:
        layers = [nn.Conv2d(in_channels, out_channels, 1, bias=False), BatchNorm2d(out_channels)]
        super().__init__(*layers, *([nn.ReLU(inplace=True)] if relu else []))


class Context(nn.Module):
    """Queries of the target, keys and values of the source, at half the width.

    `activation` follows the second stage of queries and keys.
    """

    activation: type[nn.Module] = nn.ReLU

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.query, self.key = (
            nn.Sequential(Conv1x1(channels, inner), Conv1x1(inner, inner, relu=False), self.activation())
            for _ in range(2)
        )
        self.value = Conv1x1(channels, inner)

    def forward(self, target: Maps, source: Source) -> Inner:
        return self.attend(self.query(target), self.key(source), self.value(source))

    def attend(self, query: Inner, key: InnerSource, value: InnerSource) -> Inner:
        raise NotImplementedError(f"{type(self).__name__} does not define attend")


class GlobalContext(Context):
    """Linear attention over all pixels: (V K^T) q / sum_n k_n . q with positive features (Katharopoulos et al., 2020).

    >>> GlobalContext(8)(torch.randn(1, 8, 5, 6), torch.randn(1, 8, 5, 6)).shape
    torch.Size([1, 4, 5, 6])
    """

    activation = nn.Softplus

    def attend(self, query: Inner, key: InnerSource, value: InnerSource) -> Inner:
        q, k, v = query.flatten(2), key.flatten(2), value.flatten(2)
        summed = torch.bmm(torch.bmm(v, k.transpose(1, 2)), q)
        norm = torch.bmm(k.sum(dim=2)[:, None], q).clamp(min=1e-12)
        return (summed / norm).view_as(query)


class LocalContext(Context):
    """Attention of a pixel over its 9 x 9 neighbourhood, logits divided by the square root of the width.

    Neighbours outside the image have logit 0 and value 0 and stay in the softmax.

    >>> LocalContext(8)(torch.randn(1, 8, 5, 6), torch.randn(1, 8, 5, 6)).shape
    torch.Size([1, 4, 5, 6])
    """

    size = 9

    def attend(self, query: Inner, key: InnerSource, value: InnerSource) -> Inner:
        height = query.shape[2]
        radius = self.size // 2
        # Views of (B, C, H + 8, W, 9): no neighbourhood is copied, one row of neighbours is worked on at a time.
        keys, values = (F.pad(x, (radius,) * 4).unfold(3, self.size, 1) for x in (key, value))
        scaled = (query / query.shape[1] ** 0.5)[..., None]
        rows = range(self.size)
        logits = torch.stack([(scaled * keys[:, :, i : i + height]).sum(dim=1) for i in rows], dim=-1)
        weights = logits.flatten(3).softmax(dim=3).view_as(logits)[:, None]
        parts = [(weights[..., i] * values[:, :, i : i + height]).sum(dim=4) for i in rows]
        return torch.stack(parts).sum(dim=0)


class LabelContext(Context):
    """Attention over one vector per region, what the source's features are on average there: `source` is (B, C, K, 1).

    >>> LabelContext(8)(torch.randn(1, 8, 5, 6), torch.randn(1, 8, 40, 1)).shape
    torch.Size([1, 4, 5, 6])
    """

    def attend(self, query: Inner, key: InnerSource, value: InnerSource) -> Inner:
        q, k, v = (x.flatten(2).transpose(1, 2)[:, None] for x in (query, key, value))
        return F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2).reshape(query.shape)
