"""Networks of others: LPIPS, Inception, DINOv2.

Their real weights are not at hand where these tests run: files of the same format hold random weights instead. So
reading, arithmetic and refusals are tested; that published values come out is not.
"""

import os
import pickle
import re
import subprocess
import sys
from functools import partial
from importlib.resources import files

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from diffusab_core.metrics import (
    MissingWeightsError,
    lpips_distance,
    lpips_per_image,
)
from diffusab_core.metrics.networks import dinov2_features, inception_features


@pytest.fixture(autouse=True)
def _no_network_and_empty_caches(monkeypatch, tmp_path):
    def refuse(*_, **__):
        pytest.fail("a download was started unasked")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(torch.hub, "urlopen", refuse)


FILES = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}
LAYERS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}  # the five rectified outputs LPIPS compares


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    """A folder with both backbones under torchvision's names and keys, randomly initialised."""
    folder = tmp_path_factory.mktemp("backbones")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for net, make in (("alex", torchvision.models.alexnet), ("vgg", torchvision.models.vgg16)):
            state = {f"features.{k}": v.clone() for k, v in make().features.state_dict().items()}
            state["classifier.6.bias"] = torch.zeros(1000)  # of the classifier, which is not needed
            torch.save(state, folder / FILES[net])
    return folder


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_agrees_with_its_formula_on_torchvisions_network(net, backbones):
    g = torch.Generator().manual_seed(3)
    x = torch.rand(2, 3, 40, 32, generator=g) * 2 - 1
    y = (x + 0.3 * torch.randn(x.shape, generator=g)).clamp(-1, 1)

    state = torch.load(backbones / FILES[net])
    layers = (torchvision.models.alexnet if net == "alex" else torchvision.models.vgg16)().features
    layers.load_state_dict({k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")})
    heads = torch.load(files("lpips") / "weights" / "v0.1" / f"{net}.pth", map_location="cpu")
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    a, b = (((image + 1) / 2 - mean[:, None, None]) / std[:, None, None] for image in (x, y))
    expected = torch.zeros(2)
    with torch.no_grad():
        for i, layer in enumerate(layers[: LAYERS[net][-1] + 1]):
            a, b = layer(a), layer(b)
            if i in LAYERS[net]:
                difference = (a / a.norm(dim=1, keepdim=True) - b / b.norm(dim=1, keepdim=True)) ** 2
                head = heads[f"lin{LAYERS[net].index(i)}.model.1.weight"]  # (1, C, 1, 1)
                expected += (difference * head[0]).sum(1).mean((1, 2))

    distance = lpips_distance(net, backbones)
    torch.testing.assert_close(lpips_per_image(x, y, distance), expected, rtol=1e-3, atol=1e-7)
    assert lpips_per_image(x, x, distance).tolist() == [0, 0]
    assert distance.weights == backbones / FILES[net]


def test_lpips_comes_from_a_file_a_folder_or_the_cache(backbones, tmp_path):
    one, cache = tmp_path / "mine.safetensors", tmp_path / "torch" / "hub" / "checkpoints"
    save_file(torch.load(backbones / FILES["alex"]), one)
    cache.mkdir(parents=True)
    (cache / FILES["alex"]).write_bytes((backbones / FILES["alex"]).read_bytes())
    opened = [lpips_distance("alex", weights) for weights in (one, backbones, None)]
    assert opened[2].weights == cache / FILES["alex"]
    assert opened[1].digest == opened[2].digest != opened[0].digest
    for other in opened[1:]:
        assert all(torch.equal(a, b) for a, b in zip(opened[0].parameters(), other.parameters(), strict=True))


def test_lpips_is_a_loss_that_stays_frozen_inside_a_training_module(backbones):
    distance = lpips_distance("alex", backbones)
    model = nn.ModuleDict({"judge": distance}).train()
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    y = (x * 0.5).requires_grad_()
    first = model["judge"](x, y)
    first.sum().backward()
    assert torch.isfinite(y.grad).all()
    assert y.grad.abs().sum() > 0
    assert torch.equal(first, model["judge"](x, y))  # dropout, which the package's heads have, would differ
    assert not any(parameter.requires_grad for parameter in distance.parameters())
    beyond = torch.full_like(x, 3.0)  # the loss sees what is out of range, the metric does not
    assert distance(torch.ones_like(x), beyond).item() > 0
    assert lpips_per_image(torch.ones_like(x), beyond, distance).item() == 0


def test_opening_a_judge_draws_no_random_numbers(backbones):
    before = torch.get_rng_state()
    lpips_distance("alex", backbones)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("net", "least"), [("alex", 31), ("vgg", 16)])
def test_lpips_names_the_smallest_image_it_takes(net, least, backbones):
    distance = lpips_distance(net, backbones)
    assert torch.isfinite(distance(torch.zeros(1, 3, least, least), torch.ones(1, 3, least, least))).all()
    small = torch.zeros(1, 3, least, least - 1)
    with pytest.raises(ValueError, match=rf"on {net} .* at least {least} pixels, got {least} x {least - 1}"):
        distance(small, small)
    with pytest.raises(RuntimeError):  # it is the network that cannot take less
        distance.network(small, small)


@pytest.mark.parametrize("where", ["cache", "file", "folder"])
def test_missing_backbones_name_the_file_and_the_explicit_alternative(where, tmp_path):
    weights = {"cache": None, "file": tmp_path / "no.pth", "folder": tmp_path}[where]
    looked_for = {
        "cache": tmp_path / "torch" / "hub" / "checkpoints" / FILES["vgg"],
        "file": tmp_path / "no.pth",
        "folder": tmp_path / FILES["vgg"],
    }[where]
    with pytest.raises(MissingWeightsError) as error:
        lpips_distance("vgg", weights)
    assert str(looked_for) in str(error.value)
    assert "`--perceptual none`" in str(error.value)


class _Intruder:
    def __reduce__(self):
        return os.mkdir, ("intruder",)


SMALL = "vit_small_patch14_dinov2"  # the smallest DINOv2
LOADERS = {  # with the package each needs
    "lpips": lpips_distance,
    "torch_fidelity": inception_features,
    "timm": partial(dinov2_features, model=SMALL),
}


@pytest.mark.parametrize("package", LOADERS)
@pytest.mark.parametrize("fault", ["pickled code", "cut off", "empty", "another network", "a number"])
def test_bad_files_are_refused_by_name_and_run_no_code(package, fault, tmp_path, monkeypatch):
    pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    if fault == "pickled code":
        path.write_bytes(pickle.dumps({"features.0.weight": _Intruder()}, protocol=2))
    else:
        torch.save({"empty": {}, "a number": 3}.get(fault, {"layer.weight": torch.zeros(64, 64)}), path)
    if fault == "cut off":
        path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match=r"weights\.pth"):
        LOADERS[package](weights=path)
    assert not (tmp_path / "intruder").exists()


def test_unknown_choices_are_refused():
    with pytest.raises(ValueError, match="alex, vgg, got 'squeeze'"):
        lpips_distance("squeeze")
    with pytest.raises(ValueError, match=r"vit_large_patch14_dinov2.*got 'vit_tiny'"):
        dinov2_features(model="vit_tiny")


def test_a_missing_package_is_named_when_it_is_needed_and_not_before(tmp_path):
    code = f"""
import sys
for name in ("timm", "torch_fidelity"):
    sys.modules[name] = None
from diffusab_core.metrics import networks
for load in (networks.inception_features, networks.dinov2_features):
    try:
        load({str(tmp_path / "weights.pth")!r})
    except ValueError as error:
        print(error)
"""
    torch.save({"layer.weight": torch.zeros(1)}, tmp_path / "weights.pth")
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)
    inception, dinov2 = done.stdout.splitlines()
    assert re.search("needs a package that is not installed .*torch.fidelity", inception)
    assert re.search("needs a package that is not installed .*timm", dinov2)


def test_inception_gives_what_torch_fidelitys_network_gives(tmp_path, monkeypatch):
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    network_class = fidelity.FeatureExtractorInceptionV3
    with monkeypatch.context() as m:  # its constructor wants weights; these are random
        m.setattr(fidelity, "load_state_dict_from_url", lambda *_, **__: {})
        m.setattr(network_class, "load_state_dict", lambda *_: None)
        network = network_class("inception-v3-compat", ["2048"])
    name = "weights-inception-2015-12-05-6726825d.pth"
    with pytest.raises(MissingWeightsError, match=f"{tmp_path}/torch/hub/checkpoints/{name}"):
        inception_features()
    torch.save(network.state_dict(), tmp_path / name)
    before = torch.get_rng_state()
    features = inception_features(tmp_path)
    assert torch.equal(before, torch.get_rng_state())
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = pixels.float() / 127.5 - 1
    torch.testing.assert_close(features(images), network(pixels)[0])  # 8-bit images come back exactly


def test_dinov2_gives_the_class_token_of_timms_network(tmp_path, monkeypatch):
    timm = pytest.importorskip("timm")
    # As released: positions for 518 pixels, here interpolated when an image comes, there when the weights are read.
    network = timm.create_model(SMALL, num_classes=0, dynamic_img_size=True).eval()
    with pytest.raises(MissingWeightsError) as error:
        dinov2_features(model=SMALL)
    assert f"timm/{SMALL}.lvd142m" in str(error.value)
    assert str(tmp_path / "torch/hub/checkpoints/dinov2_vits14_pretrain.pth") in str(error.value)

    revision = "0" * 40
    cache = tmp_path / "hf" / f"models--timm--{SMALL}.lvd142m"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(revision)
    snapshot = cache / "snapshots" / revision
    snapshot.mkdir(parents=True)
    save_file(network.state_dict(), snapshot / "model.safetensors")
    before = torch.get_rng_state()
    features = dinov2_features(model=SMALL)
    assert torch.equal(before, torch.get_rng_state())
    assert not features.training

    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = ((images + 1) / 2 - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        torch.testing.assert_close(features(images), network.forward_features(normalised)[:, 0], rtol=1e-3, atol=1e-3)
