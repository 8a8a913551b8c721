"""InvPT: what its parts compute, which features it reads, and how many parameters it has."""

import pytest
import torch
from torch.nn import functional as F

from triptych.decoders import invpt
from triptych.decoders.invpt import InvPT, MessagePassingAttention, UpEmbed
from triptych.tasks import boundary, depth, normals, nyuv2_tasks, semseg

TASKS = {task.name: task for task in (semseg(4), depth(), normals())}
NYUD = {task.name: task for task in (semseg(40), depth(), normals(), boundary())}
PASCAL_CHANNELS = {"semseg": 21, "human_parts": 7, "saliency": 2, "normals": 3, "boundary": 1}


def small(channels=(8,) * 4, strides=(16,) * 4, tasks=TASKS, **options):
    return InvPT(channels, strides=strides, tasks=tasks, width=16, preliminary_width=8, **options)


def features(height, width, channels=(8,) * 4, strides=(16,) * 4, batch=2):
    return [torch.randn(batch, c, -(-height // s), -(-width // s)) for c, s in zip(channels, strides, strict=True)]


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_are_the_published_ones():
    """Decoder of the ViT-L network with 402,092,888 parameters in all at 448 x 576, 1,008 positions."""
    trunk = 24 * (12 * 1024**2 + 13 * 1024) + 3 * 256 * 1024 + 1024 + (1 + 1 + 28 * 36) * 1024 + 2 * 1024
    with torch.device("meta"):
        published = InvPT((1024,) * 4, strides=(16,) * 4, tasks=NYUD, dead_layers=True)
        default = InvPT((1024,) * 4, strides=(16,) * 4, tasks=NYUD)
    assert count(published) + trunk == 402_092_888
    assert count(published) - count(default) == count(published.dead) == 6_639_562


def test_attention_is_softmax_over_all_tasks_with_mixed_logits():
    """Against the definition, one query and one head at a time."""
    tasks, width, heads, scale = 2, 8, 2, 0.3
    attention = MessagePassingAttention(tasks, width, heads=heads, key_stride=4, receives=True, scale=scale).eval()
    tokens = torch.randn(1, tasks, 8, 8, width)
    messages = torch.randn(1, heads, tasks * 2 * 2, tasks * 2 * 2)
    with torch.no_grad():
        out, logits = attention(tokens, messages)
        queries, pooled = [], []
        for t in range(tasks):
            maps = tokens[:, t].permute(0, 3, 1, 2)
            own = slice(t * width, (t + 1) * width)
            asked = F.conv2d(maps, attention.query_conv.weight[own], stride=2, padding=1, groups=width)
            norm = attention.query_norm
            asked = (asked - norm.running_mean[own, None, None]) / (norm.running_var[own, None, None] + norm.eps).sqrt()
            queries.append(asked[0].flatten(1).t())
            pooled.append(maps[0].unflatten(1, (2, 4)).unflatten(3, (2, 4)).mean((2, 4)).flatten(1).t())
        q, k, v = (
            attention.query(torch.cat(queries)),
            attention.key(torch.cat(pooled)),
            attention.value(torch.cat(pooled)),
        )
        old = [
            F.interpolate(m.view(heads, 2, 2, -1).permute(0, 3, 1, 2), size=(4, 4), mode="bilinear")
            for m in messages[0].chunk(tasks, dim=1)
        ]
        old = torch.cat([m.permute(0, 2, 3, 1).flatten(1, 2) for m in old], dim=1)
        new = torch.stack([scale * q[:, h * 4 : h * 4 + 4] @ k[:, h * 4 : h * 4 + 4].t() for h in range(heads)])
        weight, bias = attention.fuse.weight[:, :, 0, 0], attention.fuse.bias
        mixed = torch.einsum("oc,cqk->oqk", weight, torch.cat([new, old])) + bias[:, None, None]
        attended = torch.cat([mixed[h].softmax(1) @ v[:, h * 4 : h * 4 + 4] for h in range(heads)], dim=1)
        maps = attention.output(attended).view(tasks, 4, 4, width).permute(0, 3, 1, 2)
        expected = F.interpolate(maps, size=(8, 8), mode="bilinear").permute(0, 2, 3, 1)
    torch.testing.assert_close(logits[0], mixed)
    torch.testing.assert_close(out[0], expected)


def test_up_embedding_equals_upsampling_first():
    up = UpEmbed(6, 4).eval()
    x = torch.randn(2, 6, 4, 6)
    with torch.no_grad():
        torch.testing.assert_close(up(x), up[1](up[0](F.interpolate(x, size=(8, 12), mode="bilinear"))))


def test_final_projection_equals_reducing_resizing_and_adding_first():
    decoder = small().eval()
    outputs = [torch.randn(1, 4 << i, 6 << i, 16 >> i) for i in range(3)]
    with torch.no_grad():
        maps = [output.permute(0, 3, 1, 2) for output in outputs]
        maps = maps[:1] + [r["depth"](m) for r, m in zip(decoder.reductions, maps[1:], strict=True)]
        total = sum(F.interpolate(m, size=(32, 48), mode="bilinear") for m in maps)
        expected = decoder.heads["depth"](decoder.projections["depth"](total))
        torch.testing.assert_close(decoder._project("depth", outputs, (32, 48)), expected)


LAYOUTS = {
    "plain": ((16, 16, 16, 16), [2, 1, 0], (4, 6)),
    "patches of 14": ((14, 14, 14, 14), [2, 1, 0], (4, 6)),
    "pyramid": ((4, 8, 16, 32), [2, 2, 1], (4, 6)),
    "dilated": ((4, 8, 8, 8), [2, 2, 1], (4, 6)),
    "one level": ((16,), [0, 0, 0], (4, 6)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_skips_come_from_the_nearest_stride(layout):
    strides, sources, grid = LAYOUTS[layout]
    channels = tuple(range(4, 4 + len(strides)))
    for quirks in (True, False):
        decoder = small(channels, strides, reference_quirks=quirks)
        maps = features(100, 130, channels, strides)
        assert decoder.skip_sources == sources
        assert decoder.grid(maps) == grid
        initial, final = decoder(maps)
        for name, task in TASKS.items():
            assert initial[name].shape == (2, task.channels, *grid)
            assert final[name].shape == (2, task.channels, 8 * grid[0], 8 * grid[1])


def test_quirks_change_the_scale_and_the_first_skip():
    published, intended = small(), small(reference_quirks=False)
    assert [stage.attention.scale for stage in published.stages] == [16**-0.5, 8**-0.5, 4**-0.5]
    assert [stage.attention.scale for stage in intended.stages] == [8**-0.5, 4**-0.5, 2**-0.5]
    assert set(published.skips) == {"1", "2"}
    assert set(intended.skips) == {"0", "1", "2"}


def test_initial_predictions_precede_the_exchange_between_tasks():
    decoder = small().eval()
    maps = features(64, 64)
    with torch.no_grad():
        before = decoder(maps)
        decoder.mix["depth"].bias += 1.0
        after = decoder(maps)
    for name in TASKS:
        assert torch.equal(before[0][name], after[0][name])
        assert not torch.equal(before[1][name], after[1][name])


def test_smallest_image_with_a_batch_of_one_trains():
    initial, final = small().train()(features(16, 16, batch=1))
    assert all(raw.isfinite().all() for stage in (initial, final) for raw in stage.values())


def test_width_must_hold_three_stages_of_heads():
    with pytest.raises(ValueError, match="width of InvPT is 20; three stages of 2 heads need a multiple of 8"):
        InvPT((8,), strides=(16,), tasks=nyuv2_tasks(), width=20)


def test_resizing_is_not_done_at_the_published_sizes(monkeypatch):
    """At multiples of 64 with patches of 16 only the last feature is resized, besides what the stages double."""
    sizes = []
    original = invpt.resize
    monkeypatch.setattr(invpt, "resize", lambda x, size: sizes.append((tuple(x.shape[2:]), size)) or original(x, size))
    small()(features(128, 192))
    assert [a for a, b in sizes if tuple(b) not in (a, tuple(2 * side for side in a))] == [(8, 12)]
