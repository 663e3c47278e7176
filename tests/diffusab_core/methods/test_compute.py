"""Multiply-accumulates: closed forms, the paper's numbers, independence of the device."""

import copy

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderDC, AutoencoderKL
from torch import nn

from diffusab_core import autoencoders
from diffusab_core.autoencoders import CATALOGUE, Autoencoder
from diffusab_core.methods import finetuning
from diffusab_core.methods.cost import Cost, multiply_accumulates, reconstruction_cost, training_memory
from diffusab_core.methods.finetuning import Finetuning


def empty(*shape, **options):
    return torch.empty(*shape, device="meta", **options)


# --- closed forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_convolution(device, groups, transposed):
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer = kind(8, 16, 3, stride=2, padding=1, groups=groups).to(device)
    x = torch.zeros(2, 8, 10, 14, device=device)
    positions = 10 * 14 if transposed else 5 * 7  # of the side at which every filter is laid down once
    forward = 2 * positions * 3 * 3 * 8 * 16 // groups
    assert multiply_accumulates(layer, x) == forward
    assert multiply_accumulates(layer, x, backward=True) == 2 * forward  # gradient of the weights only
    assert multiply_accumulates(layer, x.requires_grad_(), backward=True) == 3 * forward


def test_a_linear_layer():
    layer = nn.Linear(6, 10).to("meta")
    assert multiply_accumulates(layer, empty(7, 6)) == 7 * 6 * 10
    assert multiply_accumulates(layer, empty(7, 6, requires_grad=True), backward=True) == 3 * 7 * 6 * 10


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("backward", [False, True])
def test_attention_is_two_products_on_every_device(device, backward):
    q = torch.zeros(2, 3, 20, 5, device=device, requires_grad=backward)
    count = multiply_accumulates(F.scaled_dot_product_attention, q, q, q, backward=backward)
    assert count == 2 * 3 * (2 * 20 * 20 * 5) * (3 if backward else 1)


def test_nothing_but_products_is_counted():
    x = empty(1, 8, 16, 16)
    layers = nn.Sequential(nn.GroupNorm(4, 8), nn.SiLU(), nn.AvgPool2d(2)).to("meta")
    assert multiply_accumulates(layers, x) == 0
    with pytest.raises(RuntimeError, match="does not require grad"):
        multiply_accumulates(nn.SiLU(), x, backward=True)


def test_shares_of_a_cost():
    cost = Cost(encoder=100, decoder=300, regularizer={2: 80, 4: 20})
    assert (cost.total, cost.overhead(2), cost.overhead(4), cost.mean_overhead) == (400, 0.2, 0.05, 0.125)


# --- autoencoders -----------------------------------------------------------------------------------------------------


def test_fluxae_costs_what_the_paper_prints():
    """Skorokhodov et al. 2025, App. C.6, in thousand million multiply-accumulates."""
    with torch.device("meta"):
        cost = reconstruction_cost(Autoencoder("FluxAE", CATALOGUE["FluxAE"].build()), 256)
    found = [cost.total, cost.encoder, cost.decoder, cost.regularizer[2], cost.regularizer[4]]
    assert [count / 1e9 for count in found] == pytest.approx([447, 136, 311, 77.6, 19.4], rel=0.005)
    assert [round(cost.overhead(scale), 3) for scale in (2, 4)] == [0.173, 0.043]
    # The paper's 10.75% is the mean of its rounded 17% and 4.5%; unrounded it is 10.8%.
    assert round(cost.mean_overhead, 4) == 0.1083


@pytest.fixture(scope="module")
def shipped():
    return autoencoders.load("kl-f4c16")


def test_the_count_is_that_of_running_the_model(shipped):
    cost = reconstruction_cost(shipped, 32)
    x, z = torch.zeros(1, 3, 32, 32), torch.zeros(1, 16, 8, 8)
    module = shipped.module
    assert cost.encoder == multiply_accumulates(lambda x: module.encode(x).latent_dist.mean, x)
    assert cost.decoder == multiply_accumulates(lambda z: module.decode(z).sample, z)
    small = multiply_accumulates(lambda z: module.decode(z).sample, z[..., :4, :4])
    # Every layer of this model is a convolution, so that the cost goes with the area.
    assert cost.regularizer == {2: small, 4: cost.decoder // 16}
    assert cost.decoder == 4 * small
    assert next(shipped.parameters()).device.type == "cpu"


def test_a_training_step_costs_three_passes_and_the_share_stays(shipped):
    own = copy.deepcopy(shipped)
    module = own.module
    forward, step = (reconstruction_cost(own, 32, backward=b) for b in (False, True))
    first = multiply_accumulates(module.encoder.conv_in, torch.zeros(1, 3, 32, 32))
    assert step.encoder == 3 * forward.encoder - first  # no gradient of the image
    assert step.decoder == 3 * forward.decoder
    assert step.mean_overhead == pytest.approx(forward.mean_overhead, rel=0.01)
    finetuning.freeze(own, Finetuning())
    last = multiply_accumulates(module.decoder.conv_out, torch.zeros(1, 16, 32, 32))
    assert reconstruction_cost(own, 32, backward=True).decoder == step.decoder - last  # a frozen layer's weights
    assert all(p.grad is None for p in module.parameters())


def test_attention_in_the_middle_grows_with_the_square_of_the_positions():
    levels = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    with torch.device("meta"):
        with_it, without = (
            Autoencoder(
                f"attention: {on}",
                AutoencoderKL(
                    **levels,
                    block_out_channels=(8, 16),
                    norm_num_groups=4,
                    latent_channels=4,
                    mid_block_add_attention=on,
                ),
            )
            for on in (True, False)
        )
    for side in (16, 32):
        positions = (side // 2) ** 2
        extra = reconstruction_cost(with_it, side).encoder - reconstruction_cost(without, side).encoder
        # Queries, keys, values and output, 16 channels each; then queries with keys and weights with values.
        assert extra == 4 * positions * 16 * 16 + 2 * positions**2 * 16


def test_deterministic_and_grouped_autoencoders_are_counted():
    small = {f"{side}_block_out_channels": (8, 8, 8) for side in ("encoder", "decoder")}
    small |= {f"{side}_layers_per_block": (1, 1, 1) for side in ("encoder", "decoder")}
    small |= {f"{side}_block_types": ("ResBlock", "ResBlock", "EfficientViTBlock") for side in ("encoder", "decoder")}
    module = Autoencoder("DC", AutoencoderDC(**small, latent_channels=4, attention_head_dim=4))
    forward, step = (reconstruction_cost(module, 64, backward=b) for b in (False, True))
    assert forward.regularizer[2] < forward.decoder / 3
    assert step.decoder <= 3 * forward.decoder  # with depthwise convolutions, too
    assert step.decoder > 2.9 * forward.decoder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 36}, "sides 9x9 cannot be downsampled by 2"),
        ({"resolution": 40, "scales": (2, 4)}, "sides 10x10 cannot be downsampled by 4"),
        ({"resolution": 32, "scales": (0,)}, "scales must be positive whole numbers"),
        ({"resolution": 30}, "positive multiples of 4, got 30 x 30"),
    ],
)
def test_what_cannot_be_counted_is_refused(shipped, options, message):
    with pytest.raises(ValueError, match=message):
        reconstruction_cost(shipped, **options)


# --- memory -----------------------------------------------------------------------------------------------------------


def test_memory_of_two_linear_layers():
    layers = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 3)).to("meta")
    layers[0].requires_grad_(False)
    x = empty(7, 10)
    found = training_memory(layers.parameters(), lambda: layers(x), processes=2)
    whole, trained = 10 * 20 + 20 + 20 * 3 + 3, 20 * 3 + 3
    assert (found.weights, found.gradients, found.optimiser) == (4 * whole, 4 * trained, 8 * trained)
    assert (found.average, found.activations) == (4 * trained, 4 * 7 * 20), "of a frozen layer nothing is kept"
    assert found.total == found.states / 2 + found.activations
    layers.requires_grad_(True)
    assert training_memory(layers.parameters(), lambda: layers(x)).activations == 4 * 7 * (10 + 20)


def test_attention_keeps_its_inputs_and_output_and_no_matrix():
    q, k, v = (empty(2, 3, 50, 8, dtype=torch.bfloat16).requires_grad_() for _ in range(3))
    found = training_memory([q, k, v], lambda: F.scaled_dot_product_attention(q, k, v))
    assert found.activations == 2 * 2 * 3 * 50 * 8, "the output; the inputs are parameters here"


def test_memory_is_what_is_kept_on_a_real_device():
    """The same count from tensors with values: those that backward holds, by their storages."""

    def model():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.SiLU(), nn.Flatten(), nn.Linear(8 * 36, 4))

    real, meta = model(), model().to("meta")
    kept: dict[int, torch.Tensor] = {}

    def keep(t):
        kept.setdefault(t.untyped_storage().data_ptr(), t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        out = real(torch.randn(5, 3, 8, 8))
    own = {p.untyped_storage().data_ptr() for p in real.parameters()}
    expected = sum(t.untyped_storage().nbytes() for key, t in kept.items() if key not in own)
    assert out.requires_grad
    assert training_memory(meta.parameters(), lambda: meta(empty(5, 3, 8, 8))).activations == expected
