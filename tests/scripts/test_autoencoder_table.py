"""The book's tables of autoencoders are those of the catalogue, and the catalogue's sizes those of the classes."""

import pytest
import torch
from script_modules import load_script

from diffusab_core.autoencoders import CATALOGUE, PUBLISHED, Autoencoder
from diffusab_core.autoencoders.families import FAMILIES, KNOWN, describe_normalisation


def test_the_page_holds_the_tables_of_the_catalogue():
    module = load_script("autoencoder_table")
    text = module.PAGE.read_text(encoding="utf-8")
    assert text == module.page(text), "scripts/autoencoder_table.py writes them anew"
    listed = {name for name in KNOWN if f"<br>{name} |" in text}
    assert listed == {*FAMILIES, "CosmosImageTokenizer"}
    assert "| no: its decoder is a consistency model" in text


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes_are_those_of_the_classes(name):
    entry = PUBLISHED[name]
    if needs := KNOWN[entry.class_name].needs:
        pytest.importorskip(needs, reason=f"{entry.class_name} needs the package {needs}")
    with torch.device("meta"):
        autoencoder = Autoencoder(name, entry.build().eval())
    assert round(sum(p.numel() for p in autoencoder.parameters()) / 1e6, 2) == entry.parameters
    sizes = (autoencoder.compression, autoencoder.latent_channels, autoencoder.temporal_compression)
    assert sizes == (entry.compression, entry.latent_channels, entry.temporal_compression)
    assert describe_normalisation(autoencoder.module, autoencoder.family) == entry.normalisation
    assert name not in CATALOGUE
