"""The explorer over decoders shows what each of them makes of its own cut latent."""

import pytest
import torch

from diffusab_book.explorers import finetuned
from diffusab_core import autoencoders, data, metrics, spectrum
from diffusab_core.spectrum.bands import keep_latent_frequencies

IMAGE = data.photo("coffee")[:, 96:192, 192:288]  # (3, 96, 96)


@pytest.fixture(scope="module")
def models():
    names = {"one": "kl-f4c16", "other": "kl-f4c16-beta0"}
    return {shown: autoencoders.load(name) for shown, name in names.items()}


def titles(figure):
    return [annotation.text for annotation in figure.layout.annotations]


def test_each_decoder_has_its_own_latent(models):
    figure = finetuned.decoders_explorer(IMAGE, models).draw(share=0.3)
    for i, (name, autoencoder) in enumerate(models.items()):
        with torch.no_grad():
            z = spectrum.chop_high_frequencies(autoencoder.encode(IMAGE[None]).mean, 0.7)
            db = metrics.psnr(autoencoder.decode(z), IMAGE[None]).item()
        assert titles(figure)[i] == f"{name}<br>{db:.1f} dB"
        curve = next(trace for trace in figure.data if trace.name == name)
        assert curve.y[finetuned.SHARES.index(0.3)] == pytest.approx(db, abs=0.006)
    assert len({trace.y for trace in figure.data if trace.name in models}) == len(models)


def test_uncut_is_the_plain_reconstruction_and_the_image_has_the_latents_frequencies(models):
    figure = finetuned.decoders_explorer(IMAGE, models).draw(share=1.0)
    with torch.no_grad():
        y = models["one"].decode(models["one"].encode(IMAGE[None]).mean)
    assert titles(figure)[0] == f"one<br>{metrics.psnr(y, IMAGE[None]).item():.1f} dB"
    own = next(trace for trace in figure.data if trace.name == "image, same frequencies")
    for y, share in zip(own.y, finetuned.SHARES, strict=True):
        kept = keep_latent_frequencies(IMAGE[None], 4, 1 - share)
        assert y == pytest.approx(metrics.psnr(kept, IMAGE[None]).item(), abs=0.006)


def test_published_page_stays_small(models):
    three = {**models, "third": models["one"]}
    full_size = data.photo("coffee")[:, 96:288, 192:384]
    published = finetuned.decoders_explorer(full_size, three).published()
    assert len(published.frames) == len(finetuned.SHARES)
    assert len(published.to_json()) < 500_000


def test_autoencoders_of_different_compression_are_refused(models):
    with pytest.raises(ValueError, match=r"one compression, got .*'f8': 8"):
        finetuned.decoders_explorer(IMAGE, {**models, "f8": autoencoders.load("kl-f8c16")})
    with pytest.raises(ValueError, match="one compression"):
        finetuned.decoders_explorer(IMAGE, {})
