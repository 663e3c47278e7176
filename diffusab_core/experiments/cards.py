"""What the card of an autoencoder that was trained from random weights says of it, from its record."""

from __future__ import annotations

import textwrap
from typing import Any

from diffusab_core import data
from diffusab_core.autoencoders import Autoencoder
from diffusab_core.experiments import records
from diffusab_core.methods import adversarial

EVALUATION_SEED = 1  #: Of the fixed crops that every number in a card is measured on; training seeds are free to vary
MIXTURE = "mixture"  #: Of dead leaves and photographs, see :class:`~.pretraining.Pretraining`


def describe_images(images: str, resolution: int, frames: int | None = None) -> str:
    """The training images in words, for a record."""
    if frames is not None:
        what = "moving dead leaves" if images == "leaves" else images
        return f"clips of {frames} frames of {what}, {resolution} x {resolution}"
    if images == "photos":
        of = f"the photographs {', '.join(data.photo_names('train'))} from scikit-image and scikit-learn"
        return f"random {resolution} x {resolution} crops, at random scale and flipped at random, of {of}"
    names = {"leaves": "dead leaves", MIXTURE: "dead leaves and crops of the training photographs, half of each"}
    return f"{names.get(images, images)}, {resolution} x {resolution}"


def name_distance(network: str) -> str:
    """A perceptual distance by its setting, in words."""
    return "HED" if network == "hed" else f"LPIPS ({network})"


def _describe_decoder(record: records.RunRecord) -> str:
    """A sentence on the decoder for the card; none for a Gaussian one."""
    p, m = record.parameters, record.metrics
    kind = p.get("decoder", "gaussian")
    if kind == "gaussian":
        return ""
    macs = f"{m['decoder_macs'] / 1e6:.1f} million multiply-accumulates for a picture of {p['resolution']} pixels"
    size = f"{m['decoder_parameters']:.0f} of the parameters are the decoder's; decoding takes {macs}."
    if kind == "gan":
        return f" {size}"
    steps = 1 if p["distillation_steps"] else p["decoder_steps"]
    return (
        f" Its decoder, {p['decoder_network']}, is a flow model that samples, by default in {steps} "
        f"{'step' if steps == 1 else 'steps'}: a picture depends on the seed too. {size}"
    )


def _describe_flow(p: dict[str, Any]) -> str | None:
    """The loss of a diffusion decoder in words, from a record's parameters; ``None`` for the others."""
    if p.get("decoder") != "diffusion":
        return None
    text = f"the squared error of the velocity at {'uniform' if p['time_scale'] is None else 'logit-normal'} times"
    if (network := p.get("perceptual", "none")) != "none":
        label = name_distance(network)
        few = f", on {crops} crops of a batch" if (crops := p.get("perceptual_crops")) else ""
        text += f" + {p.get('perceptual_weight', 1.0):g} x {label} of the one-step estimate{few},"
    return f"{text} + {p['kl_weight']:g} x KL, the KL averaged over channels and positions"


def _describe_rest(p: dict[str, Any]) -> str:
    """What else there is, or is not, to a decoder's loss, in words."""
    if p.get("decoder") == "gan":
        start = adversarial.first_step(p["adversarial_start"], p["steps"])
        return (
            f"After {start} steps the adversarial loss of a patch discriminator of {p['discriminator_layers']} layers "
            f"comes in, {p['adversarial_weight']:g} times as strong at the decoder's last layer as the others."
        )
    if p.get("decoder") == "diffusion":
        more = f" Distilled to one step in {p['distillation_steps']} more." if p["distillation_steps"] else ""
        return f"The decoder does not see {p['z_dropout']:.0%} of the latents.{more}"
    return "There is no adversarial term."


def describe_normalisation(autoencoder: Autoencoder) -> str:
    """What makes this model's latents standard, as its card says it."""
    shift, factor = (autoencoder.module.config[key] for key in ("shift_factor", "scaling_factor"))
    return f"(z {'+' if shift < 0 else '-'} {abs(shift):.4f}) x {factor:.4f}"


def list_terms() -> str:
    """The terms of the training photographs, as a list in Markdown."""
    return "\n".join(f"- `{name}`: {data.PHOTOGRAPHS[name].licence}" for name in data.photo_names("train"))


#: What a card says of a record with these numbers: the row's name and its format.
MATERIAL_ROWS = {
    "colour_error": ("mean colour error, levels of 255", ".2f"),
    "high_frequency_kept": ("energy at ranks 32 to 63 of the picture that is kept", ".3f"),
    "high_frequency_explained": ("the part of that energy that is explained", ".3f"),
    "latent_slope": ("slope of the latents' spectrum, 8 x 8 blocks", ".2f"),
    "latent_share": ("high-frequency share of the latents' energy outside D00", ".3f"),
    "latent_rank": ("rank of the covariance of the latents' channels", ".0f"),
    "latent_effective_rank": ("its effective rank", ".1f"),
}


def _describe_loss(p: dict[str, Any]) -> str:
    terms = [f"{p.get('mse_weight', 1.0):g} x MSE" if p.get("mse_weight", 1.0) != 1 else "MSE"]
    terms += [f"{p['l1_weight']:g} x L1, both in [-1, 1],"]
    if p.get("quantizer") == "vq":
        terms += ["the codebook's loss (both of its terms are averages, the commitment's 1 and the codes' 0.25)"]
    elif p.get("quantizer") != "fsq" and p.get("family", "kl") != "dc":
        terms += [f"{p['kl_weight']:g} x KL, the KL averaged over channels and positions"]
    if (network := p.get("perceptual", "none")) != "none":
        few = f", the latter on {crops} crops of a batch" if (crops := p.get("perceptual_crops")) else ""
        label = name_distance(network)
        terms += [f"{p.get('perceptual_weight', 1.0):g} x {label}{few}"]
    if p.get("log_dct_weight"):
        terms += [f"{p['log_dct_weight']:g} x the distance of logarithmic spectra"]
    return " + ".join(terms).rstrip(",")


def card(
    name: str, record: records.RunRecord, autoencoder: Autoencoder, made_by: str = "", about_images: str = ""
) -> str:
    """The model card, in Markdown, from the record.

    Args:
        made_by: What made it, in Markdown, such as a command.
        about_images: What stored images are and their terms, in Markdown.
    """
    m, p = record.metrics, record.parameters
    family, measured_on = p.get("family", "kl"), p.get("held_out", "photos")
    rows = {
        "PSNR, dB": ("psnr_db", ".2f"),
        "high-frequency energy ratio of the latents, 8 x 8 blocks": ("latent_high_frequency_energy_ratio", ".5f"),
        "the same of RGB in [0, 1] at latent size": ("rgb_high_frequency_energy_ratio", ".5f"),
        "mean posterior standard deviation": ("posterior_std", ".4f"),
    }
    quantizer = p.get("quantizer", "none")
    point = family == "dc" or quantizer != "none"
    if point:
        del rows["mean posterior standard deviation"]
    seen = "clips" if p.get("frames") else "photographs"
    table = [f"| | training {seen} | held-out {seen} |", "|---|---|---|"]
    table += [f"| {row} | {m['train_' + key]:{f}} | {m['held_out_' + key]:{f}} |" for row, (key, f) in rows.items()]
    table += [f"| {row} | | {m[k]:{f}} |" for key, (row, f) in MATERIAL_ROWS.items() if (k := f"held_out_{key}") in m]
    f, narrow = 2 ** (len(p["channels"]) - 1), p["latent_channels"] > p["channels"][-1]
    folds, pieces = f"{f} x {f}", "crops"
    if p.get("frames"):
        folds, pieces = f"4 x {folds}", "clips"  # in time after the first frame
    limits = f"Trained on {len(data.photo_names('train'))} photographs: good enough to study spectra with, not to "
    limits = f"{limits}compress pictures with." if p["images"] == "photos" else "A small model: for studying spectra."
    if narrow:
        limits += (
            f" The latent's {p['latent_channels']} channels are one convolution of {p['channels'][-1]} feature maps, "
            "so they hold less than as many channels of a wide model would."
        )
    opens = f'It opens with `diffusab_core.autoencoders.load("{name}")`'
    kinds = {"dc": "AutoencoderDC", "cogvideox": "AutoencoderKLCogVideoX"}
    kind = kinds.get(family, "AutoencoderKL" if quantizer == "none" else "VQModel")
    changed = p["blurred"] or p.get("gain_control") or quantizer == "fsq"
    of_diffusers = p.get("decoder") != "diffusion" and not changed
    opens += f" and with `diffusers.{kind}.from_pretrained(folder)`." if of_diffusers else "."
    if p["blurred"]:
        opens += " Its encoder blurs before it samples, which diffusers alone does not know how to open."
    if sigma := p.get("gain_control"):
        opens += (
            f" Local contrast gain control over {sigma:g} pixels stands in front of its encoder, which diffusers alone "
            "does not know how to open."
        )
    if quantizer == "vq":
        opens += f" Each latent pixel is decoded as the nearest of {p.get('codebook', 1024)} codes."
    elif quantizer == "fsq":
        levels = " x ".join(map(str, p.get("levels", (8, 5, 5, 5))))
        opens += (
            f" Each latent pixel is decoded as one of {levels} codes (FSQ), which diffusers alone does not know how to "
            "open."
        )
    if p["images"] in ("photos", "leaves", MIXTURE):  # leaves have textures and colours of the photographs
        about_data = (
            "`coffee` and `china` were never trained on; every held-out number is measured on them. Greyscale, "
            "astronomical and medical images in scikit-image are left out: their spectra and colours are not those of "
            "everyday photographs."
        )
        terms, photographs, licence = "Terms of the training photographs:", "PHOTOGRAPHS", "MIT, as the package."
    else:
        where = f"the held-out images of {measured_on}, of which none was trained on"
        shipped = "photographs that come with scikit-image and scikit-learn"
        about_data = f"Every number below is measured on {shipped if measured_on == 'photos' else where}."
        terms, photographs, licence = "The images' terms are those of whoever gave them.", "", "As the images allow."
        if about_images:
            terms, licence = about_images, "MIT, as the package, for the weights; the photographs keep their own terms."
    crops = f"`data.Photos({p['evaluation_resolution']}, split, seed={EVALUATION_SEED})`"
    if measured_on != "photos":
        crops = f"{p['evaluation_resolution']} x {p['evaluation_resolution']}, at random scale"
    without = _describe_rest(p)
    if p.get("perceptual", "none") == "none" and p.get("decoder") is None:
        needs = "see `--perceptual hed`" if family == "dc" else "their networks need a download"
        without = f"There is no perceptual and no adversarial term ({needs}), so fine texture is smoothed."
    kinds = {"dc": "deep-compression", "cogvideox": "causal KL"}
    a_kind = kinds.get(family, "KL" if quantizer == "none" else "quantised")
    normalised_by = "latents" if point else "posterior samples"
    decoding = "" if point else ", decoding the posterior's mean"
    paragraphs = textwrap.dedent(f"""\
        A small {a_kind} autoencoder for teaching and for fast experiments with latent spectra: compression {folds},
        {p["latent_channels"]} latent channels, {m["parameters"]:.0f} parameters, stored in
        {"half" if p["half"] else "single"} precision. {opens}{_describe_decoder(record)}

        ## Data

        {record.data[0].upper() + record.data[1:]}. {about_data}

        {terms}

        {photographs}

        ## Recipe

        Loss: {_describe_flow(p) or _describe_loss(p)}. {without}

        AdamW, betas (0.9, 0.99), weight decay 0.01; {p["steps"]} steps of {p["batch_size"]} {pieces} of
        {p["resolution"]} x {p["resolution"]}; learning rate {p["learning_rate"]:g} after {p["warmup"]} steps of
        warm-up, then a cosine to 0; gradient clip {p["clip"]:g}. The weights are the exponential moving average with a
        half-life of {p["ema_half_life"]:g} steps.

        Seed {record.seed}. Device: {record.device}; {m["training_time_s"] / 60:.0f} minutes of training. {made_by}
        Everything else is in the run record beside this card.

        ## Measured

        On {p["evaluation_crops"]} fixed crops of each split ({crops}), with the stored weights run in
        float32{decoding}:

        TABLE

        Normalise latents as {describe_normalisation(autoencoder)}: mean and inverse standard deviation of
        {normalised_by} of {p["statistics_crops"]} training images.

        ## Limits

        {limits}

        ## Licence

        {licence}
        """).split("\n\n")
    written = [s for s in paragraphs if s.strip()]
    filled = [s if s.startswith("#") else textwrap.fill(s, 118, break_on_hyphens=False) for s in written]
    body = "\n\n".join(filled).replace("PHOTOGRAPHS", list_terms()).replace("TABLE", "\n".join(table))
    head = "license: mit\n" if photographs or about_images else ""
    return f"---\n{head}library_name: diffusers\n---\n\n# {name}\n\n{body}\n"
