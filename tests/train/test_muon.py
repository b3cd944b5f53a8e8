"""Muon: orthogonal steps for matrices, Adam's for the rest."""

import torch
from torch import nn

from rtr_core.train.muon import SIZE, Muon, orthogonal


def test_a_matrix_is_made_orthogonal_whatever_its_shape_and_scale():
    rng = torch.Generator().manual_seed(0)
    for shape in ((24, 24), (16, 40), (40, 16)):
        matrix = 1e-3 * torch.randn(shape, generator=rng)
        values = torch.linalg.svdvals(orthogonal(matrix))
        assert values.min() > 0.6 and values.max() < 1.25
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        nearest = u @ v
        assert (
            torch.cosine_similarity(orthogonal(matrix).flatten(), nearest.flatten(), dim=0) > 0.95
        )


def test_a_step_has_adam_s_size_and_goes_downhill():
    weight = nn.Parameter(torch.randn(32, 64, generator=torch.Generator().manual_seed(0)))
    bias = nn.Parameter(torch.ones(8))
    optimizer = Muon([weight], [bias], rate=0.01, decay=0.0, momentum=(0.9, 0.99))
    before = weight.detach().clone(), bias.detach().clone()
    loss = weight.square().sum() + bias.square().sum()
    loss.backward()
    optimizer.step()
    moved = (weight - before[0]).detach()
    assert 0.5 * SIZE < moved.square().mean().sqrt() / 0.01 < 1.5 * SIZE
    torch.testing.assert_close(bias.detach(), before[1] - 0.01)  # Adam's first step is the rate
    assert weight.square().sum() + bias.square().sum() < loss


def test_adam_here_is_torch_s():
    rng = torch.Generator().manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(7)) for _ in range(2))
    mine = Muon([], [ours], rate=0.1, decay=0.0, momentum=(0.9, 0.99))
    reference = torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.99))
    for _ in range(5):
        ours.grad = torch.randn(7, generator=rng)
        theirs.grad = ours.grad.clone()
        mine.step()
        reference.step()
    torch.testing.assert_close(ours, theirs)


def test_only_what_has_two_dimensions_decays():
    weight, bias = nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4))
    optimizer = Muon([], [weight, bias], rate=0.1, decay=0.5, momentum=(0.9, 0.99))
    weight.grad, bias.grad = torch.zeros(4, 4), torch.zeros(4)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((4, 4), 0.95))
    assert bias.detach().equal(torch.ones(4))
