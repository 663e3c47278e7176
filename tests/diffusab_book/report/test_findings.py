"""Sentences of a report: each threshold from both sides, and no number that was not measured."""

import importlib
import shlex
from dataclasses import replace

import pytest
from made_up import EDGES, make_model, make_noise, make_parts, make_profile, make_report

from diffusab_book.cli import COMMANDS, options
from diffusab_book.report import findings as f
from diffusab_book.report.results import Model


def say(topic, **changes):
    """The sentences of a topic for made-up numbers, some of them changed."""
    made = make_parts()[topic]
    return f.say(topic, f.FACTS[topic]({**made, **changes}))


def say_noise(*args, **changes):
    return f.say("noise", f.FACTS["noise"](make_noise(*args, **changes)))


def says(text, words, word):
    """Of some words exactly one is said."""
    return [w for w in words if w in text] == [word]


@pytest.mark.parametrize(
    ("left", "word"),
    [(29.01, "costs little"), (28.99, "costs fidelity"), (24.01, "costs fidelity"), (24.0, "costs much")],
)
def test_cut(left, word):
    said = say("cut", ratios=[0.0, 0.45, 0.75], latent=[30.0, 30.0, left], rgb=[None, 70.0, 60.0])
    assert says(said, ("costs little", "costs fidelity", "costs much"), word)
    assert "75%" in said
    assert f"30.0 dB before and {left:.1f} dB after" in said


@pytest.mark.parametrize(
    ("left", "word"), [(25.98, "more"), (26.0, "about as much"), (27.98, "about as much"), (28.0, "less")]
)
def test_cut_beside_that_of_rgb(left, word):
    """Two equal errors add to one that is 3 dB worse."""
    said = say("cut", latent=[30.0, left], rgb=[None, 30.0])
    assert says(said, ("loses more", "loses about as much", "loses less"), f"loses {word}")
    assert "leaves 30.0 dB" in said
    assert "before the cut 27.0 dB:" in said


def test_cut_of_a_perfect_autoencoder_is_rgbs_own():
    said = say("cut", latent=[None, 25.0], rgb=[None, 25.0])
    for words in ("∞ dB before and 25.0 dB after, on 3 images", "the cut 25.0 dB: the latent loses about as much"):
        assert words in said
    assert f.both_errors(None, None) is None
    assert f.both_errors(None, 20.0) == pytest.approx(20)
    assert f.both_errors(20.0, 20.0) == pytest.approx(20 - 3.0103, abs=1e-3)


@pytest.mark.parametrize(
    ("share", "word"),
    [(0.0099, "practically deterministic"), (0.01, "somewhat noisy"), (0.0999, "somewhat noisy"), (0.1, "are noisy")],
)
def test_noise(share, word):
    assert says(say_noise(share), ("practically deterministic", "somewhat noisy", "are noisy"), word)


def test_noise_of_channels_and_frequencies():
    said = say_noise(0.3, (0.5, 0.51, 0.9), (0.1, 0.5, 0.51) + (0.6,) * 61)
    assert "2 of 3 channels" in said
    assert "Every channel is more noise than signal (2 of 2)." in say_noise(0.9, (0.9, 0.9), (0.9,) * 64)
    assert "rank 2 of 63" in said
    assert "every frequency" in say_noise(0.9, (0.9, 0.9), (0.9,) * 64)
    quiet = say_noise(0.3, (0.5, 0.5), (0.5,) * 64)
    assert "channels are more" not in quiet
    assert "rank" not in quiet
    assert "1.5 nats" in quiet
    assert "infinite" in say_noise(averaged_kl=None)
    point = say_noise(0.0, (0.0,), (0.0,) * 64, deterministic=True, averaged_kl=None)
    assert "is deterministic" in point
    assert "infinite" not in point


@pytest.mark.parametrize(
    ("apart", "word"),
    [(None, "nearly"), (30.0, "nearly"), (29.9, "to a degree"), (20.1, "to a degree"), (20.0, "far from")],
)
def test_scale(apart, word):
    said = say("scale", to_reconstruction_db=[apart, 15.0], ceiling_db=[31.0, None])
    assert says(said, ("nearly", "to a degree", "far from"), word)
    for number in ("by 2", "20.0 dB", "31.0 dB", "by 4", "18.0 dB", "∞ dB"):
        assert number in said
    assert "by 4" not in say("scale", scales=[2], to_image_db=[20.0], to_reconstruction_db=[apart], ceiling_db=[31.0])


@pytest.mark.parametrize(
    ("low", "word"), [(29.01, "hardly needs"), (28.99, "needs"), (24.01, "needs"), (24.0, "strongly")]
)
def test_dependence(low, word):
    said = say("dependence", low_db=low)
    assert (("hardly" in said), ("strongly" in said)) == (word.startswith("hardly"), word == "strongly")
    for number in (f"{low:.1f} dB", "30.0 dB", "11.0 dB", "0 to 0.25 (20.0 dB, 3 images)"):
        assert number in said


def test_a_decoder_that_misses_no_band():
    said = say("dependence", psnr_without=[29.96] * 3)
    assert "0.1 dB" in said
    assert "costs most" not in said


@pytest.mark.parametrize(("fine", "worst"), [(0.91, None), (0.9, None), (0.89, "ranks 1 to 31")])
def test_stake(fine, worst):
    said = say("stake", permuted=[0.5, 0.9, fine])
    for words in ("ranks 32 to 63", f"{fine:.2g} from", "1.2", "60", "12 crops of 64 pixels"):
        assert words in said
    assert ("No other band" in said) == (worst is None)
    assert worst is None or f"Permuting {worst} costs most, 0.9" in said
    assert "Permuting rank 0 costs most" in say("stake", permuted=[2.0, 0.9, fine])


@pytest.mark.parametrize(
    ("psnr", "flat", "poor"),
    [(14.99, 12.0, True), (15.0, 12.0, False), (None, 12.0, False), (20.0, 20.1, True), (20.0, None, True),
     (None, None, False)],
)  # fmt: skip
def test_a_model_that_does_not_reconstruct_is_said_to(psnr, flat, poor):
    """By the limit, or because one colour for each image would be nearer."""
    said = say("reconstruction", psnr_db=psnr, flat_db=flat)
    assert ("does not reconstruct" in said, "One flat colour" in said) == (poor, poor)
    assert ("± 1.0 dB" in said, "0.900" in said, "LPIPS was not measured" in said) == (True, True, True)
    bare = say("reconstruction", psnr_db=psnr, psnr_spread_db=None, ssim=None, lpips=0.25)
    assert ("±" in bare, "SSIM" in bare, "0.250" in bare) == (False, False, True)


@pytest.mark.parametrize(
    ("error", "word"), [(0.499, "mostly recovered"), (0.5, "partly"), (0.899, "partly"), (0.9, "are not recovered")]
)
def test_gratings(error, word):
    said = say("gratings", reconstruction_error=[0.1, 5.0, error - 0.01, error + 0.01])
    assert says(said, ("mostly recovered", "partly", "are not recovered"), word)
    assert "gratings 0.10" in said  # the one that is beyond in one direction only is in neither mean
    assert "70%" in said
    assert "30%" in said
    assert "coarser" not in say("gratings", beyond_nyquist=[0.5, 0.5, 1.0, 1.0])


def test_gratings_that_say_nothing():
    assert "nothing is known" in say("gratings", beyond_nyquist=[0.0, 0.0, 0.5, 0.5])
    nothing = {"folded_share": [0.0, 0.0, None, None], "spread_share": [0.0, 0.0, None, None]}
    assert "hardly responds" in say("gratings", **nothing)
    assert "does not respond" in say("gratings", reconstruction_error=[0.1, 5.0, None, None])


@pytest.mark.parametrize(
    ("fine", "word"), [(1.06, "raises"), (1.04, "about the same"), (0.96, "about the same"), (0.94, "lowers")]
)
def test_cutoff(fine, word):
    said = say("cutoff", amplitude=[[2.0, 0.5, 0.5], [2.0, fine, fine], [2.0, 1.0, 1.0]])
    assert says(said, ("raises", "about the same", "lowers"), word)
    assert "beyond 0.2" in said
    assert f"{fine:.2f} times" in said
    assert ("It is largest" in said) == (fine > 1.05)


def test_fine_bands_begin_at_a_quarter():
    cutoff = {"radii": (0.1, 0.7072), "edges": EDGES, "amplitude": ((5.0, 1.0, 3.0), (1.0, 2.0, 2.0))}
    assert f.fine_amplitude(cutoff) == pytest.approx([1.0, 1.0])  # (1/2 + 3/2) / 2


WHITE = 32 / 63


@pytest.mark.parametrize(
    ("share", "image", "word"),
    [
        (0.81 * WHITE, 0.5, "close to white noise"),
        (0.79 * WHITE, 0.1, "flatter than images"),
        (0.126, 0.1, "flatter than images"),
        (0.124, 0.1, "about as images"),
        (0.081, 0.1, "about as images"),
        (0.079, 0.1, "faster than images"),
    ],
)
def test_spectrum(share, image, word):
    model, rgb = Model(make_profile(share=share)), make_profile(kind="rgb", share=image)
    said = f.say("spectrum", f.FACTS["spectrum"](model, rgb, 8))
    assert says(said, ("close to white noise", "flatter than images", "about as images", "faster than images"), word)
    assert "mean_ratio" not in said


def test_a_statistic_that_misleads_and_blocks_left_out_are_said():
    profile = make_profile()
    curves = {**profile.profiles, "mean_ratio": [1.0] * 63 + [3.1 / 64]}
    model = Model(replace(profile, profiles=curves, excluded_blocks=5))
    assert "5 of 12 blocks" in f.say("spectrum", f.FACTS["spectrum"](model, profile, 8))
    said = f.warn_of_means(make_report(model, make_model("sound")))
    assert said.startswith("Do not compare a by it: ")
    assert "3.1 times the median" in said
    assert "sound" not in said
    above_the_histogram = replace(profile, profiles={**profile.profiles, "median_ratio": [1.0] * 63 + [None]})
    assert f.warn_of_means(make_report(Model(above_the_histogram))) == ""


def test_every_topic_is_told_and_what_was_not_measured_says_why():
    model = make_model()
    found = f.findings(make_report(model), model)
    assert list(found) == [topic for topic in f.TITLES if topic not in f.OPTIONAL]
    assert all(found.values())
    lacking = replace(make_model(without=("scale", "gratings")), not_measured={"scale": "one size only"})
    said = f.findings(make_report(lacking), lacking)
    assert said["scale"] == "Not measured: one size only."
    assert said["gratings"].startswith("Not measured: ")
    assert list(f.findings(replace(make_report(model), plan=None), model)) == ["spectrum"]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"share": 0.45}, ("close to white noise", "45%", "decoder loses 5.0 dB")),
        ({"share": 0.2}, ("flatter than that of images", "20%", "decoder loses 5.0 dB")),
        ({"without": ("cut", "reconstruction")}, ("Fine detail holds",)),
    ],
)
def test_the_headline_takes_the_first_thing_to_know(made, said):
    model = make_model(**made)
    text = f.headline(make_report(model), model)
    assert all(word in text for word in said)
    assert ("decoder" in text) == ("without" not in made)


LOUD = make_noise(0.977, by_channel=(0.98, 0.97, 0.99, 0.98))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"psnr": 11.2, "flat": 16.2, "noise": LOUD},
         ("its PSNR of 11.2 dB is worse than the 16.2 dB of one flat colour for each image. Are its weights loaded?",
          "Noise is 98% of the variance of a sample of the posterior, and more than half in each of its 4 channels.")),
        ({"psnr": 14.0}, ("its PSNR is 14.0 dB, that of one flat colour for each image 12.0 dB.",)),
        ({"psnr": 14.0, "without": ("noise",)}, ("does not reconstruct these images",)),
    ],
)  # fmt: skip
def test_the_headline_of_a_model_that_does_not_reconstruct(made, said):
    """Nothing is said of its decoder, above all not that it hardly misses the fine frequencies."""
    model = make_model(left=made["psnr"] - 0.1, **made)
    text = f.headline(make_report(model), model)
    assert all(words in text for words in said)
    assert "decoder" not in text
    assert "Noise" in text or "noise" not in made


def test_what_is_void_is_not_found():
    poor, sound = make_model("poor", psnr=14.0, without=("scale",)), make_model("sound")
    report = make_report(poor, sound)
    said = f.findings(report, poor)
    assert set(f.findings(report, sound)) - set(said) == {"cut", "dependence", "stake", "gratings"}
    assert said["scale"] == "Not measured: no scale."
    assert "left out of these sentences" in said["reconstruction"]
    assert f.find_poor(report) == ["poor"]


def test_next_steps_are_for_the_models_that_need_them():
    flat, steep = make_model("flat", share=0.2), make_model("steep", share=0.01)
    noisy = make_model("noisy", share=0.01, noise=make_noise(by_channel=(0.6, 0.7)))
    steps = {step["models"][0] + " " + step["text"].partition(" ")[0]: step for step in
             f.next_steps(make_report(flat, steep, noisy))}  # fmt: skip
    assert [(key, step["models"]) for key, step in steps.items()] == [
        ("flat Train", ["flat", "steep", "noisy"]), ("flat Try", ["flat"]), ("noisy Every", ["noisy"]),
    ]  # fmt: skip
    half = make_model("half", share=0.01, noise=make_noise(by_channel=(0.6, 0.4)))
    of_channels = [step for step in f.next_steps(make_report(noisy, half)) if "channel" in step["text"]]
    assert [(step["text"].partition(" ")[0], step["models"]) for step in of_channels] == [
        ("Every", ["noisy"]), ("Some", ["half"]),
    ]  # fmt: skip
    alone = f.next_steps(make_report(steep))
    assert [step["text"].partition(" ")[0] for step in alone] == ["Train", "Put"]


@pytest.mark.parametrize("device", ["cpu: x86_64, 2 cores", "cuda: NVIDIA H200"])
def test_commands_of_next_steps_are_commands(device):
    """Each is taken by its command's parser, with names that a shell would take apart, and an oblong resolution."""
    model = make_model("a", share=0.2, noise=make_noise(by_channel=(0.6, 0.1)))
    model = replace(model, profile=replace(model.profile, source="my model;x:vae"))
    report = make_report(model, make_model("b", psnr=10.0))
    report = replace(report, record=report.record.model_copy(update={"device": device}))
    asked = replace(report.options, images="my images", resolution="32x48", image_key="*.jpg", allow_empty=True)
    report = replace(report, options=asked)
    commands = [shlex.split(command) for step in f.next_steps(report) for command in step["commands"]]
    assert {words[1] for words in commands} >= {"extract", "train", "sample", "evaluate-samples", "finetune", "report"}
    for program, name, *words in commands:
        importlib.import_module(f"diffusab_book.cli.{COMMANDS[name]}")
        with options.REGISTERED[name].make_context(name, list(words)) as context:
            given = context.params
        assert program == "diffusab"
        if name in ("extract", "report", "finetune", "profile") and given["images"] != "photos":
            assert (given["images"], given["resolution"]) == ("my images", 32 if name == "finetune" else "32x48")
        if "my images" in words:
            assert (given["image_key"], given["allow_empty"]) == ("*.jpg", True), name
    assert not any("--samples" in words for words in commands if words[1] == "extract")
    known = next(words for words in commands if words[-1] == "report-known")
    assert known[3:] == ["--images", "photos", "--resolution", "32", "--out", "report-known"]
    built_in = [step["commands"][0] for step in f.next_steps(make_report(model)) if "denoiser" in step["text"]]
    assert built_in[0] == "diffusab extract 'my model;x:vae' latents --images photos --resolution 32 --samples 1024"
    assert "my model;x:vae" in next(words for words in commands if words[1] == "extract")


@pytest.mark.parametrize(
    ("images", "frames", "known"),
    [("mine", None, "photos"), (None, None, "leaves"), ("photos", None, "leaves"), ("mine", 5, "leaves --frames 5")],
)
def test_a_model_that_does_not_reconstruct_is_tried_on_other_images(images, frames, known):
    report = make_report(make_model("a", psnr=10.0))
    report = replace(report, options=replace(report.options, images=images, frames=frames))
    (only,) = f.next_steps(report)  # all else waits for a model that reconstructs
    assert "[-1, 1]" in only["text"]
    assert only["commands"] == [
        f"diffusab report a --images {known} --resolution 32 --out report-known",
        f"diffusab report a --images {images or 'photos'} --resolution 32{' --frames 5' if frames else ''}",
    ]


def test_suggestions_fit_the_machine_that_the_report_was_made_on():
    def suggest(device):
        report = make_report(make_model("a", share=0.2))
        record = report.record.model_copy(update={"device": device})
        steps = f.next_steps(replace(report, record=record))
        return [step["text"] for step in steps], [command for step in steps for command in step["commands"]]

    texts, commands = suggest("cpu: x86_64, 2 cores, 1 thread used")
    assert "diffusab train latents denoiser --denoiser DiT-XXS/2 --batch-size 32 --steps 600" in commands
    assert "diffusab sample denoiser samples --samples 64 --steps 50" in commands
    tuned = [command for command in commands if " finetune " in command]
    assert len(tuned) == 2
    assert all(" --steps 100 --batch-size 4 --out " in command for command in tuned)
    assert sum("for a processor" in text for text in texts) == 2
    texts, commands = suggest("cuda: NVIDIA H200")
    assert "diffusab train latents denoiser --steps 10000" in commands
    assert "diffusab sample denoiser samples --samples 1000" in commands
    assert not any("--batch-size" in command for command in commands)
    assert not any("for a processor" in text for text in texts)


def test_lpips_that_was_not_measured_says_how_it_could_be():
    model = make_model()
    lacking = replace(model, not_measured={"lpips": "no weights; get them with `curl`"})
    said = f.findings(make_report(lacking), lacking)["reconstruction"]
    assert "LPIPS was not measured: no weights; get them with `curl`." in said


def test_models_are_compared_where_the_digits_differ():
    assert f.compare(make_report(make_model()))[1] == []
    first, second = make_model("a", share=0.1, psnr=30.0), make_model("b", share=0.2, psnr=31.0)
    said = f.compare(make_report(first, second))[1]
    assert any(s.startswith("Steepest spectrum") and "a, 10% (b 20%)" in s for s in said)
    assert any(s.startswith("Highest PSNR of reconstructions") and "b, 31.0 dB (a 30.0 dB)" in s for s in said)
    assert not any("scale" in s for s in said)  # both the same
    assert not any("low part" in s for s in said)  # both the same


def test_a_perfect_model_is_compared_as_the_best():
    models = [make_model(name, psnr=psnr, apart=psnr) for name, psnr in (("a", 20.0), ("b", None), ("c", 30.0))]
    said = f.compare(make_report(*models))[1]
    assert sum("b, ∞ dB (c 30.0 dB, a 20.0 dB)" in s for s in said) == 2
    point = make_model("b", psnr=None)
    point.parts["dependence"] |= {"psnr_whole": None, "psnr_without": [10.0, 22.0, None]}
    told = f.findings(make_report(point), point)["dependence"]
    assert "costs most is 0 to 0.25, without which PSNR is 10.0 dB (3 images)" in told
    assert "inf" not in told


def test_side_by_side_has_a_cell_for_each_model():
    point = make_noise(0.0, (0.0,), (0.0,) * 64, deterministic=True, averaged_kl=None)
    report = make_report(make_model("first"), make_model("second", 8, side=4, without=("gratings",), noise=point))
    rows, _ = f.compare(report)
    assert {len(row) for row in rows} == {3}
    cells = {row[0]: tuple(row[1:]) for row in rows}
    assert len(cells) == len(rows)
    assert cells["PSNR, dB"] == ("30.0", "30.0")
    assert cells["PSNR with 75% of frequencies cut, dB"] == ("25.0", "25.0")
    assert cells["Dec(S z) to S Dec(z) at ×4, dB"] == ("∞", "∞")
    assert cells["Compression of each side"] == ("4×", "8×")
    assert cells["Channels that are more noise than signal"] == ("0 of 4", "deterministic")
    assert cells["LPIPS (AlexNet)"] == ("not measured",) * 2
    assert cells["Folded share of their response"] == ("70%", "–")
    assert cells["Parameters"] == ("1,000", "1,000")


def test_numbers_are_written_for_readers():
    assert [f.percent(v) for v in (0.0, 5e-6, 0.0123, 0.5)] == ["0%", "less than 0.001%", "1.2%", "50%"]
    assert [f.number(v) for v in (1.234, 123.4, 12345.0)] == ["1.2", "123", "12,345"]
    assert [f.db(v) for v in (None, 30.04)] == ["∞ dB", "30.0 dB"]


def test_a_condition_with_a_name_that_no_fact_has_is_an_error():
    with pytest.raises(Exception, match="'losst' is undefined"):
        f.choose({"losst < 1": "never"}, {"lost": 2})
