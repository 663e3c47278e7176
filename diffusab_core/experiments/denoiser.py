"""Denoisers: :func:`train_denoiser` makes a folder that :func:`open_denoiser` opens, :func:`generate` draws images."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffusab_core import denoisers, training
from diffusab_core.autoencoders import Autoencoder
from diffusab_core.experiments import records
from diffusab_core.files import SettingsError, write_json, write_text
from diffusab_core.latents import Latents
from diffusab_core.latents.identity import weights_digest
from diffusab_core.methods import denoising, reshaping
from diffusab_core.methods.denoising import Denoising, Sampling
from diffusab_core.training.state import CheckpointError
from diffusab_core.training.world import World, alone, on_main, shard

#: What may change when a run is resumed: how it is computed, and where.
_NO_PART = ("accumulation", "checkpoint_activations", "compile", "device")
_DECODED_AT_ONCE = 16
_KINDS = {
    "velocity": "on rectified flow, which predicts the velocity",
    "noise": "on the discrete steps of latent diffusion, which predicts the noise",
}


@dataclass(frozen=True)
class Denoiser:
    """A denoiser with all that is needed to use it."""

    model: nn.Module  #: In evaluation mode, on its device; of latents whatever its network sees, see ``reshaping``
    shape: tuple[int, ...]  #: Of one latent, ``(C, h, w)`` or ``(C, t, h, w)``
    class_names: tuple[str, ...]  #: In the order of class numbers; empty for a model without classes
    channel_mean: Tensor  #: Of the raw latents, ``(C,)``
    channel_std: Tensor  #: Likewise
    latents: Mapping[str, Any]  #: What it was trained on, see :attr:`diffusab_core.latents.Latents.identity`
    white_channels: int = 0  #: How many of the last channels are dropped before decoding

    @property
    def num_classes(self) -> int:
        """0 for a model without classes."""
        return len(self.class_names)

    def denormalise(self, x: Tensor) -> Tensor:
        """What the denoiser makes, ``(N, *shape)``, to raw latents as the autoencoder decodes them."""
        mean, std = (s.to(x).reshape(-1, *[1] * (len(self.shape) - 1)) for s in (self.channel_mean, self.channel_std))
        return (x * std + mean)[:, : self.shape[0] - self.white_channels]


@dataclass(frozen=True)
class TrainedDenoiser:
    """A finished run: the denoiser with the averaged weights, and the record."""

    denoiser: Denoiser
    record: records.RunRecord


def train_denoiser(
    settings: Denoising,
    latents: Latents,
    out: str | os.PathLike | None = None,
    *,
    size: records.Size = "laptop",
    world: World | None = None,
    checkpoint_every: int = 1000,
    snapshot: Callable[[Denoiser], dict[str, float]] | None = None,
    snapshots: int = 5,
    log_every: int = 10,
    watch: Callable[[int, dict[str, Any]], None] | None = None,
    progress: bool = True,
) -> TrainedDenoiser:
    """Train a denoiser and, with ``out``, keep it with its card, record, checkpoints and TensorBoard's logs.

    The same call goes on where an earlier one was cut off, and only reads back what is finished; a
    :class:`CheckpointError` says how the run in ``out`` is another one. Under torchrun every process makes the same
    call with its own ``world``; the checkpoints fit any number of processes. Latents that do not fit are a
    :class:`SettingsError`, an unknown denoiser is a :class:`DenoiserError`, a loss that is not finite
    :class:`TrainingDiverged`.

    Args:
        world: See :func:`diffusab_core.training.world.world`; ``None``: one process.
        snapshot: Numbers to take along the way, ``snapshots`` times, of the averaged weights; in one process only.
        watch: See :func:`diffusab_core.training.train`.
    """
    world = alone(settings.device) if world is None else world
    if snapshot is not None and world.size > 1:
        raise SettingsError(f"snapshots are taken in one process only, this run has {world.size}")
    if settings.flips and not latents.flips:
        raise SettingsError("the settings ask for flips, but these latents hold none of mirrored images")
    # Without the number of a GPU: under torchrun every process has another, and all read the same record back.
    parameters = asdict(settings) | {"device": torch.device(settings.device).type, "latents": dict(latents.identity)}
    # What it changes stands flat, so that a run without is what it was before there was any.
    del parameters["reshaping"]
    parameters |= settings.reshaping.identity()
    parameters = json.loads(json.dumps(parameters))  # as a record gives it back
    run = records.start(
        "train-denoiser", parameters=parameters, seed=settings.seed, size=size,
        data=f"{len(latents)} latents {latents.shape} of {latents.identity.get('images', 'tensors')}",
        device=world.device,
    )  # fmt: skip
    folder = Path(out) if out is not None else None
    if record := records.read_back(folder, run):
        return TrainedDenoiser(open_denoiser(folder, world.device), record)
    latents = reshaping.make_up(latents, settings.reshaping)
    spectrum = _spectrum(settings, latents, folder, world)
    model = denoising.build(settings, latents)

    def opened(weights: Mapping[str, Tensor]) -> Denoiser:
        # A second model, so that taking a snapshot cannot disturb the one in training.
        whole = denoising.build(settings, latents)
        whole.load_state_dict(weights)
        whole.eval().requires_grad_(False)
        about = latents.shape, latents.class_names, *latents.statistics, latents.identity
        return Denoiser(_reshaped(whole, spectrum), *about, settings.reshaping.white_channels)

    run.metrics["parameters"] = sum(p.numel() for p in model.parameters())
    shard(model, world, model.blocks)
    # Process 0 alone writes logs; the checkpoints are everybody's.
    with records.logs(folder if world.is_main else None) as on_log:
        trained = training.train(
            model.train(),
            denoising.loss_of(model, latents, settings, spectrum),
            settings.training,
            checkpoint=None if folder is None else folder / "training" / "checkpoints",
            checkpoint_every=checkpoint_every,
            identity={name: value for name, value in parameters.items() if name not in _NO_PART},
            log_every=log_every,
            on_log=on_log,
            watch=watch,
            snapshot=None if snapshot is None else lambda average: snapshot(opened(average)),
            snapshot_average=True,
            snapshot_every=max(1, settings.steps // max(1, snapshots)),
            progress=progress,
            world=world,
        )
    run.metrics |= {"training_time_s": trained.wall_time_s, "processes": world.size}
    run.series = dict(trained.series)
    if trained.snapshots:
        run.series |= {f"snapshot_{key}": [float(s[key]) for s in trained.snapshots] for key in trained.snapshots[0]}
    denoiser = opened(trained.ema)
    record = run.finish()
    if folder is not None and world.is_main:
        config = {
            "denoiser": settings.denoiser, "in_channels": denoiser.shape[0], "input_size": list(denoiser.shape[1:]),
            "num_classes": denoiser.num_classes, "class_names": list(denoiser.class_names),
            "channel_mean": denoiser.channel_mean.tolist(), "channel_std": denoiser.channel_std.tolist(),
            "latents": dict(denoiser.latents),
        }  # fmt: skip
        network = denoiser.model
        if settings.reshaping.identity():
            config["reshaping"] = reshaping.describe(spectrum)
        if isinstance(network, reshaping.Reshaped):
            network = network.network
        denoisers.save(folder, network, config)
        write_text(folder / "README.md", card(folder.resolve().name, record))
        record.write(folder / "record.json")  # last, as the sign that all is there
    return TrainedDenoiser(denoiser, record)


def _spectrum(settings: Denoising, latents: Latents, folder: Path | None, world: World) -> reshaping.Spectrum:
    """Mask and filter, measured by one process at the start of a run and read by all ever after."""

    def measure() -> dict[str, Any]:
        file = None if folder is None else folder / "training" / "spectrum.json"
        if file is not None and file.is_file():
            try:
                found = json.loads(file.read_text(encoding="utf-8"))
                reshaping.restore(found, latents.shape)
            except ValueError as error:
                raise CheckpointError(
                    f"{file} is damaged ({error}); without it the latents are measured anew"
                ) from None
            if found["chosen"] == reshaping.choice(settings.reshaping):
                return found
        made = reshaping.describe(denoising.spectrum_of(settings, latents))
        # Of another run that has a checkpoint it stays: that one will refuse to go on as this, by name.
        if file is not None and not list(file.parent.glob("checkpoints/step_*")):
            write_json(file, made)
        return made

    if not settings.reshaping.changes_path:
        return denoising.spectrum_of(settings, latents)
    energies = on_main(world, measure)["energies"]
    energies = None if energies is None else torch.tensor(energies, dtype=torch.float64)
    return reshaping.Spectrum(settings.reshaping, latents.shape, settings.steps, energies, settings.device)


def _reshaped(network: nn.Module, spectrum: reshaping.Spectrum) -> nn.Module:
    """The network as a denoiser of latents, as it is at the end of its run."""
    return reshaping.Reshaped(network, spectrum.last).eval() if spectrum.reshaping.changes_path else network


def card(name: str, record: records.RunRecord) -> str:
    """A model card in Markdown, from the record alone."""
    p, m = record.parameters, record.metrics
    chosen = "\n".join(f"- `{key}`: {value}" for key, value in p.items() if key != "latents")
    source = "\n".join(f"- `{key}`: {value}" for key, value in p["latents"].items())
    kind = _KINDS[denoisers.parse(p["denoiser"])[0].prediction]
    return f"""# {name}

A denoiser `{p["denoiser"]}` {kind}, {m["parameters"]:,.0f} parameters, the averaged weights of
{p["steps"]} steps of {p["batch_size"]} latents; seed {record.seed}, {record.device}, {m["training_time_s"]:.0f} s.
Sample it with `diffusab sample`.

## Latents

{source}

## Settings

{chosen}
"""


def open_denoiser(folder: str | os.PathLike, device: str | torch.device = "cpu") -> Denoiser:
    """A denoiser from the folder that :func:`train_denoiser` wrote; a :class:`DenoiserError` if it holds none."""
    model, config = denoisers.load(folder, device)
    model.requires_grad_(False)
    try:
        shape, names = (config["in_channels"], *config["input_size"]), tuple(config["class_names"])
        mean, std = (torch.tensor(config[f"channel_{name}"]) for name in ("mean", "std"))
        dropped = 0
        if "reshaping" in config:
            spectrum = reshaping.restore(config["reshaping"], shape, device)
            model, dropped = _reshaped(model, spectrum), spectrum.reshaping.white_channels
        return Denoiser(model, shape, names, mean, std, config["latents"], dropped)
    except SettingsError as error:
        raise denoisers.DenoiserError(f"{folder}: {denoisers.CONFIG_FILE}: {error}") from error
    except KeyError as error:
        raise denoisers.DenoiserError(f"{folder}: {denoisers.CONFIG_FILE} lacks {error}") from error


@torch.no_grad()
def generate(
    denoiser: Denoiser,
    autoencoder: Autoencoder,
    sampling: Sampling,
    *,
    world: World | None = None,
    skip: Callable[[range], bool] | None = None,
    advance: Callable[[float], None] | None = None,
) -> Iterator[tuple[range, Tensor, Tensor | None]]:
    """Images batch by batch: their places, ``(N, 3, H, W)`` or clips ``(N, 3, T, H, W)`` in [-1, 1], and classes.

    Every process of ``world`` draws its share of the batches; ``skip`` says whether images at these places are there
    already; ``advance`` is that of :func:`~diffusab_core.methods.denoising.sample_batches`. Another autoencoder than
    that of the latents, see :func:`check_autoencoder`, and what that function refuses are a :class:`SettingsError`.
    """
    check_autoencoder(denoiser, autoencoder)
    world = world or World()
    device = next(autoencoder.parameters()).device
    model, shape, classes = denoiser.model, denoiser.shape, denoiser.num_classes
    shares = {"rank": world.rank, "size": world.size}
    for places, x, y in denoising.sample_batches(model, sampling, shape, classes, skip=skip, advance=advance, **shares):
        z = denoiser.denormalise(x.float()).to(device)
        decode = autoencoder.decode_in_order(places.start)
        images = torch.cat([decode(some).clamp(-1, 1) for some in z.split(_DECODED_AT_ONCE)])
        yield places, images, y


def check_autoencoder(denoiser: Denoiser, autoencoder: Autoencoder) -> None:
    """Refuse another autoencoder than that of the latents, where they say which it was: a :class:`SettingsError`."""
    if autoencoder.latent_channels != (made := denoiser.shape[0] - denoiser.white_channels):
        channels = f"{made} channels, {autoencoder.name} decodes {autoencoder.latent_channels}"
        raise SettingsError(f"the denoiser makes latents of {channels}")
    wanted = denoiser.latents.get("weights")
    if wanted is not None and (found := weights_digest(autoencoder)) != wanted:
        trained = f"{denoiser.latents.get('autoencoder')} (weights {wanted})"
        raise SettingsError(f"the denoiser was trained on latents of {trained}, not of {autoencoder.name} ({found})")
