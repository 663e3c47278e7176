"""Write the tables of book/autoencoders.md from the catalogue, measured on classes without weights (no download)."""

import argparse
from itertools import chain
from pathlib import Path

import torch

from diffusab_core.autoencoders import CATALOGUE, PUBLISHED, Autoencoder
from diffusab_core.autoencoders.catalogue import CatalogueEntry
from diffusab_core.autoencoders.families import KNOWN, describe_normalisation

PAGE = Path(__file__).resolve().parents[1] / "book" / "autoencoders.md"
HEAD = "| model, class | size, M | latent of 256² | normalised by | fine-tuning |"
KINDS = {"images": False, "clips": True}


def describe(entry: CatalogueEntry) -> tuple[str, ...]:
    """Cells of one model. What cannot be built here is described as the catalogue says it."""
    family = KNOWN[entry.class_name]
    shape, normalised, parameters = _shape(entry), entry.normalisation, entry.parameters
    if not family.needs:
        with torch.device("meta"):
            autoencoder = Autoencoder(entry.name, entry.build().eval())
        shape = autoencoder.latent_shape(256, 256)
        normalised = describe_normalisation(autoencoder.module, autoencoder.family)
        parameters = sum(p.numel() for p in autoencoder.parameters()) / 1e6
    trains = "no: " + family.untrainable if family.untrainable else "yes"
    trains = "decoder only: " + family.encoder_frozen if family.encoder_frozen else trains
    size = "×".join(map(str, shape))
    if family.temporal_compression is not None:
        size += f"; {entry.temporal_compression} frames in one"
    return f"**{entry.name}**<br>{entry.class_name}", f"{parameters:.1f}", size, normalised, trains


def _shape(entry: CatalogueEntry) -> tuple[int, int, int]:
    return entry.latent_channels, 256 // entry.compression, 256 // entry.compression


def table(clips: bool) -> str:
    """The models of images, or those of clips, in Markdown."""
    entries = chain(CATALOGUE.values(), PUBLISHED.values())
    shown = [e for e in entries if (KNOWN[e.class_name].temporal_compression is not None) is clips]
    rows = map(describe, sorted(shown, key=lambda e: (e.class_name, e.name)))
    return "\n".join([HEAD, "|---|--:|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)])


def page(text: str) -> str:
    """The page with fresh tables, each between a comment with its name and the next comment."""
    for name, clips in KINDS.items():
        start, end = f"% table of {name}\n", f"% end of {name}"
        before, _, rest = text.partition(start)
        _, _, after = rest.partition(end)
        text = f"{before}{start}\n{table(clips)}\n\n{end}{after}"
    return text


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
