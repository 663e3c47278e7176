"""Reports of made-up numbers, for the tests of what is said and shown."""

from diffusab_book.report import Options, Plan
from diffusab_book.report.images import Images
from diffusab_book.report.results import Model, Profile, Report
from diffusab_core.experiments import records
from diffusab_core.spectrum import STATISTICS

PIXEL = "data:image/png;base64,iVBORw0KGgo="
EDGES = (0.0, 0.25, 0.5, 0.7072)


def make_profile(name="a", kind="model", side=8, compression=4, share=0.1):
    curves = {key: [1.0 / (1 + k) for k in range(64)] for key in STATISTICS}
    return Profile(name, kind, name, (4, side, side), 3, 12, 0, curves, 0.01, share, compression)


def make_noise(share=0.05, by_channel=(0.1, 0.2, 0.3, 0.4), by_frequency=(), deterministic=False, averaged_kl=1.5):
    return {
        "deterministic": deterministic, "averaged_kl": averaged_kl, "share": share, "by_channel": list(by_channel),
        "by_frequency": list(by_frequency) or [0.001 * (k + 1) for k in range(64)],
        "silent_channels": sum(s > 0.5 for s in by_channel),
    }  # fmt: skip


def make_parts(compression=4, psnr=30.0, left=25.0, rgb=40.0, apart=25.0, low=22.0, fine=1.1, error=0.7, flat=12.0):
    return {
        "reconstruction": {
            "images": 3, "psnr_db": psnr, "psnr_spread_db": 1.0, "flat_db": flat, "ssim": 0.9, "lpips": None,
        },
        "cut": {"images": 3, "ratios": [0.0, 0.75], "latent": [psnr, left], "rgb": [None, rgb]},
        "noise": make_noise(),
        "scale": {
            "scales": [2, 4], "to_image_db": [20.0, 18.0], "to_reconstruction_db": [apart, None],
            "ceiling_db": [31.0, 32.0],
        },
        "dependence": {
            "images": 3, "edges": list(EDGES), "psnr_whole": 30.0, "psnr_without": [10.0, 22.0, 25.0],
            "psnr_noised": [9.0, 21.0, 24.0], "split_radius": 0.25, "low_db": low, "high_db": 11.0,
        },
        "stake": {
            "images": 3, "crops": 12, "side": 64, "bands": [[0, 0], [1, 31], [32, 63]], "permuted": [0.5, 0.9, 0.7],
            "zeroed": [8.0, 0.4, 1.2], "noise": 60.0, "floor": 0.0, "features_digest": "0badcafe",
        },
        "gratings": {
            "images": 2, "side": 64, "frequencies": [0.05, 0.1, 0.2, 0.3], "beyond_nyquist": [0.0, 0.5, 1.0, 1.0],
            "gain": [4.0, 3.0, 2.0, 1.0], "folded_share": [0.0, 0.3, 0.8, 0.6], "spread_share": [0.1, 0.1, 0.2, 0.4],
            "reconstruction_error": [0.1, 5.0, error - 0.01, error + 0.01], "latent_nyquist": 0.5 / compression,
        },
        "cutoff": {
            "images": 3, "radii": [0.1, 0.2, 0.7072], "edges": list(EDGES),
            "amplitude": [[2.0, 0.5, 0.5], [2.0, fine, fine], [2.0, 1.0, 1.0]],
        },
    }  # fmt: skip


def make_model(name="a", compression=4, side=8, share=0.1, without=(), noise=None, **numbers):
    parts = {key: part for key, part in make_parts(compression, **numbers).items() if key not in without}
    parts |= {"noise": noise} if noise else {}
    profile = make_profile(name, side=side, compression=compression, share=share)
    why = {"lpips": "weights not on disk"} | {part: f"no {part}" for part in without}
    return Model(profile, parts, why, 1000, ((PIXEL, PIXEL, PIXEL),) if "dependence" in parts else ())


def make_report(*models):
    run = records.start("report", parameters={}, seed=0, size="laptop", data="made up")
    sides = dict.fromkeys(m.profile.shape[-1] for m in models)
    rgb = tuple(make_profile(f"RGB at {n}×{n}", "rgb", n, None, 0.05) for n in sides)
    plan = Plan(cut_ratios=(0.0, 0.75), cutoffs=(0.1, 0.2, 0.7072), edges=EDGES, rgb_edges=(0.0, 0.1, 0.7072))
    images = Images(None, ("a.png", "b.png", "c.png"), "3 images", (("d.txt", "no image"),))
    return Report(
        Options(samples=4, resolution=32), plan, models, rgb, images, run.finish(), (0.9, 0.1), ("a.png", "c.png"),
        (("a.png", PIXEL),),
    )  # fmt: skip
