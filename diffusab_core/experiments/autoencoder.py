"""Autoencoders: measuring what they are, and fine-tuning them as :mod:`diffusab_core.methods.finetuning` says."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from diffusab_core import autoencoders, data, metrics, training
from diffusab_core.autoencoders import Autoencoder, own
from diffusab_core.autoencoders.names import AutoencoderError
from diffusab_core.autoencoders.opening import check_keepable
from diffusab_core.data.open import open_images
from diffusab_core.data.places import WORDS, Choosing
from diffusab_core.data.stores import StoredImages
from diffusab_core.experiments import records
from diffusab_core.experiments.cards import name_distance
from diffusab_core.files import write_text
from diffusab_core.latents.identity import images_found
from diffusab_core.methods import adversarial, finetuning, minildm, regularizers
from diffusab_core.methods.adversarial import Adversary
from diffusab_core.methods.finetuning import Finetuning, LossTerms
from diffusab_core.metrics.perceptual import PerceptualDistance
from diffusab_core.metrics.samples import FEATURES, open_features
from diffusab_core.training.batches import Batches
from diffusab_core.training.world import World, alone

Watch = Callable[[int, dict[str, Any]], None]
PROBE_SEED = 2**40  # of clips to watch a run by; no run has it


@dataclass(frozen=True)
class Evaluation(Choosing):
    """What to measure an autoencoder on.

    Attributes:
        model: Shipped name, diffusers folder, hub id (``PIPELINE:vae`` for one of its folders), single file of weights,
            or your own ``file.py:function``.
        images: A place of images, see ``diffusab profile --help``; ``photos`` are the held-out ones.
        samples: How many images, at most.
        resolution: Side of the square images in pixels.
        block_size: Side of a DCT block in latent pixels.
        cuts: Shares of the latent's frequencies to cut.
        lpips_weights: torchvision's AlexNet weights, which add LPIPS.
        features: Feature network of the reconstruction Fréchet distance: ``offline``, this project's own small
            one, which is not Inception; ``lite0``, ``lite0p64``, ``inception`` or ``dinov2``.
        features_weights: File or folder of Inception's or DINOv2's weights; ``None``: the caches.
        decoder_steps: Steps of a decoder that samples; ``None``: as the model says.
        decoder_guidance: Guidance of such a decoder on the latent, 1 being none; ``None``: as the model says.
        decoder_seed: Seed of its noise; ``None``: 0.
        device: Where to compute.
        seed: Seed of crops.
    """

    model: str
    images: str = "photos"
    samples: int = 64
    resolution: int = 128
    block_size: int = 8
    cuts: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 0.9)
    lpips_weights: str | None = None
    features: str = "offline"
    features_weights: str | None = None
    decoder_steps: int | None = None
    decoder_guidance: float | None = None
    decoder_seed: int | None = None
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("samples", "block_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("seed", "decoder_seed"):
            if (value := getattr(self, name)) is not None and value < 0:
                raise ValueError(f"{name} must be at least 0, got {value}")
        if self.features not in ("none", *FEATURES):
            raise ValueError(f"features must be one of none, {', '.join(FEATURES)}, got {self.features!r}")
        if self.features_weights is not None and self.features in ("none", "offline"):
            raise ValueError(f"features_weights are for another network, not for features={self.features!r}")
        if self.decoder_steps is not None and self.decoder_steps < 1:
            raise ValueError(f"decoder_steps must be at least 1, got {self.decoder_steps}")

    def as_values(self) -> dict[str, Any]:
        """All settings by name, without what of the decoder was not chosen."""
        values = super().as_values()
        return {name: v for name, v in values.items() if v is not None or not name.startswith("decoder_")}

    def decoding_of(self, autoencoder: Autoencoder) -> Autoencoder:
        """The autoencoder, decoding as was chosen; an ``AutoencoderError`` where there is nothing to choose."""
        chosen = {"steps": self.decoder_steps, "guidance": self.decoder_guidance, "seed": self.decoder_seed}
        return autoencoder.with_decoding(**{name: value for name, value in chosen.items() if value is not None})


@torch.no_grad()
def evaluate(settings: Evaluation) -> records.RunRecord:
    """Reconstruction and spectrum: see :func:`diffusab_core.methods.finetuning.examine` and
    :func:`diffusab_core.metrics.cut_curve`; with weights for it, LPIPS; ``reconstruction_frechet_<features>``.

    The Fréchet distance is reported for more images than the network has features (offline 32, Inception 2048,
    DINOv2 1024) and otherwise left out, as the covariances would be singular; the record's notes say so. Distances over
    other images, or another number of them, do not compare. What cannot be opened or used is an error that names it.
    """
    lpips = features = None
    if settings.lpips_weights is not None:
        lpips = metrics.lpips_distance("alex", settings.lpips_weights).to(settings.device)
    if settings.features != "none":
        features = open_features(settings.features, settings.features_weights, settings.device)
    autoencoder = settings.decoding_of(autoencoders.load(settings.model, settings.device, probe=settings.resolution))
    made = {"length": settings.samples} if settings.images in WORDS else {}
    if settings.images == "photos":
        made["split"] = "test"
    images = open_images(settings.images, settings.resolution, seed=settings.seed, **made | settings.choices)
    check_blocks(autoencoder, settings.resolution, settings.block_size)
    autoencoder.latent_shape(settings.resolution, settings.resolution, settings.frames)
    before = len(getattr(images, "skipped", ()))
    images = images.first(settings.samples) if isinstance(images, StoredImages) else images
    x = autoencoder.as_seen(data.stack(images, range(min(settings.samples, len(images)))))
    kind = "images" if settings.frames is None else f"clips of {settings.frames} frames"
    judge = {"lpips_weights": lpips and lpips.weights.name}  # wherever the file lies
    judge["features_weights"] = settings.features_weights and Path(settings.features_weights).name
    run = records.start(
        "evaluate-autoencoder", parameters=records.without_device(settings) | judge, seed=settings.seed, size="laptop",
        data=f"{len(x)} {kind} of {settings.resolution} x {settings.resolution} of {settings.images}",
        device=settings.device,
    )  # fmt: skip
    run.notes = f"perceptual distance: {_describe(lpips)}."
    if broken := getattr(images, "skipped", ())[before:]:
        run.notes += f" {len(broken)} {kind} are broken and left out, the first is {broken[0].name}."
    found = finetuning.examine(autoencoder, x, settings.block_size)
    curve = metrics.cut_curve(autoencoder, x, settings.cuts, settings.block_size)
    points = [(ratio, db) for ratio, db in zip(curve.ratios, curve.latent, strict=True) if math.isfinite(db)]
    if math.isinf(found["psnr_db"]) or len(points) < len(curve.ratios):
        run.notes += " PSNR is left out where it is infinite: some pictures come back bit for bit."
    _keep(run, {name: value for name, value in found.items() if (name, value) != ("psnr_db", math.inf)})
    run.series |= {"cut_ratio": [ratio for ratio, _ in points], "cut_psnr_db": [db for _, db in points]}
    batches = x.to(settings.device).split(16)

    def decode() -> Iterator[Tensor]:
        decode = autoencoder.decode_in_order()
        return (decode(autoencoder.encode(batch).mean) for batch in batches)

    if lpips is not None:
        each = [metrics.lpips_per_image(y, batch, lpips) for y, batch in zip(decode(), batches, strict=True)]
        run.metrics["lpips_alex"] = torch.cat(each).mean().item()
    if features is not None:
        name, d = f"reconstruction_frechet_{settings.features}", features.dimensions
        # An image network sees the frames of clips one by one.
        count, kind = len(x) * (settings.frames or 1), "images" if settings.frames is None else "frames"
        if count > d:
            frames, decoded = map(data.unroll, batches), map(data.unroll, decode())
            run.metrics[name] = metrics.reconstruction_frechet_distance(frames, decoded, features)
            weights = f", weights {features.digest}, not Inception" if settings.features == "offline" else ""
            run.notes += f" {name} is over {count} {kind} and {d} features{weights}."
        else:
            run.notes += f" {name} is left out: {d} features need more than {d} {kind}, got {count}."
    return run.finish()


def _keep(run: records.Run, found: dict[str, Any], prefix: str = "") -> None:
    """What :func:`diffusab_core.methods.finetuning.examine` found: numbers as metrics, curves as series."""
    run.metrics |= {prefix + key: value for key, value in found.items() if isinstance(value, float)}
    run.series |= {prefix + key: value for key, value in found.items() if isinstance(value, list)}


def _describe(network: PerceptualDistance | None) -> str:
    if network is None:
        return "none"
    return f"{network.label}, backbone {network.weights.name}, sha256 {network.digest}"


@dataclass(frozen=True)
class Finetuned:
    """A finished run: the autoencoder with the averaged weights, and its record.

    The metrics hold what :func:`diffusab_core.methods.finetuning.examine` found before and after, the series losses and
    snapshots of the weights of their step: ``snapshot_<number>`` with ``snapshot_step``, and for step K the profile
    ``snapshot_profile_K``.
    """

    autoencoder: Autoencoder
    record: records.RunRecord


def finetune(
    settings: Finetuning,
    out: str | os.PathLike | None = None,
    *,
    size: records.Size = "laptop",
    autoencoder: Autoencoder | None = None,
    dataset: Dataset | None = None,
    probe: Tensor | None = None,
    perceptual_weights: str | os.PathLike | None = None,
    workers: int = 0,
    checkpoint_every: int = 100,
    snapshots: int = 10,
    log_every: int = 10,
    record_name: str = "record.json",
    watch: Watch | None = None,
    progress: bool = True,
) -> Finetuned:
    """Fine-tune an autoencoder and, with ``out``, keep it as a diffusers folder with its card, record and logs.

    The same call goes on where an earlier one was cut off, and only reads back what is finished. A
    :class:`CheckpointError` says how the run in ``out`` is another one, :class:`TrainingDiverged` names step and
    samples and leaves the last good checkpoint, and a model or weights that cannot be opened are an error of theirs.

    Args:
        out: Folder for the result; its ``training/`` holds the checkpoint and TensorBoard's logs.
        autoencoder: What to fine-tune instead of what ``settings.model`` opens, which then only names it; it is trained
            in place.
        dataset: What to train on instead of what ``settings.images`` opens, which then only names it.
        probe: Images ``(N, 3, H, W)``, or clips, on which spectrum and reconstruction are watched; by default 64 crops,
            of :func:`probe_side` pixels, of the photographs that nothing here is trained on, and with ``frames`` 8
            clips of moving leaves that no run is trained on.
        perceptual_weights: See :func:`diffusab_core.metrics.open_perceptual`.
        workers: Processes that read images ahead.
        record_name: File in ``out`` for the record, which is written last, as the sign that all is there.
        watch: See :func:`diffusab_core.training.train`, and :func:`add_pictures`.
    """
    alone(settings.device)  # refuses torchrun before anything is opened
    distance = finetuning.distance_of(settings, perceptual_weights)
    network = distance.keywords["perceptual"] if isinstance(distance, partial) else None
    if autoencoder is None:
        autoencoder = autoencoders.load(settings.model, settings.device, probe=settings.resolution)
    if probe is None:
        probe = _draw_probe(probe_side(autoencoder, settings.block_size), settings.frames)
    parameters = settings.identify()
    chosen = {"parameters": parameters, "seed": settings.seed, "size": size, "data": settings.images}
    run = records.start("finetune-autoencoder", device=settings.device, **chosen)
    run.notes = f"perceptual loss: {_describe(network)}."
    folder = Path(out) if out is not None else None
    if record := records.read_back(folder, run, record_name):
        return Finetuned(autoencoders.load(str(folder), settings.device, probe=settings.resolution), record)
    if folder is not None:
        check_keepable(autoencoder)
    # Refuses a size before anything runs.
    autoencoder.latent_shape(settings.resolution, settings.resolution, settings.frames)
    with torch.no_grad():
        divergences = [name for name in ("kl_weight", "minildm_weight") if getattr(settings, name)]
        if divergences and not autoencoder.encode(probe[:1].to(settings.device)).std.any():
            raise AutoencoderError(f"{settings.model} is deterministic, its KL is infinite: {divergences[0]} must be 0")
    if settings.fresh:
        finetuning.redraw(autoencoder, settings.seed)
    run.metrics["trainable_parameters"] = finetuning.freeze(autoencoder, settings)
    dataset = _dataset(settings) if dataset is None else dataset
    batches, stills = _batch(dataset, settings, settings.batch_size, workers), None
    known = parameters | seen(dataset) | ({"lpips": network.digest} if network is not None else {})
    if settings.still_batch:
        stills = _batch(_open_stills(settings), settings, settings.still_batch, workers)
        known |= {f"still_{name}": value for name, value in seen(stills.dataset).items()}
    before = metrics.measure_material(autoencoder, probe, settings.block_size) if asks_for_detail(settings) else {}
    module, others, adversary = autoencoder.module.train(), {}, None
    if settings.adversarial_weight:
        discriminator = adversarial.PatchDiscriminator(settings.discriminator_layers, seed=settings.seed)
        others["discriminator"] = discriminator.to(settings.device)
        adversary = Adversary(discriminator, settings.adversarial_weight, adversarial.last_weight(autoencoder))
    if settings.minildm_weight:
        shape = autoencoder.latent_shape(settings.resolution, settings.resolution, settings.frames)
        others["minildm"] = minildm.build(settings.minildm_denoiser, shape, settings.seed).to(settings.device)
    for name, other in others.items():
        run.metrics[f"{name}_parameters"] = sum(p.numel() for p in other.parameters())
    module = adversarial.Together(module, **others) if others else module
    with records.logs(folder) as on_log:
        trained = training.train(
            module,
            loss_of(autoencoder, settings, distance, batches, adversary, others.get("minildm"), stills),
            settings.training,
            checkpoint=folder / "training" / "checkpoints" if folder else None,
            checkpoint_every=checkpoint_every,
            identity=known,
            log_every=log_every,
            on_log=on_log,
            watch=add_pictures(watch, autoencoder, probe),
            snapshot=partial(finetuning.examine, autoencoder, probe, settings.block_size),
            snapshot_every=max(1, settings.steps // max(1, snapshots)),
            samples=batches.describe,
            progress=progress,
        )
    average = adversarial.Together.of_autoencoder(trained.ema) if others else trained.ema
    autoencoder.module.load_state_dict(average)
    autoencoder.module.eval().requires_grad_(False)

    numbers = [key for key, value in trained.snapshots[0].items() if isinstance(value, int | float)]
    run.series = trained.series | {f"snapshot_{key}": [shot[key] for shot in trained.snapshots] for key in numbers}
    run.series |= {f"snapshot_profile_{shot['step']}": shot["profile"] for shot in trained.snapshots}
    run.metrics |= {"training_time_s": trained.wall_time_s, "probe_images": len(probe)}
    _keep(run, trained.snapshots[0], "before_")
    _keep(run, finetuning.examine(autoencoder, probe, settings.block_size), "after_")
    if before:
        run.metrics |= {f"before_{key}": value for key, value in before.items()}
        after = metrics.measure_material(autoencoder, probe, settings.block_size)
        run.metrics |= {f"after_{key}": value for key, value in after.items()}
    if (settings.wanted_share, settings.wanted_detail) != (None, None):
        run.metrics["reached"] = float(reached(settings, run.metrics))
    record = run.finish()
    if folder is not None:
        if hasattr(autoencoder.module, "register_to_config"):
            autoencoder.module.register_to_config(_name_or_path=settings.model)  # not the folder it was opened from
        autoencoders.save(autoencoder, folder)
        write_text(folder / "README.md", card(folder.resolve().name, record, diffusers=not own.is_kept(folder)))
        record.write(folder / record_name)
    return Finetuned(autoencoder, record)


def check_blocks(autoencoder: Autoencoder, resolution: int, block_size: int) -> None:
    """An ``AutoencoderError`` that names a resolution which fits, where blocks do not divide the latents."""
    step = autoencoder.compression * block_size
    if resolution % step:
        why = f"{autoencoder.name} compresses {autoencoder.compression} x {autoencoder.compression}, so that blocks of "
        why += f"{block_size} x {block_size} latent pixels fit images of a multiple of {step} pixels, not {resolution}"
        raise AutoencoderError(f"{why}: choose --resolution {max(1, round(resolution / step)) * step} or --block-size")


def probe_side(autoencoder: Autoencoder, block_size: int) -> int:
    """Side in pixels of the images that a model is watched on: 128, or the next of which blocks fit the latents."""
    if autoencoder.family.side is not None:
        return autoencoder.family.side(autoencoder.module)
    step = autoencoder.compression * block_size
    return -(-128 // step) * step


def _draw_probe(side: int, frames: int | None) -> Tensor:
    if frames is None:
        return data.stack(data.Photos(side, "test", seed=0, length=64), range(64))
    return data.stack(data.LeafClips(side, PROBE_SEED, length=8, labels=False, frames=frames), range(8))


def add_pictures(watch: Watch | None, autoencoder: Autoencoder, probe: Tensor, count: int = 8) -> Watch | None:
    """A watch that sees with every snapshot what the weights make of the first probe images, as ``reconstructions``.

    They are the weights of the moment, also where a run that goes on tells of an earlier snapshot.
    """
    if watch is None:
        return None

    @torch.no_grad()
    def seeing(step: int, values: dict[str, Any]) -> None:
        if "profile" in values:
            module = autoencoder.module
            was_training = module.training
            module.eval()
            decoded = autoencoder.decode(autoencoder.encode(autoencoder.place(probe[:count])).mean)
            decoded = decoded[:, :, decoded.shape[2] // 2] if decoded.ndim == 5 else decoded  # of clips the middle
            module.train(was_training)
            values = values | {"reconstructions": decoded.float().cpu()}
        watch(step, values)

    return seeing


def asks_for_detail(settings: Finetuning) -> bool:
    """Whether a run's record tells of the picture's detail too, see :func:`diffusab_core.metrics.measure_material`."""
    rule = (settings.wanted_share, settings.wanted_detail) != (None, None)
    return bool(rule or settings.whitening_weight or settings.log_dct_weight)


def reached(settings: Finetuning, measured: dict[str, float]) -> bool:
    """The stop rule: whether latents and pictures are as was wanted, at no more loss of PSNR than was allowed."""
    found = (measured["after_hf_share"], measured["after_high_frequency_kept"])
    wanted = (settings.wanted_share, settings.wanted_detail)
    lost = measured["before_psnr_db"] - measured["after_psnr_db"]
    return all(w is None or f >= w for f, w in zip(found, wanted, strict=True)) and lost <= settings.psnr_within


def _dataset(settings: Finetuning) -> Dataset:
    # Of what is made on demand, as many as the run takes: no picture is seen twice.
    more = {"length": settings.steps * settings.batch_size} if settings.images in WORDS else {"replace": True}
    more |= settings.choices
    return open_images(settings.images, settings.resolution, crop="random", seed=settings.seed, **more)


def _batch(dataset: Dataset, settings: Finetuning, size: int, workers: int) -> Batches:
    return Batches(dataset, size, settings.seed, settings.steps, workers, settings.device)


def _open_stills(settings: Finetuning) -> Dataset:
    """What is encoded beside clips: images, or clips of one frame, other ones than the clips' own first frames."""
    own = {"frames": 1} if settings.still_images is None else {}
    where = settings.images if settings.still_images is None else settings.still_images
    more = {"length": settings.steps * settings.still_batch} if where in WORDS else {"replace": True}
    return open_images(where, settings.resolution, crop="random", seed=2**32 + settings.seed, **own, **more)


def seen(images: Dataset, world: World | None = None) -> dict[str, str]:
    """What stored images are, for a checkpoint; settings alone say what photographs and leaves are."""
    images = images.images if isinstance(images, data.Pool) else images
    return {"images_found": images_found(images, world)} if isinstance(images, StoredImages) else {}


def loss_of(
    autoencoder: Autoencoder,
    settings: Finetuning,
    distance: regularizers.Distance,
    batches: Batches,
    adversary: Adversary | None = None,
    mini: nn.Module | None = None,
    stills: Batches | None = None,
) -> training.LossFn:
    """:func:`diffusab_core.methods.finetuning.loss_terms` on batches, for :func:`diffusab_core.training.train`.

    With ``stills``, images beside clips, a term is the mean of the clips' and the images': how the paper weighs its
    batches of 32 clips and 64 images it does not say.
    """
    device = torch.device(settings.device)

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, LossTerms]:
        x = batches(step).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            opponent = [adversary] if adversary is not None and step >= settings.start else []
            small = {"mini": mini} if mini is not None else {}
            terms = finetuning.loss_terms(autoencoder, x, settings, distance, generator, *opponent, **small)
            if stills is not None:
                x = data.unroll(stills(step).to(device))
                beside = finetuning.loss_terms(autoencoder, x, settings, distance, generator, *opponent)
                terms = {name: (term + beside[name]) / 2 for name, term in terms.items()}
        return torch.stack(list(terms.values())).sum(), {name: term.detach() for name, term in terms.items()}

    return loss


def card(name: str, record: records.RunRecord, *, diffusers: bool = True) -> str:
    """A model card in Markdown, from the record alone; it names diffusers unless the model is one's own."""
    p, m = record.parameters, record.metrics
    perceptual = "no perceptual loss" if p["perceptual"] == "none" else name_distance(p["perceptual"])
    rows = {"PSNR, dB": ("psnr_db", ".2f"), "SSIM": ("ssim", ".4f"),
            "high-frequency energy ratio of the latents": ("hf_energy_ratio", ".5f"),
            "high-frequency share of the energy outside D00": ("hf_share", ".4f")}  # fmt: skip
    table = "\n".join(f"| {row} | {m['before_' + k]:{f}} | {m['after_' + k]:{f}} |" for row, (k, f) in rows.items())
    if p["alpha"] is None and p["method"] in finetuning.PAPERS_ALPHA:
        p = p | {"alpha": f"{finetuning.PAPERS_ALPHA[p['method']]:g}, the paper's"}
    chosen = "\n".join(f"- `{key}`: {value}" for key, value in p.items())
    front = f"---\nlibrary_name: diffusers\nbase_model: {p['model']}\n---\n\n" if diffusers else ""
    return f"""{front}# {name}

`{p["model"]}`, fine-tuned with method `{p["method"]}` for {p["steps"]} steps, {perceptual}; seed {record.seed},
{record.device}, {m["training_time_s"]:.0f} s. {m["trainable_parameters"]:.0f} parameters were trained.

| measured on {m["probe_images"]:.0f} probe {"clips" if p.get("frames") else "images"} | before | after |
|---|---|---|
{table}

The licence is that of the model it was made from.

## Settings

{chosen}
"""
