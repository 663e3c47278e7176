import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKL
from huggingface_hub import errors as hub_errors

from diffusab_core import data, metrics
from diffusab_core.autoencoders import (
    CATALOGUE,
    SHIPPED,
    WEIGHTS,
    Autoencoder,
    AutoencoderError,
    Posterior,
    load,
    opening,
)
from diffusab_core.experiments import records

SMALL = {
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "block_out_channels": (8, 8, 8),
    "layers_per_block": 1,
    "latent_channels": 5,
    "norm_num_groups": 4,
    "scaling_factor": 0.5,
    "shift_factor": 0.25,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "mine"
    AutoencoderKL(**SMALL).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def shipped():
    return load("kl-f4c16")


@pytest.fixture(scope="module")
def held_out():
    """The fixed crops that the card's numbers are measured on."""
    return data.stack(data.Photos(64, "test", seed=1, length=256), range(256))


# ---------------------------------------------------------------------------------------------------------------------
# The face


def test_posterior_samples_have_its_mean_and_spread_and_follow_the_generator():
    posterior = Posterior(torch.full((1, 4, 64, 64), 3.0), torch.full((1, 4, 64, 64), 0.5))
    z = posterior.sample(torch.Generator().manual_seed(0))
    assert z.mean().item() == pytest.approx(3.0, abs=0.02)
    assert z.std().item() == pytest.approx(0.5, abs=0.02)
    assert torch.equal(z, posterior.sample(torch.Generator().manual_seed(0)))
    assert not torch.equal(z, posterior.sample(torch.Generator().manual_seed(1)))


def test_face_agrees_with_the_diffusers_class(folder):
    autoencoder, plain = load(folder), AutoencoderKL.from_pretrained(folder).eval()
    x = data.stack(data.Photos(32), range(2))
    with torch.no_grad():
        posterior, expected = autoencoder.encode(x), plain.encode(x).latent_dist
        assert torch.equal(posterior.mean, expected.mean)
        assert torch.equal(posterior.std, expected.std)
        assert torch.equal(autoencoder.decode(posterior.mean), plain.decode(expected.mean).sample)
    assert autoencoder.name == "mine"
    assert (autoencoder.compression, autoencoder.latent_channels) == (4, 5)
    assert autoencoder.latent_shape(32, 64) == (5, 8, 16)
    assert posterior.mean.shape == (2, 5, 8, 8)
    assert not autoencoder.module.training
    assert sum(p.numel() for p in autoencoder.parameters()) == plain.num_parameters()


def test_normalisation_uses_the_configuration(folder):
    autoencoder = load(folder)
    z = torch.randn(2, 5, 4, 4)
    torch.testing.assert_close(autoencoder.normalise(z), (z - 0.25) * 0.5)
    torch.testing.assert_close(autoencoder.denormalise(autoencoder.normalise(z)), z)
    plain = Autoencoder("no shift", AutoencoderKL(**(SMALL | {"shift_factor": None})))
    torch.testing.assert_close(plain.normalise(z), z * 0.5)
    torch.testing.assert_close(plain.denormalise(plain.normalise(z)), z)


def test_gradients_pass_through_encoder_and_decoder(folder):
    autoencoder = load(folder)
    x = data.stack(data.Photos(16), range(1))
    autoencoder.decode(autoencoder.encode(x).sample()).square().mean().backward()
    assert all(p.grad is not None for p in autoencoder.parameters())


def test_precision(folder):
    assert load(folder, dtype=torch.bfloat16).module.dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32)])
def test_encode_refuses_what_is_not_a_batch_of_rgb(folder, shape):
    with pytest.raises(ValueError, match=r"\(N, 3, H, W\), got shape"):
        load(folder).encode(torch.zeros(shape))


def test_sides_have_to_be_multiples_of_the_compression(folder):
    with pytest.raises(ValueError, match="multiples of 4, got 30 x 32"):
        load(folder).encode(torch.zeros(1, 3, 30, 32))
    with pytest.raises(ValueError, match=r"\(N, 5, h, w\)"):
        load(folder).decode(torch.zeros(1, 4, 8, 8))


# ---------------------------------------------------------------------------------------------------------------------
# Loading


def test_unknown_name_lists_the_shipped_ones_and_the_other_ways():
    with pytest.raises(AutoencoderError, match=r"'kl-f8' \(did you mean kl-f8c4\?\).*local folder.*hub.*kl-f4c16"):
        load("kl-f8")
    with pytest.raises(AutoencoderError, match="not a local folder"):
        load("/no/such/folder")


def test_a_folder_that_is_spelled_almost_as_asked_is_named(folder, monkeypatch):
    with pytest.raises(AutoencoderError, match=rf"\(did you mean {folder}\?\)"):
        load(f"{folder}s")
    monkeypatch.chdir(folder.parent)
    with pytest.raises(AutoencoderError, match=rf"'{folder.name}s' \(did you mean {folder.name}\?\)"):
        load(f"{folder.name}s")


def test_folder_without_config(tmp_path, folder):
    with pytest.raises(AutoencoderError, match=r"no config\.json"):
        load(tmp_path)
    shutil.copytree(folder, tmp_path / "vae")
    with pytest.raises(AutoencoderError, match=r"name one of its folders: .*:vae"):
        load(tmp_path)
    assert load(tmp_path, subfolder="vae").latent_channels == 5


def test_pickled_weights_are_never_opened(tmp_path, folder):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was executed",))

    shutil.copy(folder / "config.json", tmp_path)
    torch.save({"weight": Bomb()}, tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises(AutoencoderError, match=r"diffusion_pytorch_model\.bin.*never loaded"):
        load(tmp_path)


def test_broken_folders_are_explained(tmp_path, folder):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    weights = copy / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()

    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AutoencoderError, match="is damaged or cut off"):
        load(copy)

    from safetensors.torch import load_file, save_file

    state = load_file(folder / weights.name)
    state.pop("decoder.conv_out.bias")
    save_file(state, weights, metadata={"format": "pt"})
    with pytest.raises(AutoencoderError, match=r"lack 1 tensors, the first is decoder\.conv_out\.bias"):
        load(copy)

    weights.unlink()
    with pytest.raises(AutoencoderError, match="no weights"):
        load(copy)
    (copy / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(AutoencoderError, match=r"'UNet2DModel' is not supported, only .*AutoencoderKL"):
        load(copy)
    (copy / "config.json").write_text("{")
    with pytest.raises(AutoencoderError, match=r"config\.json cannot be read"):
        load(copy)


def hub_error(kind):
    if issubclass(kind, hub_errors.HfHubHTTPError):
        return kind("told by the hub", response=SimpleNamespace(headers={}, status_code=404, request=None))
    return kind("told by the hub")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (hub_errors.LocalEntryNotFoundError, "cannot be reached"),
        (hub_errors.OfflineModeIsEnabled, "cannot be reached"),
        (ConnectionError, "cannot be reached"),
        (hub_errors.RepositoryNotFoundError, "no public repository"),
        (hub_errors.GatedRepoError, "terms"),
        (hub_errors.RemoteEntryNotFoundError, "somebody/some-vae:vae"),
    ],
)
def test_what_the_hub_says_is_explained_in_one_line(monkeypatch, kind, message):
    def fails(*args, **kwargs):
        raise hub_error(kind)

    monkeypatch.setattr(opening, "hf_hub_download", fails)
    with pytest.raises(AutoencoderError, match=message) as caught:
        load("somebody/some-vae")
    assert "somebody/some-vae" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hub_repository_is_opened_by_its_class(monkeypatch, folder):
    seen = {}

    class Stub(AutoencoderKL):
        @classmethod
        def from_pretrained(cls, source, **options):
            seen.update(options, source=source)
            return AutoencoderKL.from_pretrained(folder, **(options | {"subfolder": None}))

    Stub.__name__ = "AutoencoderKL"
    monkeypatch.setattr(opening, "hf_hub_download", lambda *a, **k: str(folder / "config.json"))
    monkeypatch.setattr("diffusers.AutoencoderKL", Stub)
    autoencoder = load("somebody/some-vae", subfolder="vae")
    assert (autoencoder.name, autoencoder.latent_channels) == ("somebody/some-vae", 5)
    assert seen["source"] == "somebody/some-vae"
    assert seen["subfolder"] == "vae"
    assert seen["use_safetensors"] is True


# ---------------------------------------------------------------------------------------------------------------------
# The paper's models


def test_flux_autoencoder_has_the_published_size():
    entry = CATALOGUE["FluxAE"]
    with torch.device("meta"):
        autoencoder = Autoencoder(entry.name, entry.build().eval())
        assert round(sum(p.numel() for p in autoencoder.parameters()) / 1e6, 2) == 83.82  # Table 5 rounds to 83.8M
        assert autoencoder.encode(torch.empty(1, 3, 256, 256)).mean.shape == (1, 16, 32, 32)
        assert autoencoder.decode(torch.empty(1, 16, 32, 32)).shape == (1, 3, 256, 256)
    assert autoencoder.latent_shape(256, 256) == (16, 32, 32)
    assert autoencoder.normalise(torch.tensor(0.1159)).item() == 0
    assert autoencoder.normalise(torch.tensor(1.1159)).item() == pytest.approx(0.3611)


# ---------------------------------------------------------------------------------------------------------------------
# The shipped models


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_folder_is_complete_and_small(name):
    weights = WEIGHTS / name / "diffusion_pytorch_model.safetensors"
    assert weights.stat().st_size <= 2**20
    assert (WEIGHTS / name / "README.md").read_text().count(name) >= 2
    record = records.read(WEIGHTS / name / "record.json")
    assert record.parameters["name"] == name
    assert "/" not in json.loads((WEIGHTS / name / "config.json").read_text()).get("_name_or_path", "")
    assert not {"coffee", "china"} & set(record.data.replace(",", " ").split())


def test_a_folder_with_a_shipped_name_is_pointed_out(tmp_path, monkeypatch, shipped):
    shipped.module.save_pretrained(tmp_path / "kl-f4c4")
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match=r"for the folder of that name write \./kl-f4c4"):
        assert load("kl-f4c4").latent_channels == 4
    assert load("./kl-f4c4").latent_channels == 16


def test_nothing_is_shipped_without_a_name():
    assert {path.name for path in WEIGHTS.iterdir() if path.is_dir()} == {*SHIPPED, "offline-features"}


def test_shipped_weights_are_half_precision_without_quant_convolutions_or_attention(shipped):
    from safetensors.torch import load_file

    state = load_file(WEIGHTS / "kl-f4c16" / "diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}
    assert not [name for name in state if "quant" in name or "attention" in name]
    assert (shipped.compression, shipped.latent_channels) == (4, 16)
    assert shipped.module.dtype == torch.float32


@torch.no_grad()
def test_shipped_model_reaches_26_db_on_the_held_out_photographs(shipped, held_out):
    y = torch.cat([shipped.decode(shipped.encode(x).mean) for x in held_out.split(64)])
    measured = metrics.psnr(held_out, y).item()
    assert measured >= 26
    record = records.read(WEIGHTS / "kl-f4c16" / "record.json")
    assert measured == pytest.approx(record.metrics["held_out_psnr_db"], abs=0.02)  # the card's number is this one


@torch.no_grad()
def test_shipped_model_opens_with_plain_diffusers(shipped, held_out):
    plain = AutoencoderKL.from_pretrained(WEIGHTS / "kl-f4c16").eval()
    x = held_out[:4]
    expected = plain.decode(plain.encode(x).latent_dist.mean).sample
    assert torch.equal(shipped.decode(shipped.encode(x).mean), expected)


@torch.no_grad()
def test_shipped_normalisation_gives_unit_variance(shipped):
    x = data.stack(data.Photos(64, "train", seed=2, length=256), range(256))
    z = shipped.normalise(shipped.encode(x).sample(torch.Generator().manual_seed(0)))
    assert z.mean().item() == pytest.approx(0, abs=0.05)
    assert z.std().item() == pytest.approx(1, abs=0.05)


def test_shipped_config_is_plain_json():
    config = json.loads((WEIGHTS / "kl-f4c16" / "config.json").read_text())
    assert config["_class_name"] == "AutoencoderKL"
    assert config["scaling_factor"] > 0
    assert config["shift_factor"] is not None
