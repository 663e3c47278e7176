"""``diffusab fetch``, from a hub on loopback: the real hub could not be reached where this was written."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_hub import serve
from typer.testing import CliRunner

from diffusab_book.cli import app
from diffusab_book.sweeps import fetch, files
from diffusab_book.sweeps.fetch import Asset, FetchError
from diffusab_book.sweeps.plan import plan
from diffusab_core import autoencoders

REPOSITORY = Path(__file__).resolve().parents[3]
SHIPPED = autoencoders.WEIGHTS / "kl-f8c4"
PLAIN = bytes(range(256)) * 8000  # 2 MB
NAME = f"net-{hashlib.sha256(PLAIN).hexdigest()[:8]}.pth"


@pytest.fixture
def hub():
    model = {f"models/us/vae/vae/{path.name}": path.read_bytes() for path in SHIPPED.iterdir() if path.is_file()}
    more = {"models/us/vae/unet/weights.safetensors": bytes(10_000), "models/us/empty/README.md": b"nothing"}
    with serve(model | more | {"datasets/us/pictures/data/a.parquet": bytes(500), f"plain/{NAME}": PLAIN}) as found:
        yield found


def get(folder, hub, *assets):
    fetch.fetch(folder, assets, endpoint=hub.address, say=lambda _: None)


def test_an_autoencoder_opens_on_a_node_without_network(tmp_path, hub):
    get(tmp_path, hub, fetch.autoencoder("us/vae:vae"))
    assert not any("unet" in path for _, path, _ in hub.asked)
    code = (
        "import diffusab_book; from diffusab_core import autoencoders; "
        "a = autoencoders.load('us/vae:vae'); print(a.compression, a.latent_channels)"
    )
    environment = os.environ | {"DIFFUSAB_ASSETS": str(tmp_path), "PYTHONPATH": str(REPOSITORY), "HF_HOME": "/nowhere"}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["8", "4"]
    manifest = json.loads((tmp_path / "manifest.json").read_text())["files"]
    for name, about in manifest.items():
        content = (tmp_path / name).read_bytes()
        assert about["sha256"] == hashlib.sha256(content).hexdigest()
        assert about["source"] == "hub: us/vae"
    assert {Path(name).name for name in manifest} == {"config.json", "diffusion_pytorch_model.safetensors"}


def test_a_file_that_was_cut_off_goes_on_where_it_was(tmp_path, hub):
    asset = Asset("a network", address=f"{hub.address}/plain/{NAME}")
    hub.cut_after[f"plain/{NAME}"] = 1_500_000
    with pytest.raises(FetchError, match="the same command goes on"):
        get(tmp_path, hub, asset)
    path = tmp_path / "torch" / "hub" / "checkpoints" / NAME
    assert not path.exists()
    begun = path.with_name(NAME + ".part").stat().st_size
    assert 0 < begun < len(PLAIN)
    hub.cut_after.clear()
    get(tmp_path, hub, asset)
    assert path.read_bytes() == PLAIN
    assert hub.asked[-1] == ("GET", f"plain/{NAME}", f"bytes={begun}-")
    asked = len(hub.asked)
    get(tmp_path, hub, asset)
    assert len(hub.asked) == asked  # what is there is not asked for


def test_a_part_that_is_whole_or_wrong(tmp_path, hub):
    asset = Asset("a network", address=f"{hub.address}/plain/{NAME}")
    part = tmp_path / "torch" / "hub" / "checkpoints" / f"{NAME}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(PLAIN)
    get(tmp_path, hub, asset)
    part.with_name(NAME).unlink()
    part.write_bytes(bytes(100))  # the start of another file
    with pytest.raises(FetchError, match="SHA-256"):
        get(tmp_path, hub, asset)
    get(tmp_path, hub, asset)
    assert part.with_name(NAME).read_bytes() == PLAIN


def test_what_fails_does_not_stop_the_rest(tmp_path, hub):
    said = []
    assets = [fetch.autoencoder("us/nobody"), fetch.autoencoder("us/empty"), fetch.dataset("us/pictures")]
    with pytest.raises(FetchError, match="2 of 3"):
        fetch.fetch(tmp_path, assets, endpoint=hub.address, say=said.append)
    assert sum(line.startswith("failed: autoencoder us/") for line in said) == 2
    assert (tmp_path / "data" / "us--pictures" / "data" / "a.parquet").read_bytes() == bytes(500)
    assert fetch.check(tmp_path) == []


def test_damage_is_found_removed_and_fetched_again(tmp_path, hub):
    asset = fetch.autoencoder("us/vae:vae")
    get(tmp_path, hub, asset)
    weights = next(tmp_path.rglob("snapshots/**/*.safetensors"))
    whole = weights.read_bytes()
    weights.resolve().write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    result = CliRunner().invoke(app, ["fetch", str(tmp_path), "--check"])
    assert result.exit_code == 1
    assert weights.name in result.stdout
    get(tmp_path, hub, asset)
    assert next(tmp_path.rglob("snapshots/**/*.safetensors")).read_bytes() == whole
    assert CliRunner().invoke(app, ["fetch", str(tmp_path), "--check"]).exit_code == 0


def test_what_sweeps_need():
    needed, places = fetch.needed(plan(files.read("se_table_01"), "paper"))
    assert {asset.what for asset in needed} == {
        "autoencoder black-forest-labs/FLUX.1-schnell:vae", "LPIPS's backbone vgg", "features inception",
        "features dinov2",
    }  # fmt: skip
    assert "data/imagenet/train" in places
    assert fetch.needed(plan(files.read("dial_patch2"))) == ([], [])


def test_everything_is_what_the_catalogue_and_the_metrics_name():
    assets = fetch.everything()
    assert sum(bool(asset.repository) for asset in assets) == 1 + len({
        (entry.hub_id, entry.subfolder) for entry in autoencoders.CATALOGUE.values() if entry.hub_id
    })  # fmt: skip
    addresses = [asset.address for asset in assets if asset.address]
    assert len(addresses) == 3
    assert all(address.startswith("https://") for address in addresses)


def test_a_folder_with_nothing_in_it_is_one_line(tmp_path):
    result = CliRunner().invoke(app, ["fetch", str(tmp_path), "--check"])
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
