"""The published sizes on the meta device, where tensors have shapes and no values: networks, parameters, memory.

``pytest -s`` prints the memory. What a preset needs beside its networks (data, time) is not looked at here.
"""

from dataclasses import fields

import lpips
import pytest
import torch

from diffusab_book import chapters
from diffusab_core import denoisers
from diffusab_core.autoencoders import CATALOGUE, Autoencoder
from diffusab_core.experiments import pretraining
from diffusab_core.experiments.bench import Trial
from diffusab_core.experiments.pretraining import Pretraining
from diffusab_core.experiments.scoring import Scoring
from diffusab_core.methods import finetuning, regularizers
from diffusab_core.methods.cost import Memory, training_memory
from diffusab_core.methods.finetuning import Finetuning

GPU = 80 * 10**9  # bytes, of an A100 or H100
GPUS = 8  # of the SE paper's one node
FLUX = CATALOGUE["FluxAE"]
BF16 = {"device": "meta", "dtype": torch.bfloat16}


def published(notebook: str) -> dict:
    """All parameters at the size ``paper``; lists as tuples, as settings have them."""
    path = chapters.find(notebook)
    values = {name: p.default for name, p in chapters.parameters(path).items()} | chapters.preset(path, "paper")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def choose(settings: type, values: dict):
    """A settings' dataclass from a notebook's parameters, which have the same names."""
    return settings(**{f.name: values[f.name] for f in fields(settings) if f.name in values and f.name != "device"})


def flux(place: str) -> Autoencoder:
    """The autoencoder that a preset names, without weights."""
    assert place == f"{FLUX.hub_id}:{FLUX.subfolder}"
    with torch.device("meta"):
        return Autoencoder("FluxAE", FLUX.build().to(torch.bfloat16))


def millions(parameters) -> float:
    return sum(p.numel() for p in parameters) / 1e6


def reconstruct(autoencoder: Autoencoder, x: torch.Tensor, scales=()) -> list[torch.Tensor]:
    """What a step decodes: the image, and the latent at the largest size that SE may draw."""
    posterior = autoencoder.encode(x)
    z = posterior.mean + posterior.std * torch.empty_like(posterior.mean)
    return [autoencoder.decode(z), *(autoencoder.decode(regularizers.downsample(z, s)) for s in scales)]


def fits(name: str, memory: Memory) -> None:
    print(f"\n{name} at paper: {memory}")
    assert memory.total < GPU


def test_denoiser_is_dit_xl_2_on_the_latents_of_flux_ae():
    values = published("denoiser")
    trial = choose(Trial, values)
    assert (trial.steps, trial.learning_rate, trial.sampling_steps, trial.guidance) == (400_000, 3e-4, 256, 1.0)
    side, channels = trial.resolution // FLUX.compression, FLUX.latent_channels
    shape = {"in_channels": channels, "input_size": (side, side), "num_classes": 1000}
    with torch.device("meta"):
        model = denoisers.build(trial.denoiser, **shape).to(torch.bfloat16)
    count = sum(p.numel() for p in model.parameters())
    # The published 674.82M are of four channels and without the map of the self-conditioning's hint; a channel more
    # has 2 x 2 numbers more in a patch, on the way in and on the way out.
    assert count - 1152**2 - (channels - 4) * 4 * (2 * 1152 + 1) == 674_816_272
    part = trial.batch_size // GPUS
    x, t, y = torch.empty(part, channels, side, side, **BF16), torch.empty(part, **BF16), torch.zeros(part).long()
    # The preset keeps less: it computes the activations of blocks anew.
    memory = training_memory(model.parameters(), lambda: model(x, t, y.to("meta")), processes=GPUS)
    assert memory.weights == 4 * count
    fits("denoiser", memory)


def test_finetune_is_table_5():
    values = published("finetune")
    settings = choose(Finetuning, values)
    assert settings == finetuning.from_recipe(values["model"], FLUX.recipe, "se", images=values["images"])
    autoencoder = flux(values["model"])
    assert millions(autoencoder.parameters()) == pytest.approx(FLUX.parameters, abs=0.005)
    trained = finetuning.freeze(autoencoder, settings) / 1e6
    print(
        f"\nfinetune at paper: {trained:.1f}M parameters are trained, Table 5 prints {FLUX.recipe.printed_parameters}M"
    )
    assert FLUX.recipe.printed_parameters - trained == pytest.approx(1.05, abs=0.01)
    with torch.device("meta"):
        distance = lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False)
    distance = distance.to(**BF16).requires_grad_(False)
    x = torch.empty(settings.batch_size, 3, settings.resolution, settings.resolution, **BF16)

    def step() -> list[torch.Tensor]:
        whole, half = reconstruct(autoencoder, x, settings.scales[:1])
        return [whole, half, distance(x, whole), distance(regularizers.downsample(x, settings.scales[0]), half)]

    fits("finetune", training_memory([*autoencoder.parameters(), *distance.parameters()], step))


def test_autoencoder_is_as_large_as_flux_ae():
    values = published("autoencoder")
    settings = choose(Pretraining, values)
    with torch.device("meta"):
        autoencoder = pretraining.build(settings)
    autoencoder.module.to(torch.bfloat16)
    assert settings.compression == FLUX.compression
    assert millions(autoencoder.parameters()) == pytest.approx(FLUX.parameters, abs=0.005)
    x = torch.empty(settings.batch_size, 3, settings.resolution, settings.resolution, **BF16)
    fits("autoencoder", training_memory(autoencoder.parameters(), lambda: reconstruct(autoencoder, x)))


def test_probe_measures_flux_ae():
    assert millions(flux(published("probe")["autoencoder"]).parameters()) == pytest.approx(83.82, abs=0.005)


def test_space_is_that_of_the_denoiser():
    chosen, denoiser = choose(Scoring, published("space")), published("denoiser")
    same = ("autoencoder", "images", "resolution", "denoiser", "mask", "power", "white_channels", "data_seed")
    assert {name: getattr(chosen, name) for name in same} == {name: denoiser[name] for name in same}


def test_every_full_run_is_looked_at():
    looked_at = {"denoiser", "finetune", "autoencoder", "probe", "space"}
    assert {path.stem for path in chapters.listed() if path.parent.name == "runs"} == looked_at
