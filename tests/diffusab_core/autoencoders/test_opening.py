"""Names of models, variants of weights, single files, images of one and four channels, one's own models kept."""

import json
import re
import warnings

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from safetensors.torch import save_file

from diffusab_core import data, experiments
from diffusab_core.autoencoders import CATALOGUE, PUBLISHED, Autoencoder, AutoencoderError, Opening, load, save, single
from diffusab_core.autoencoders.families import describe_normalisation
from diffusab_core.autoencoders.names import split_options
from diffusab_core.latents import extraction
from diffusab_core.methods.finetuning import Finetuning

SMALL = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "block_out_channels": (4, 8),
    "latent_channels": 4,
    "norm_num_groups": 4,
    "scaling_factor": 0.5,
}
X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def make(seed=0, **changes):
    torch.manual_seed(seed)
    return AutoencoderKL(**SMALL | changes).eval()


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def fails(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", fails)
    monkeypatch.setattr("huggingface_hub.utils._http.get_session", fails)


@torch.no_grad()
def same(autoencoder, module):
    return torch.equal(autoencoder.encode(X).mean, module.encode(X).latent_dist.mean)


# --- names ------------------------------------------------------------------------------------------------------------


def test_a_pipelines_autoencoder_is_named_in_every_way(tmp_path):
    module, pipeline = make(), tmp_path / "pipe"
    module.save_pretrained(pipeline / "vae")
    (pipeline / "model_index.json").write_text("{}")
    for opened in (load(f"{pipeline}:vae"), load(pipeline, subfolder="vae"), load(pipeline / "vae")):
        assert same(opened, module)
    with pytest.raises(AutoencoderError, match=rf"name one of its folders: {re.escape(str(pipeline))}:vae$"):
        load(pipeline)
    with pytest.raises(AutoencoderError, match=r"names its subfolder, and 'unet' is another"):
        load(f"{pipeline}:vae", subfolder="unet")


def test_options_are_part_of_a_name_and_come_out_of_it_again(tmp_path):
    name = Opening("vae", "fp16").of("owner/name")
    assert name == "owner/name:vae,variant=fp16"
    assert split_options(name) == ("owner/name", Opening("vae", "fp16"))
    assert Opening(variant="fp16").of(name) == name == Opening().of(name)
    file = Opening(model_config="SD").of("some, thing.safetensors")
    assert split_options(file) == ("some, thing.safetensors", Opening(model_config="SD"))
    assert split_options("own.py:build") == ("own.py:build", Opening())
    with pytest.raises(AutoencoderError, match="kl-f4c4 comes with the package"):
        load("kl-f4c4", variant="fp16")


# --- variants ---------------------------------------------------------------------------------------------------------


def test_the_only_variant_is_found_and_said(tmp_path):
    module = make()
    module.save_pretrained(tmp_path, variant="fp16")
    with pytest.warns(UserWarning, match="holds the variant fp16 only, which is opened"):
        assert same(load(tmp_path), module)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(load(f"{tmp_path},variant=fp16"), module)
    with pytest.raises(AutoencoderError, match="holds no variant 'bf16', there are fp16"):
        load(tmp_path, variant="bf16")


def test_one_of_several_variants_is_chosen(tmp_path):
    modules = {name: make(seed) for seed, name in enumerate(("fp16", "ema", None))}
    modules["fp16"].save_pretrained(tmp_path, variant="fp16")
    modules["ema"].save_pretrained(tmp_path, variant="ema")
    with pytest.raises(AutoencoderError, match="holds the variants ema, fp16: choose one with --variant"):
        load(tmp_path)
    modules[None].save_pretrained(tmp_path)
    for name, module in modules.items():
        assert same(load(tmp_path, variant=name), module)


# --- single files -----------------------------------------------------------------------------------------------------

#: From diffusers' names to those of the original checkpoints of latent diffusion, in this order.
LDM_NAMES = (
    (r"down_blocks\.(\d+)\.resnets", r"down.\1.block"),
    (r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample"),
    (r"up_blocks\.(\d+)\.resnets", lambda m: f"up.{LAST - int(m[1])}.block"),
    (r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{LAST - int(m[1])}.upsample"),
    (r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}"),
    (r"mid_block\.attentions\.0", "mid.attn_1"),
    (r"attn_1\.group_norm", "attn_1.norm"),
    (r"attn_1\.to_([qkv])", r"attn_1.\1"),
    (r"attn_1\.to_out\.0", "attn_1.proj_out"),
    (r"conv_shortcut", "nin_shortcut"),
    (r"conv_norm_out", "norm_out"),
)
LAST = 0


def as_ldm(state, blocks, prefix=""):
    """A state dict of AutoencoderKL as the original checkpoints have it; attention is by 1 x 1 convolutions there."""
    global LAST
    LAST, found = blocks - 1, {}
    for name, value in state.items():
        for pattern, new in LDM_NAMES:
            name = re.sub(pattern, new, name)
        is_attention = ".attn_1." in name and value.ndim == 2
        found[prefix + name] = (value[..., None, None] if is_attention else value).clone()
    return found


@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
def test_a_single_file_opens_with_a_configuration(tmp_path, prefix):
    module, file = make(), tmp_path / "weights" / "ae.safetensors"
    file.parent.mkdir()
    more = {"model.diffusion_model.out.0.weight": torch.zeros(2)} if prefix else {}
    save_file(as_ldm(module.state_dict(), 2, prefix) | more, file)
    module.save_config(tmp_path / "config")
    for named in (tmp_path / "config", tmp_path / "config" / "config.json"):
        opened = load(f"{file},config={named}")
        assert same(opened, module)
        assert opened.name == "ae"
        torch.testing.assert_close(opened.normalise(X), X * 0.5)
    module.save_config(file.parent)
    assert same(load(str(file)), module)


def test_a_single_file_may_have_diffusers_names_of_any_class(tmp_path):
    torch.manual_seed(0)
    module = AutoencoderTiny(encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
                             num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)).eval()  # fmt: skip
    module.save_config(tmp_path)
    save_file(module.state_dict() | {"ema.decay": torch.zeros(1)}, tmp_path / "tiny.safetensors")
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "tiny.safetensors").encode(X).mean, module.encode(X).latents)


@pytest.mark.parametrize(
    ("name", "blocks", "fit"), [("SD", 4, ["SD", "SDXL"]), ("FluxAE", 4, ["FluxAE", "SD3"]), ("LDM-VQ-f4", 0, [])]
)
def test_published_files_are_recognised_by_their_tensors(name, blocks, fit):
    with torch.device("meta"):
        state = (CATALOGUE | PUBLISHED)[name].build().state_dict()
    if blocks:
        state = as_ldm(state, blocks)
        assert "encoder.down.0.block.0.conv1.weight" in state
    found = [one.name for one in single._find_fitting(state)]
    assert found == (fit or [name])


def test_a_single_file_that_nothing_fits_is_told_so(tmp_path):
    file = tmp_path / "z.safetensors"
    save_file({"latents": torch.zeros(2, 4, 8, 8)}, file)
    with pytest.raises(
        AutoencoderError, match=r"no autoencoder of the catalogue .* the first is latents.*--model-config"
    ):
        load(file)
    with pytest.raises(AutoencoderError, match=r"is not SD .* 248 of its tensors are missing"):
        load(file, model_config="SD")
    with pytest.raises(AutoencoderError, match=r"no configuration 'SDX'.* none of FluxAE, .*SDXL"):
        load(file, model_config="SDX")
    file.write_bytes(b"not safetensors")
    with pytest.raises(AutoencoderError, match=r"z\.safetensors cannot be read"):
        load(file)
    with pytest.raises(AutoencoderError, match="there is no file"):
        load(tmp_path / "nowhere.safetensors")


def test_weights_that_are_cut_off_are_named(tmp_path):
    make().save_pretrained(tmp_path / "vae")
    file = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(
        AutoencoderError, match=r"vae/diffusion_pytorch_model\.safetensors is damaged or cut off"
    ) as told:
        load(tmp_path / "vae")
    assert "\n" not in str(told.value)


# --- images of other than three channels, missing factors ------------------------------------------------------------


@torch.no_grad()
def test_grey_autoencoders_see_brightness(tmp_path):
    module = make(in_channels=1, out_channels=1)
    module.save_pretrained(tmp_path)
    autoencoder = load(tmp_path)
    grey = 0.299 * X[:, :1] + 0.587 * X[:, 1:2] + 0.114 * X[:, 2:]
    torch.testing.assert_close(autoencoder.encode(X).mean, module.encode(grey).latent_dist.mean)
    y = autoencoder.decode(autoencoder.encode(X).mean)
    assert y.shape == X.shape
    assert torch.equal(y[:, 0], y[:, 2])
    assert autoencoder.is_grey
    torch.testing.assert_close(autoencoder.as_seen(X), grey.expand(-1, 3, -1, -1))
    clip = X.unsqueeze(2)
    torch.testing.assert_close(autoencoder.as_seen(clip), grey.expand(-1, 3, -1, -1).unsqueeze(2))


def test_grey_autoencoders_are_judged_and_trained_on_grey(tmp_path):
    torch.manual_seed(0)
    make(in_channels=1, out_channels=1).save_pretrained(tmp_path / "grey")
    settings = Finetuning(model=str(tmp_path / "grey"), method="plain", resolution=16, steps=30, batch_size=4,
                          learning_rate=3e-3, block_size=4)  # fmt: skip
    probe = data.stack(data.Photos(32, "test", length=4), range(4))
    done = experiments.finetune(settings, probe=probe, progress=False, snapshots=1)
    colour = (probe - done.autoencoder.as_seen(probe)).square().mean()
    with torch.no_grad():
        y = done.autoencoder.decode(done.autoencoder.encode(probe).mean)
    assert done.record.metrics["after_psnr_db"] > done.record.metrics["before_psnr_db"]
    assert (y - probe).square().mean() > (y - done.autoencoder.as_seen(probe)).square().mean() + 0.5 * colour
    record = experiments.evaluate(
        experiments.Evaluation(str(tmp_path / "grey"), samples=2, resolution=32, features="none", cuts=(0.0,))
    )
    assert record.series["cut_psnr_db"][0] == pytest.approx(record.metrics["psnr_db"], abs=1e-3)


@pytest.mark.parametrize(("channels", "said"), [((4, 4), "4-channel images to 4-"), ((3, 1), "3-channel images to 1-")])
def test_other_channels_are_one_line(tmp_path, channels, said):
    make(in_channels=channels[0], out_channels=channels[1]).save_pretrained(tmp_path)
    with pytest.raises(
        AutoencoderError, match=rf"{said}channel ones; what can be used maps RGB to RGB or grey to grey"
    ):
        load(tmp_path)


def test_factors_that_are_null_change_nothing(tmp_path):
    module = make(scaling_factor=None, shift_factor=None)
    module.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["scaling_factor"] is None
    autoencoder = load(tmp_path)
    z = torch.ones(1, 4, 2, 2)
    assert torch.equal(autoencoder.normalise(z), z)
    assert torch.equal(autoencoder.denormalise(z), z)
    assert describe_normalisation(autoencoder.module, autoencoder.family) == "none"
    module.register_to_config(latents_mean=[1.0] * 4, latents_std=[2.0] * 4)
    torch.testing.assert_close(Autoencoder("by channel", module).normalise(z), torch.zeros_like(z))


# --- one's own models, kept and opened again -------------------------------------------------------------------------

OWN = """
from torch import nn

WIDTH = 4


class Mine(nn.Module):
    scaling_factor = None
    last_layers = ("out",)

    def __init__(self):
        super().__init__()
        self.encoder = nn.Conv2d(CHANNELS, WIDTH, 4, 4)
        self.decoder = nn.ConvTranspose2d(WIDTH, CHANNELS, 4, 4)
        self.out = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.out.bias = self.decoder.bias  # shared, which safetensors alone refuses

    def encode(self, x):
        return self.encoder(x)

    def decode(self, z):
        return self.out(self.decoder(z))


def build():
    return Mine()
"""


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "code" / "mine.py"
    file.parent.mkdir()
    file.write_text(OWN.replace("CHANNELS", "3"))
    return file


def settings_of(model, **changes):
    return Finetuning(model=str(model), resolution=16, steps=2, batch_size=2, scales=(2,), block_size=2, **changes)


PROBE = data.stack(data.Photos(32, "test", length=2), range(2))


def test_ones_own_model_is_finetuned_kept_evaluated_and_encoded(tmp_path, own):
    out = tmp_path / "out"
    done = experiments.finetune(settings_of(f"{own}:build"), out, probe=PROBE, progress=False)
    opened = load(out)
    assert (opened.name, opened.compression) == ("out", 4)
    assert "diffusers" not in (out / "README.md").read_text()
    with torch.no_grad():
        z = opened.encode(X).mean
        assert torch.equal(z, done.autoencoder.encode(X).mean)
        assert torch.equal(opened.decode(z), done.autoencoder.decode(z))
    record = experiments.evaluate(experiments.Evaluation(str(out), samples=2, resolution=32, features="none"))
    assert record.metrics["psnr_db"] == pytest.approx(record.series["cut_psnr_db"][0], abs=1e-3)
    cache = extraction.extract(
        extraction.Extraction(str(out), samples=4, resolution=16), tmp_path / "cache", progress=False
    )
    assert cache.shape == (4, 4, 4)
    again = experiments.finetune(settings_of(f"{own}:build"), out, probe=PROBE, progress=False)  # read back
    assert again.record.identity == done.record.identity
    more = experiments.finetune(settings_of(out, decoder_only=True), tmp_path / "more", probe=PROBE, progress=False)
    assert more.record.metrics["trainable_parameters"] == 3 * 4 * 16 + 3
    save(load(tmp_path / "more"), tmp_path / "saved")
    assert load(tmp_path / "saved").factory == f"{own}:build"


def test_ones_own_model_follows_its_file(tmp_path, own):
    save(load(f"{own}:build"), tmp_path / "kept")
    moved = own.rename(tmp_path / "kept" / own.name)
    assert load(tmp_path / "kept").factory == f"{moved}:build"
    text = moved.read_text()
    moved.write_text(text + "\n# another line\n")
    with pytest.warns(UserWarning, match=r"mine\.py has changed since"):
        load(tmp_path / "kept")
    moved.write_text(text.replace("WIDTH = 4", "WIDTH = 5"))
    changed = pytest.warns(UserWarning, match="has changed")
    with changed, pytest.raises(AutoencoderError, match=r"the weights do not fit .*mine\.py"):
        load(tmp_path / "kept")
    moved.unlink()
    with pytest.raises(AutoencoderError, match=r"was made by .*mine\.py, which is gone"):
        load(tmp_path / "kept")
    (tmp_path / "kept" / "own.json").write_text("[]")
    with pytest.raises(AutoencoderError, match=r"own\.json cannot be read"):
        load(tmp_path / "kept")


def test_a_grey_model_of_ones_own_is_found_out(own):
    own.write_text(OWN.replace("CHANNELS", "1"))
    grey = load(f"{own}:build", probe=16)
    assert grey.is_grey
    with torch.no_grad():
        assert grey.decode(grey.encode(X).mean).shape == X.shape


def test_models_that_nothing_can_be_trained_of_say_so(tmp_path, own):
    text = own.read_text()
    own.write_text(text.replace("self.decoder", "self.net"))
    with pytest.raises(AutoencoderError, match=r"has no parameters in 'decoder' or 'post_quant_conv'"):
        experiments.finetune(settings_of(f"{own}:build", decoder_only=True), probe=PROBE, progress=False)
    own.write_text(text.replace("def decode", "def other"))
    with pytest.raises(AutoencoderError, match=r"mine:build has no decode"):
        experiments.finetune(settings_of(f"{own}:build"), probe=PROBE, progress=False)
    with pytest.raises(AutoencoderError, match=r"could not be opened again: open it as file\.py:function"):
        save(Autoencoder("mine", torch.nn.Identity(), load("kl-f4c4").family), tmp_path)
