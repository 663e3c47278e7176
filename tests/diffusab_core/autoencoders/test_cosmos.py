"""The Cosmos image tokenizer against its layers written out under the release's names, and TorchScript archives."""

import json
from itertools import count

import pytest
import torch
import torch.nn.functional as F
from typer.testing import CliRunner

from diffusab_book.cli import app
from diffusab_core import metrics
from diffusab_core.autoencoders import CATALOGUE, PUBLISHED, AutoencoderError, load, save, single
from diffusab_core.autoencoders.cosmos import CosmosImageTokenizer, haar, inverse_haar

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")

SMALL = {"channels": 4, "channel_multipliers": (1, 2, 3), "layers_per_block": 1, "norm_num_groups": 2,
         "latent_channels": 3}  # fmt: skip
X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


class Layers:
    """What the release's source says, layer by layer; a tensor is drawn when its name is first met."""

    def __init__(self, compression, channels, multipliers, layers, groups, latent):
        self.halvings, self.layers, self.groups, self.latent = compression.bit_length() - 3, layers, groups, latent
        self.first, self.widths = channels, [channels * m for m in multipliers]
        self.tensors, self.seed = {}, count()

    def tensor(self, name, *shape):
        draw = torch.Generator().manual_seed(next(self.seed))
        return self.tensors.setdefault(name, torch.randn(shape, generator=draw) / max(1, torch.Size(shape[1:]).numel()))

    def conv(self, name, x, width, side=3, **how):
        how = {"padding": side // 2} | how
        return F.conv2d(x, self.tensor(f"{name}.weight", width, x.shape[1], side, side),
                        self.tensor(f"{name}.bias", width), **how)  # fmt: skip

    def norm(self, name, x):
        weight, bias = (self.tensor(f"{name}.{what}", x.shape[1]) for what in ("weight", "bias"))
        return F.group_norm(x, self.groups, weight, bias, eps=1e-6)

    def block(self, name, x, width):
        h = self.conv(f"{name}.conv1", F.silu(self.norm(f"{name}.norm1", x)), width)
        h = self.conv(f"{name}.conv2", F.silu(self.norm(f"{name}.norm2", h)), width)
        return h + (x if x.shape[1] == width else self.conv(f"{name}.nin_shortcut", x, width, 1))

    def attention(self, name, x):
        h = self.norm(f"{name}.norm", x)
        q, k, v = (self.conv(f"{name}.{what}", h, x.shape[1], 1).flatten(2) for what in "qkv")  # (N, C, L)
        weights = torch.softmax(q.transpose(1, 2) @ k * x.shape[1] ** -0.5, dim=-1)  # (N, L, L)
        return x + self.conv(f"{name}.proj_out", (v @ weights.transpose(1, 2)).reshape(x.shape), x.shape[1], 1)

    def middle(self, name, h):
        h = self.attention(f"{name}.attn_1", self.block(f"{name}.block_1", h, h.shape[1]))
        return self.block(f"{name}.block_2", h, h.shape[1])

    def end(self, name, h, width):
        return self.conv(f"{name}.conv_out", F.silu(self.norm(f"{name}.norm_out", h)), width)

    def encode(self, x):
        h = self.conv("encoder.conv_in", wavelets(wavelets(x)), self.first)
        for i, width in enumerate(self.widths):
            for j in range(self.layers):
                h = self.block(f"encoder.down.{i}.block.{j}", h, width)
            if i < self.halvings:
                h = self.conv(f"encoder.down.{i}.downsample.conv", F.pad(h, (0, 1, 0, 1)), width, stride=2, padding=0)
        return self.conv("quant_conv", self.end("encoder", self.middle("encoder.mid", h), self.latent), self.latent, 1)

    def decode(self, z):
        h = self.conv("decoder.conv_in", self.conv("post_quant_conv", z, self.latent, 1), self.widths[-1])
        h = self.middle("decoder.mid", h)
        for i in reversed(range(len(self.widths))):
            for j in range(self.layers + 1):
                h = self.block(f"decoder.up.{i}.block.{j}", h, self.widths[i])
            if i >= len(self.widths) - self.halvings:
                doubled = h.repeat_interleave(2, 2).repeat_interleave(2, 3)
                h = self.conv(f"decoder.up.{i}.upsample.conv", doubled, self.widths[i])
        return self.end("decoder", h, 48)


def wavelets(x):
    """One level by four strided convolutions: low-low, low-high, high-low, high-high, the width's letter first."""
    low, high = torch.tensor([0.5, 0.5]), torch.tensor([0.5, -0.5])
    bands = [torch.outer(rows, columns) for columns in (low, high) for rows in (low, high)]  # over the height, width
    kernels = [band.expand(x.shape[1], 1, 2, 2) for band in bands]
    return torch.cat([F.conv2d(x, kernel, stride=2, groups=x.shape[1]) for kernel in kernels], dim=1)


class Node(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def archive(tensors, file):
    """A TorchScript file with these tensors as its parameters."""
    root = Node()
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        node = root
        for part in path:
            if part not in dict(node.named_children()):
                node.add_module(part, Node())
            node = getattr(node, part)
        node.register_parameter(last, torch.nn.Parameter(tensor))
    torch.jit.save(torch.jit.script(root), file)


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A folder as of a release, small: the whole model, its halves, and a configuration; and the layers in it."""
    folder, layers = tmp_path_factory.mktemp("release"), Layers(16, 4, (1, 2, 3), 1, 2, 3)
    layers.decode(layers.encode(X))
    captured = {"encoder.patcher.wavelets": torch.ones(2), "decoder.unpatcher._arange": torch.arange(2.0)}
    halves = {"encoder": {}, "decoder": {}}
    for name, tensor in (layers.tensors | captured).items():
        halves["encoder" if name.startswith(("encoder", "quant")) else "decoder"][name] = tensor
    for name, tensors in {"autoencoder": layers.tensors | captured, **halves}.items():
        archive(tensors, folder / f"{name}.jit")
    with torch.device("meta"):
        CosmosImageTokenizer(**SMALL).save_config(folder / "small")
    return folder, layers


def test_the_transform_has_the_releases_bands_and_loses_nothing():
    square = torch.tensor([[1.0, 2.0], [4.0, 8.0]]).reshape(1, 1, 2, 2)
    assert haar(square, 1).flatten().tolist() == [15 / 4, -9 / 4, -5 / 4, 3 / 4]
    torch.testing.assert_close(haar(X, 2), wavelets(wavelets(X)))
    assert haar(X, 2).shape == (2, 48, 8, 8)
    torch.testing.assert_close(inverse_haar(haar(X, 2), 2), X)
    assert haar(X, 0) is X


@pytest.mark.parametrize("compression", [4, 8, 16, 32])
@torch.no_grad()
def test_every_layer_is_where_the_release_has_it(compression, tmp_path):
    layers = Layers(compression, 4, (1, 2, 3), 2, 2, 3)
    z = layers.encode(X)
    y = inverse_haar(layers.decode(z), 2)
    with torch.device("meta"):
        config = SMALL | {"spatial_compression": compression, "layers_per_block": 2}
        CosmosImageTokenizer(**config).save_config(tmp_path / "config")
    archive(layers.tensors, tmp_path / "mine.jit")
    opened = load(f"{tmp_path / 'mine.jit'},config={tmp_path / 'config'}")
    assert (opened.name, opened.compression, opened.latent_channels) == ("mine", compression, 3)
    assert opened.latent_shape(32, 32) == z.shape[1:]
    posterior = opened.encode(X)
    assert not posterior.std.any()
    assert z.std() > 0.1
    torch.testing.assert_close(posterior.mean, z, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(opened.decode(z), y, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_release_opens_as_a_file_as_a_folder_and_as_halves(released, tmp_path):
    folder, layers = released
    z = layers.encode(X)
    small = folder / "small"
    halves = tmp_path / "halves"
    halves.mkdir()
    for name in ("encoder.jit", "decoder.jit"):
        (halves / name).write_bytes((folder / name).read_bytes())
    for place in (folder / "autoencoder.jit", folder, halves):
        opened = load(place, model_config=str(small))
        torch.testing.assert_close(opened.encode(X).mean, z, rtol=1e-4, atol=1e-5)
    assert opened.name == "halves"
    with pytest.raises(AutoencoderError, match=r"encoder\.jit is not .* the first is decoder\."):
        load(folder / "encoder.jit", model_config=str(small))
    with pytest.raises(AutoencoderError, match="no autoencoder of the catalogue has its tensors"):
        load(folder)
    saved = tmp_path / "saved"
    save(opened, saved)
    (saved / "autoencoder.jit").write_bytes(b"beside weights of its own it is not looked at")
    assert torch.equal(load(saved).encode(X).mean, opened.encode(X).mean)


def test_half_precision_archives_give_the_precision_that_is_asked_for(released, tmp_path):
    folder, layers = released
    archive({name: tensor.bfloat16() for name, tensor in layers.tensors.items()}, tmp_path / "half.jit")
    opened = load(tmp_path / "half.jit", model_config=str(folder / "small"))
    assert {parameter.dtype for parameter in opened.parameters()} == {torch.float32}
    first = layers.tensors["encoder.conv_in.weight"]
    assert torch.equal(opened.module.encoder.conv_in.weight, first.bfloat16().float())


class Running(torch.nn.Module):
    """A module whose class runs a line when the archive is opened."""

    def __init__(self):
        super().__init__()
        self.kept = torch.zeros(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    @torch.jit.export
    def __getstate__(self):
        return self.kept, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]):
        self.kept, self.training = state[0], state[1]
        raise ValueError("code of the archive has run")


def test_archives_that_run_code_or_are_none_are_one_line(tmp_path):
    torch.jit.save(torch.jit.script(Running()), tmp_path / "running.jit")
    with pytest.raises(Exception, match="code of the archive has run"):
        torch.jit.load(tmp_path / "running.jit")
    with pytest.raises(AutoencoderError, match=r"running\.jit would run code of its own"):
        load(tmp_path / "running.jit")
    (tmp_path / "torn.jit").write_bytes((tmp_path / "running.jit").read_bytes()[:200])
    with pytest.raises(AutoencoderError, match=r"torn\.jit cannot be read as TorchScript"):
        load(tmp_path / "torn.jit")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "pickle.jit")
    with pytest.raises(AutoencoderError, match=r"pickle\.jit cannot be read as TorchScript"):
        load(tmp_path / "pickle.jit")
    with pytest.raises(AutoencoderError, match="there is no file"):
        load(tmp_path / "nowhere.jit")


@pytest.mark.parametrize("name", ["CMS-AE_I", "Cosmos-CI8x8"])
def test_the_two_sizes_are_told_apart_by_their_tensors(name):
    with torch.device("meta"):
        state = (CATALOGUE | PUBLISHED)[name].build().state_dict()
    assert [one.name for one in single._find_fitting(state)] == [name]


@pytest.mark.parametrize(
    "change", [{"patch_size": 3}, {"spatial_compression": 12}, {"spatial_compression": 64}, {"patch_size": 32}]
)
def test_what_the_levels_cannot_compress_is_refused(change):
    with pytest.raises(ValueError, match="3 levels cannot compress"):
        CosmosImageTokenizer(**SMALL | change)


def test_statistics_of_the_latent_are_part_of_a_folder(tmp_path):
    CosmosImageTokenizer(**SMALL, latents_mean=(1.0, 2.0, 3.0), latents_std=(1.0, 2.0, 4.0)).save_pretrained(tmp_path)
    z = load(tmp_path).normalise(torch.zeros(1, 3, 1, 1)).flatten()
    assert z.tolist() == [-1, -1, -0.75]


def test_the_commands_take_an_archive(released, tmp_path):
    model = f"{released[0] / 'autoencoder.jit'},config={released[0] / 'small'}"
    few = ["--images", "photos", "--samples", "2", "--resolution", "128", "--device", "cpu"]

    def invoke(*words):
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.exit_code == 0, done.output
        return done.output

    invoke("profile", model, *few, "--out", tmp_path / "p")
    found = json.loads((tmp_path / "p" / "profile.json").read_text())
    assert found["models"][0]["profile"]["shape"] == [3, 8, 8]
    invoke("extract", model, tmp_path / "z", *few)
    out = invoke("finetune", model, "--out", tmp_path / "se", "--images", "photos", "--perceptual", "none",
                 "--resolution", 64, "--batch-size", 2, "--steps", 1, "--scales", 2, "--frozen-up-blocks", 3,
                 "--block-size", 4, "--device", "cpu")  # fmt: skip
    before, after = load(model).module, load(tmp_path / "se").module
    changed = {name for name, p in after.named_parameters() if not torch.equal(p, before.get_parameter(name))}
    end = ("decoder.up_blocks.", "decoder.conv_norm_out.", "decoder.conv_out.")
    assert changed == {name for name, _ in after.named_parameters() if not name.startswith(end)}, out
    assert metrics.psnr(X, load(tmp_path / "se").decode(load(tmp_path / "se").encode(X).mean)).isfinite()
