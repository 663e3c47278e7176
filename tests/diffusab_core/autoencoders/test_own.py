"""One's own model, from Python or from a file, wherever a shipped one works."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from diffusab_core import data
from diffusab_core.autoencoders import AutoencoderError, Posterior, load, opening, wrap
from diffusab_core.autoencoders.own import as_posterior
from diffusab_core.methods import cost, finetuning
from diffusab_core.methods.finetuning import Finetuning
from diffusab_core.metrics.probes import decoder_dependence

SOURCE = """
import torch
from torch import nn


class Patches(nn.Module):
    scaling_factor, shift_factor = 2.0, 1.0
    last_layers = ("out",)

    def __init__(self):
        super().__init__()
        self.encoder = nn.Conv2d(3, 6, 4, 4)
        self.decoder = nn.ConvTranspose2d(3, 3, 4, 4)
        self.out = nn.Conv2d(3, 3, 1)

    def encode(self, x):
        mean, logvar = self.encoder(x).chunk(2, 1)
        return torch.distributions.Normal(mean, (logvar / 2).exp()) if hasattr(self, "normal") else Half(mean, logvar)

    def decode(self, z):
        return self.out(self.decoder(z))


class Half:
    def __init__(self, mean, logvar):
        self.mean, self.std = mean, (logvar / 2).exp()


def build():
    torch.manual_seed(0)
    return Patches()
"""

MEAN, STD = torch.ones(1, 2, 4, 4), torch.full((1, 2, 4, 4), 0.5)


@pytest.fixture
def code(tmp_path):
    """Writes Python source to a file and returns its path."""

    def write(source, name="own.py"):
        (tmp_path / name).write_text(source)
        return tmp_path / name

    return write


@pytest.fixture
def model(code):
    return load(f"{code(SOURCE)}:build", probe=32)


@pytest.mark.parametrize(
    ("output", "std"),
    [
        (MEAN, 0),
        (Posterior(MEAN, STD), 0.5),
        (SimpleNamespace(latent_dist=SimpleNamespace(mean=MEAN, std=STD)), 0.5),
        (SimpleNamespace(latent=MEAN), 0),
        (SimpleNamespace(latents=MEAN), 0),
    ],
    ids=["tensor", "posterior", "latent_dist", "latent", "latents"],
)
def test_what_encode_may_return(output, std):
    posterior = as_posterior(output)
    assert torch.equal(posterior.mean, MEAN)
    assert torch.equal(posterior.std, torch.full_like(MEAN, std))


@pytest.mark.parametrize("output", [None, (MEAN, STD), {"latent": MEAN}, np.ones((1, 2, 4, 4))])
def test_what_encode_may_not_return(output):
    with pytest.raises(AutoencoderError, match=r"encode\(x\) must return"):
        as_posterior(output)


def test_own_model_has_the_face_of_an_autoencoder(model):
    assert (model.name, model.compression, model.latent_channels) == ("own:build", 4, 3)
    assert (model.latent_shape(32, 64), model.takes_clips, model.decodes) == ((3, 8, 16), False, True)
    z = model.encode(torch.zeros(2, 3, 32, 32)).mean
    assert model.decode(z).shape == (2, 3, 32, 32)
    torch.testing.assert_close(model.normalise(z), (z - 1) * 2)
    torch.testing.assert_close(model.denormalise(model.normalise(z)), z)
    assert not model.module.training
    with pytest.raises(ValueError, match="multiples of 4"):
        model.latent_shape(30, 32)


def test_what_is_measured_trained_and_counted_of_a_shipped_one_is_of_ones_own(model):
    x = data.stack(data.Photos(32, "test", seed=0, length=4), range(4))
    found = decoder_dependence(model, x, (0, 0.25, math.sqrt(0.5)))
    assert found.psnr_without.shape == (2,)
    assert cost.reconstruction_cost(model, 32).encoder == 8 * 8 * 3 * 6 * 16
    left = finetuning.freeze(model, Finetuning(method="se"))
    assert left == sum(p.numel() for part in (model.module.encoder, model.module.decoder) for p in part.parameters())
    assert not any(p.requires_grad for p in model.module.out.parameters())
    settings = Finetuning(method="se", scales=(2,))
    distance = finetuning.distance_of(settings)
    terms = finetuning.loss_terms(model, x, settings, distance, torch.Generator().manual_seed(0))
    sum(terms.values()).backward()
    assert model.module.encoder.weight.grad.abs().max() > 0
    with pytest.raises(ValueError, match="has 0 up blocks, 1 of them cannot be frozen"):
        finetuning.freeze(model, Finetuning(frozen_up_blocks=1))


def test_a_module_at_hand_needs_no_file():
    class Pool(nn.Module):
        def encode(self, x):
            return nn.functional.avg_pool2d(x, 2)

        def decode(self, z):
            return z[..., None]

    model = wrap(Pool(), "mine", dtype=torch.bfloat16, probe=16)
    assert (model.name, model.compression, model.latent_channels) == ("mine", 2, 3)
    with pytest.raises(AutoencoderError, match=r"mine cannot decode latents of shape \(1, 3, 8, 8\)"):
        wrap(SimpleNamespace(encode=lambda x: x, decode=lambda z: z @ z.flatten()), "mine").decode(
            torch.zeros(1, 3, 8, 8)
        )
    with pytest.raises(AutoencoderError, match="must be an autoencoder"):
        wrap(nn.Identity(), "mine")


def test_own_object_needs_no_module_no_decode_and_may_import_its_neighbours(code):
    code("FACTOR = 2\n", "diffusab_test_neighbour.py")
    path = code(
        "class Half:\n"
        "    def encode(self, x):\n"
        "        import diffusab_test_neighbour as n\n"
        "        return x[:, :, None, :: n.FACTOR, :: n.FACTOR]\n"
    )
    model = load(f"{path}:Half", probe=16)
    assert (model.compression, model.latent_shape(16, 16)) == (2, (3, 8, 8))
    assert model.encode(torch.zeros(1, 3, 16, 16)).mean.shape == (1, 3, 8, 8)
    assert list(model.parameters()) == []
    assert model.place(torch.zeros(1, dtype=torch.float64)).dtype == torch.float32
    assert not model.decodes
    with pytest.raises(AutoencoderError, match="no decode"):
        model.decode(torch.zeros(1, 3, 8, 8))


def test_decode_gets_the_time_axis_back(code):
    path = code(
        "class Still:\n"
        "    def encode(self, x):\n"
        "        return x[:, :, None, ::2, ::2]\n"
        "    def decode(self, z):\n"
        "        return z[:, :, 0].repeat_interleave(2, -1).repeat_interleave(2, -2)\n"
    )
    model = load(f"{path}:Still", probe=16)
    x = torch.rand(1, 3, 4, 4).repeat_interleave(2, -1).repeat_interleave(2, -2)
    torch.testing.assert_close(model.decode(model.encode(x).mean), x)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise SystemExit(3)\n", r"SystemExit: 3 \(line 1 of own.py\)"),
        ("x = 1\n", "has no function 'build'"),
        ("def build():\n    return 1 / 0\n", r"division by zero \(line 2 of own.py\)"),
        ("def build():\n    return None\n", "encode.x., got NoneType"),
        ("class build:\n    def encode(self, x):\n        return x @ x.flatten()\n", "line 3 of own.py"),
        ("class build:\n    def encode(self, x):\n        return x, x\n", "got tuple"),
        ("class build:\n    def encode(self, x):\n        return x[0]\n", r"got shape \(3, 256, 256\)"),
        ("class build:\n    def encode(self, x):\n        return x[..., :16]\n", "256 x 16; both sides"),
        (
            "class build:\n    def encode(self, x):\n        return x[:, :, None].repeat(1, 1, 3, 1, 1)\n",
            r"\(1, 3, 3, 256, 256\)",
        ),
    ],
)
def test_own_code_that_does_not_work(code, source, said):
    with pytest.raises(AutoencoderError, match=said):
        load(f"{code(source)}:build")


@pytest.mark.parametrize("spec", ["own.py", "nowhere/own.py:build", "own.py:build()", "own.pt", "x.safetensors"])
def test_files_that_are_no_factory(spec):
    with pytest.raises(AutoencoderError, match=spec.partition(":")[0]):
        load(spec)


def test_hub_id_takes_a_subfolder(monkeypatch):
    asked = []
    monkeypatch.setattr(opening, "_open_hub", lambda name, subfolder, *_: asked.append((name, subfolder)))
    load("owner/name:vae")
    load("owner/name")
    load("owner/name", subfolder="vae")
    assert asked == [("owner/name", "vae"), ("owner/name", None), ("owner/name", "vae")]
