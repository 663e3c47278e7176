"""The block DCT, the zigzag order and the cutting of high frequencies."""

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusab_core.spectrum import (
    block_dct,
    block_idct,
    chop_high_frequencies,
    dct,
    frequency_mask,
    kept_share,
    zigzag_order,
)

BLOCK_SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 11, 16, 32)  # below and above SMALL_BLOCK, odd sizes on each side

# Zigzag rank of each coefficient, row by row, as ITU-T T.81 prints it in Figure A.6.
T81_RANKS = [
    [0, 1, 5, 6, 14, 15, 27, 28],
    [2, 4, 7, 13, 16, 26, 29, 42],
    [3, 8, 12, 17, 25, 30, 41, 43],
    [9, 11, 18, 24, 31, 40, 44, 53],
    [10, 19, 23, 32, 39, 45, 52, 54],
    [20, 22, 33, 38, 46, 51, 55, 60],
    [21, 34, 37, 47, 50, 56, 59, 61],
    [35, 36, 48, 49, 57, 58, 62, 63],
]


def randn(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def scipy_block_dct(x: torch.Tensor, b: int) -> np.ndarray:
    a = x.double().numpy()
    *lead, h, w = a.shape
    blocks = a.reshape(*lead, h // b, b, w // b, b).swapaxes(-2, -3)
    return scipy.fft.dctn(blocks, axes=(-2, -1), norm="ortho")


# --- transform


@pytest.mark.parametrize("b", BLOCK_SIZES)
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_dct_equals_scipy_on_images_and_videos(b, dtype, atol):
    for lead in ((2, 3), (1, 2, 3)):
        x = randn(*lead, 2 * b, 3 * b, dtype=dtype)
        d = block_dct(x, b)
        assert d.shape == (*lead, 2, 3, b, b)
        assert d.dtype == dtype
        np.testing.assert_allclose(d.numpy(), scipy_block_dct(x, b), atol=atol)


@settings(max_examples=40, deadline=None)
@given(
    lead=st.lists(st.integers(1, 3), max_size=3),
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
    b=st.integers(1, 12),
    precision=st.sampled_from([(torch.float64, 1e-12), (torch.float32, 1e-5)]),
    seed=st.integers(0, 2**16),
)
def test_any_shape_agrees_with_scipy_inverts_and_keeps_energy(lead, rows, columns, b, precision, seed):
    dtype, tolerance = precision
    x = randn(*lead, rows * b, columns * b, dtype=dtype, seed=seed)
    d = block_dct(x, b)
    assert d.shape == (*lead, rows, columns, b, b)
    np.testing.assert_allclose(d.numpy(), scipy_block_dct(x, b), atol=tolerance)
    torch.testing.assert_close(block_idct(d), x, atol=tolerance, rtol=0)
    torch.testing.assert_close(d.square().sum(), x.square().sum(), rtol=tolerance, atol=0)  # Parseval


def test_every_frame_is_transformed_on_its_own():
    video = randn(2, 3, 4, 16, 24)
    frames = torch.stack([block_dct(video[:, :, t]) for t in range(4)], dim=2)
    torch.testing.assert_close(block_dct(video), frames, rtol=1e-12, atol=1e-12)


def test_white_noise_is_flat():
    d = block_dct(randn(64, 4, 64, 64))
    energy = d.square().mean(dim=(0, 1, 2, 3))  # 16 384 blocks: relative standard error 1.1%
    torch.testing.assert_close(energy, torch.ones_like(energy), rtol=0.06, atol=0)


def test_first_index_is_the_vertical_frequency():
    rows = torch.cos(torch.pi * (2 * torch.arange(8, dtype=torch.float64) + 1) * 3 / 16)
    d = block_dct(rows[:, None].expand(8, 8))[0, 0]
    assert d.abs().argmax().item() == 3 * 8
    assert (d.abs() > 1e-12).sum() == 1


@pytest.mark.parametrize("b", [3, 8, 9])
def test_gradients(b):
    x = randn(2, b, 2 * b).requires_grad_()
    d = randn(1, 2, b, b).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: block_dct(t, b), x)
    assert torch.autograd.gradcheck(block_idct, d)
    assert torch.autograd.gradcheck(lambda t: chop_high_frequencies(t, 0.4, b), x)


@pytest.mark.parametrize("b", [8, 16])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_computes_in_float32_and_passes_gradients(b, dtype):
    x = randn(2, 3, 2 * b, 2 * b, dtype=dtype).requires_grad_()
    d = block_dct(x, b)
    assert d.dtype == torch.float32
    np.testing.assert_allclose(d.detach().numpy(), scipy_block_dct(x.detach(), b), atol=2e-5)
    assert block_idct(d.to(dtype)).dtype == torch.float32
    assert chop_high_frequencies(x, 0.5, b).dtype == torch.float32
    d.square().sum().backward()
    assert x.grad.dtype == dtype
    torch.testing.assert_close(x.grad.float(), 2 * x.detach().float(), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("b", [8, 16])
def test_autocast_does_not_lower_the_precision(b):
    x = randn(2, 3, 32, 32, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        d = block_dct(x, b)
        back = block_idct(d)
    assert d.dtype == back.dtype == torch.float32
    torch.testing.assert_close(back, x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("b", [6, 12])  # sizes no other test uses, so that the basis is first made here
def test_a_basis_made_in_inference_mode_still_trains(b):
    with torch.inference_mode():
        block_dct(torch.zeros(b, b), b)
    x = randn(b, b, dtype=torch.float32).requires_grad_()
    block_idct(block_dct(x, b)).square().sum().backward()
    torch.testing.assert_close(x.grad, 2 * x.detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("b", [4, 16])
def test_non_contiguous_input(b):
    x = randn(2, 2, 64, 96).transpose(-1, -2)[..., ::2, :]
    assert not x.is_contiguous()
    torch.testing.assert_close(block_dct(x, b), block_dct(x.contiguous(), b))
    d = block_dct(x, b).transpose(-1, -2)
    torch.testing.assert_close(block_idct(d), block_idct(d.contiguous()))


@pytest.mark.parametrize("b", [1, 3, 8, 16])
@pytest.mark.parametrize("shape", [(2, 3, 48, 96), (48, 48), (2, 3, 0, 48)])
def test_every_way_of_computing_gives_the_same(b, shape):
    x = randn(*shape)
    expected = dct._dct_by_axis(x, b)
    torch.testing.assert_close(dct._dct_by_product(x, b), expected)
    if x.numel():
        torch.testing.assert_close(dct._dct_by_convolution(x, b), expected)
    torch.testing.assert_close(block_dct(x.float(), b), expected.float(), atol=1e-5, rtol=0)


def test_with_and_without_gradients_the_values_agree():
    x = randn(2, 3, 16, 16, dtype=torch.float32)
    torch.testing.assert_close(block_dct(x.clone().requires_grad_()).detach(), block_dct(x), atol=1e-6, rtol=0)


def test_small_and_large_blocks_are_covered():
    assert min(BLOCK_SIZES) <= dct.SMALL_BLOCK < max(BLOCK_SIZES)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("b", [8, 16])
def test_cuda_equals_cpu(b):
    x = randn(2, 3, 64, 64)
    torch.testing.assert_close(block_dct(x.cuda(), b).cpu(), block_dct(x, b))
    torch.testing.assert_close(chop_high_frequencies(x.cuda(), 0.3, b).cpu(), chop_high_frequencies(x, 0.3, b))


def test_shapes_on_the_meta_device():
    x = torch.empty(2, 3, 32, 64, device="meta")
    assert block_dct(x, 8).shape == (2, 3, 4, 8, 8, 8)
    assert block_idct(block_dct(x, 16)).shape == x.shape


@pytest.mark.parametrize(
    ("shape", "b", "advice"), [((2, 3, 30, 33), 8, "24x32"), ((30, 64), 16, "16x64"), ((1, 5, 5), 8, "8x8")]
)
def test_sides_that_are_not_multiples_are_refused_with_advice(shape, b, advice):
    with pytest.raises(ValueError, match="crop or resize to") as error:
        block_dct(torch.zeros(shape), b)
    message = str(error.value)
    assert str(shape) in message
    assert advice in message
    assert "another block_size" in message


@pytest.mark.parametrize("x", [torch.zeros(8, 8, dtype=torch.uint8), torch.zeros(8, 8) + 0j, np.zeros((8, 8))])
def test_only_real_floating_point_tensors(x):
    with pytest.raises(TypeError, match=r"uint8|complex64|ndarray"):
        block_dct(x)


def test_other_bad_arguments():
    with pytest.raises(ValueError, match="at least two axes"):
        block_dct(torch.zeros(8))
    for bad in (0, -8, 8.0, True):
        with pytest.raises(ValueError, match="block_size must be an integer"):
            block_dct(torch.zeros(8, 8), bad)
    for shape in ((8, 8), (1, 1, 8, 4)):
        with pytest.raises(ValueError, match=r"\(\.\.\., H/B, W/B, B, B\)"):
            block_idct(torch.zeros(shape))


# --- zigzag


def test_zigzag_is_the_table_of_t81():
    ranks = torch.tensor(T81_RANKS).flatten()
    order = zigzag_order(8)
    assert order.dtype == torch.int64
    assert order[:6].tolist() == [0, 1, 8, 16, 9, 2]
    assert torch.equal(ranks[order], torch.arange(64))


def test_zigzag_of_an_odd_block():
    assert zigzag_order(3).tolist() == [0, 1, 3, 6, 4, 2, 5, 7, 8]


@pytest.mark.parametrize("b", [1, 2, 3, 5, 8, 16, 31])
def test_zigzag_is_a_walk_over_neighbours_in_ascending_frequency(b):
    order = zigzag_order(b)
    u, v = order // b, order % b
    assert sorted(order.tolist()) == list(range(b * b))
    assert (torch.diff(u + v) >= 0).all()
    assert (torch.diff(u).abs() <= 1).all()
    assert (torch.diff(v).abs() <= 1).all()


def test_changing_the_returned_order_changes_nothing_else():
    zigzag_order(8).zero_()
    assert zigzag_order(8)[-1] == 63


# --- cutting


@pytest.mark.parametrize("b", [1, 3, 8])
@pytest.mark.parametrize("order", ["zigzag", "axes"])
def test_what_is_kept_and_what_is_cut_add_up_to_the_image(b, order):
    x = randn(2, 3, 2 * b, 2 * b)
    mask = frequency_mask(b, 0.5, order)
    low = chop_high_frequencies(x, 0.5, b, order)
    high = block_idct(block_dct(x, b) * ~mask)
    torch.testing.assert_close(low + high, x, atol=1e-12, rtol=0)
    torch.testing.assert_close(
        low.square().sum() + high.square().sum(), x.square().sum(), rtol=1e-12, atol=0
    )  # orthogonal parts


def test_zigzag_mask_keeps_the_ranks_below_the_cut():
    for ratio, kept in ((0, 64), (0.25, 48), (0.5, 32), (0.9, 6), (0.999, 1)):
        ranks = torch.tensor(T81_RANKS)
        assert torch.equal(frequency_mask(8, ratio), ranks < kept)
        assert kept_share(ratio) == kept / 64


def test_axes_mask_cuts_each_axis():
    mask = frequency_mask(8, 0.25, "axes")
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[:6, :6] = True
    assert torch.equal(mask, expected)
    assert kept_share(0.25, 8, "axes") == 36 / 64
    assert kept_share(0.999, 8, "axes") == 1 / 64


@pytest.mark.parametrize("order", ["zigzag", "axes"])
def test_cutting_nothing_and_nearly_everything(order):
    x = randn(2, 3, 16, 16)
    torch.testing.assert_close(chop_high_frequencies(x, 0, 8, order), x, atol=1e-12, rtol=0)
    mean = x.unflatten(-1, (2, 8)).unflatten(-3, (2, 8)).mean((-1, -3), keepdim=True)
    mean = mean.expand(2, 3, 2, 8, 2, 8).reshape(x.shape)
    torch.testing.assert_close(chop_high_frequencies(x, 0.999, 8, order), mean, atol=1e-12, rtol=0)


def test_cutting_is_a_projection():
    x = randn(1, 4, 3, 16, 16)  # video
    once = chop_high_frequencies(x, 0.6)
    torch.testing.assert_close(chop_high_frequencies(once, 0.6), once, atol=1e-12, rtol=0)
    assert once.shape == x.shape


@pytest.mark.parametrize("ratio", [-0.1, 1, 1.5, float("nan")])
def test_ratios_outside_the_range_are_refused(ratio):
    with pytest.raises(ValueError, match=rf"ratio must be in \[0, 1\).*{ratio}"):
        chop_high_frequencies(torch.zeros(8, 8), ratio)


def test_an_unknown_order_is_refused():
    with pytest.raises(ValueError, match="order must be one of zigzag, axes, got 'diagonal'"):
        chop_high_frequencies(torch.zeros(8, 8), 0.5, order="diagonal")
