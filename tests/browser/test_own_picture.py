"""The page "Your own picture", opened from a disk: its numbers beside Python's, files, keyboard, phone and paper."""

import math
import re
from types import SimpleNamespace

import numpy as np
import own_picture_page
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from test_pages import AXE, PHONE, SERIOUS, STICKING_OUT, reading

from diffusab_core import autoencoders, flow, spectrum
from diffusab_core.data import resize_to, rgb01
from diffusab_core.methods.reshaping import filter_gains
from diffusab_core.metrics import psnr

pytestmark = pytest.mark.browser

READY = "() => [...document.querySelectorAll('[data-own-picture]')].every(box => box.dataset.state === 'ready')"
RANKS = spectrum.zigzag_order(8)


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    return own_picture_page.write(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """A PNG of the page's own size and what Python makes of it: waves of many lengths, no two channels alike."""
    generator = torch.Generator().manual_seed(0)
    waves = sum(F.interpolate(torch.rand(1, 3, n, n, generator=generator), (192, 192), mode="bicubic") / n**0.5
                for n in (3, 12, 48, 192))  # fmt: skip
    waves = (waves - waves.min()) / (waves.max() - waves.min())
    pixels = (waves[0].permute(1, 2, 0) * 255).round().byte().numpy()
    file = tmp_path_factory.mktemp("picture") / "mine.png"
    Image.fromarray(pixels).save(file)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
    autoencoder = autoencoders.load("kl-f4c16")
    with torch.no_grad():
        z = autoencoder.encode(x).mean
    return SimpleNamespace(file=file, x=x, z=z, small=resize_to(x, 48, 48), decode=autoencoder.decode)


@pytest.fixture(scope="module")
def page(browser, page_file, picture):
    """The page with that picture in it. Whatever it asks for after loading is in ``page.asked``."""
    with reading(browser, page_file.parent.as_uri(), viewport={"width": 1000, "height": 900}) as page:
        page.goto(page_file.as_uri())
        page.wait_for_load_state("load")
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.locator("input[type=file]").set_input_files(picture.file)
        wait(page, "mine.png")
        page.wait_for_function(READY, timeout=60_000)
        yield page


@pytest.fixture(scope="module")
def modules(browser, page_file):
    """The page's modules, with nothing running."""
    page = browser.new_page()
    for name in own_picture_page.book_picture.SCRIPTS[:-1]:
        page.add_script_tag(path=str(page_file.parent / name))
    yield page
    page.close()


def wait(page, name):
    """Until a picture is the chosen one."""
    page.wait_for_function("name => document.querySelector('.own-chosen').ariaLabel.includes(name)", arg=name)


def explorer(page, name):
    return page.locator(f"[data-own-picture={name}]")


def curves(page, name):
    series = explorer(page, name).locator(".own-plot").evaluate("box => box.spec.series")
    return [np.array(entry["values"]) for entry in series]


def note(page, name, number):
    return explorer(page, name).locator(".own-note").nth(number).inner_text()


def place(page, name, number, position, value):
    """Move a slider to a position, where it says a value, and wait for what it shows."""
    slider = explorer(page, name).locator("input[type=range]").nth(number)
    move = "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})); }"
    slider.evaluate(move, str(position))
    assert explorer(page, name).locator("output").nth(number).inner_text() == value
    page.wait_for_function(READY, timeout=60_000)


def energies(x):
    """As Chapter 3: of standardised channels, in zigzag order."""
    standard = (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)
    return spectrum.block_dct(standard).square().mean((0, 1, 2, 3)).flatten()[RANKS].double()


def send(x):
    c, h, w = x.shape
    return {"c": c, "h": h, "w": w, "data": x.flatten().tolist()}


def received(answer):
    return torch.tensor(answer["data"], dtype=torch.float64).reshape(answer["c"], answer["h"], answer["w"])


TAKE = "x => ({...x, data: Float64Array.from(x.data)})"
GIVE = "y => ({...y, data: [...y.data]})"


def call(modules, module, name, x, *rest):
    script = f"""([x, rest]) => ({GIVE})(ownPicture.use("{module}").{name}(({TAKE})(x), ...rest))"""
    return received(modules.evaluate(script, [send(x), list(rest)]))


# ---------------------------------------------------------------------------------------------------------------------
# Modules


@pytest.mark.parametrize("block_size", [4, 8, 32])
def test_the_block_dct_is_pythons(modules, block_size):
    x = torch.rand(2, 64, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    d = spectrum.block_dct(x, block_size)
    there = call(modules, "dct", "blockDct", x, block_size)
    assert torch.allclose(there, d.transpose(-2, -3).reshape(x.shape), atol=1e-12)
    assert torch.allclose(call(modules, "dct", "blockIdct", there, block_size), x, atol=1e-12)
    order = modules.evaluate(f"ownPicture.use('dct').zigzag({block_size})")
    assert order == spectrum.zigzag_order(block_size).tolist()


@pytest.mark.parametrize("share", [1, 0.75, 0.4, 0.3, 0.03, 0.3 / 16])
def test_a_cut_keeps_what_pythons_keeps(modules, share):
    x = torch.rand(1, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for block_size in (8, 32):
        kept = spectrum.chop_high_frequencies(x, 1 - share, block_size)
        there = call(modules, "dct", "lowPass", call(modules, "dct", "blockDct", x, block_size), share, block_size)
        assert torch.allclose(there, kept, atol=1e-12)


@pytest.mark.parametrize("size", [(48, 48), (16, 40), (100, 30)])
def test_resizing_is_pythons(modules, size):
    x = torch.rand(3, 64, 80, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(call(modules, "pixels", "resize", x, *size), resize_to(x, *size).double(), atol=1e-5)


def test_noise_is_white_gaussian_and_always_the_same(modules):
    noise = call(modules, "pixels", "drawNoise", torch.zeros(3, 64, 64), 5).flatten()
    assert torch.equal(noise, call(modules, "pixels", "drawNoise", torch.zeros(3, 64, 64), 5).flatten())
    assert not torch.equal(noise, call(modules, "pixels", "drawNoise", torch.zeros(3, 64, 64), 6).flatten())
    error = len(noise) ** -0.5
    assert abs(noise.mean()) < 5 * error
    assert abs(noise.var() - 1) < 5 * math.sqrt(2) * error
    assert abs((noise**4).mean() - 3) < 5 * math.sqrt(96) * error
    assert abs((noise[1:] * noise[:-1]).mean()) < 5 * error


@pytest.mark.parametrize("fast", [True, False], ids=["WebAssembly", "JavaScript"])
def test_the_autoencoder_is_torchs_to_single_precision(modules, picture, fast):
    x = picture.x[0, :, 40:72, 56:96]  # (3, 32, 40): rows that are no multiple of what is computed at once
    autoencoder = autoencoders.load("kl-f4c16")
    with torch.no_grad():
        z = autoencoder.encode(x[None]).mean
        y = autoencoder.decode(z)
    z_there, y_there, used = modules.evaluate(
        f"""([x, fast]) => {{
          const {{bits, ...model}} = ownPicture.use("autoencoder");
          const bytes = Uint8Array.from(atob(bits), (character) => character.charCodeAt(0));
          const {{unpack, build}} = ownPicture.use("network");
          const kernels = ownPicture.use("kernels").makeKernels(fast);
          const network = build(unpack({{...model, bits: new Uint16Array(bytes.buffer)}}), () => {{}}, kernels);
          const z = network.encode(({TAKE})(x));
          return [({GIVE})(z), ({GIVE})(network.decode(z)), network.fast];
        }}""",
        [send(x), fast],
    )
    assert used == fast
    assert z.abs().max() > 1
    assert (received(z_there) - z[0].double()).abs().max() < 5e-5
    assert (received(y_there) - y[0].double()).abs().max() < 5e-5


# ---------------------------------------------------------------------------------------------------------------------
# The page


def test_cut_and_profiles_are_pythons(page, picture):
    place(page, "cut", 0, 5, "20%")
    x, z = picture.x, picture.z
    with torch.no_grad():
        decoded = picture.decode(spectrum.chop_high_frequencies(z, 0.8))
    cuts = [spectrum.chop_high_frequencies(x, ratio, 32) for ratio in (0.8, 1 - 0.2 / 16)]
    for number, y in enumerate([*cuts, decoded]):
        assert float(re.search(r"[\d.]+", note(page, "cut", number))[0]) == pytest.approx(psnr(y, x).item(), abs=0.051)
    menu = explorer(page, "cut").locator("select")
    for statistic in spectrum.STATISTICS:
        menu.select_option(statistic)
        found = curves(page, "cut")
        for there, here in zip(found, (rgb01(picture.small), z), strict=True):
            # Ratios to a D₀₀ near zero magnify the single precision of the latent.
            wanted = spectrum.frequency_profile(here.double(), 8, statistic)
            assert there == pytest.approx(wanted.numpy(), rel=2e-2 if statistic == "mean_ratio" else 1e-3)


def test_what_drowns_is_what_drowns_in_python(page, picture):
    place(page, "noise", 0, 7, "0.4")
    ratios = [flow.frequency_snr(energies(x), 0.4) for x in (picture.small, picture.z)]
    for there, wanted in zip(curves(page, "noise"), [*ratios, torch.full((64,), 2.25)], strict=True):
        assert there == pytest.approx(wanted.numpy(), rel=1e-3)
    for number, ratio in enumerate(ratios):
        assert note(page, "noise", number).startswith(f"{(ratio < 1).sum()} of 64 ranks")
    assert 0 < (ratios[0] < 1).sum() < 64


def test_the_dial_is_pythons(page, picture):
    place(page, "dial", 0, 2, "0.5")
    place(page, "dial", 1, 6, "0.6")
    lam = energies(picture.z)
    gains = filter_gains(lam, 0.5)
    encoded, dialled, noise = curves(page, "dial")
    assert encoded == pytest.approx((0.16 * lam).numpy(), rel=1e-3)
    assert dialled == pytest.approx((0.16 * gains**2 * lam).numpy(), rel=1e-3)
    assert noise == pytest.approx(0.36)
    assert dialled.sum() == pytest.approx(encoded.sum())
    # Without noise the filter is undone: what is decoded is the plain reconstruction.
    place(page, "dial", 1, 0, "0")
    with torch.no_grad():
        wanted = psnr(picture.decode(picture.z), picture.x).item()
    assert float(re.search(r"[\d.]+", note(page, "dial", 2))[0]) == pytest.approx(wanted, abs=0.051)


def test_sliders_move_by_the_keyboard(page):
    slider = explorer(page, "cut").locator("input[type=range]")
    canvas = explorer(page, "cut").locator("canvas").first
    place(page, "cut", 0, 2, "50%")
    before = canvas.evaluate("c => c.toDataURL()")
    explorer(page, "choose").locator("button").focus()
    page.keyboard.press("Tab")
    assert slider.evaluate("e => e === document.activeElement")
    page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "40%"
    page.wait_for_function(READY, timeout=60_000)
    assert canvas.evaluate("c => c.toDataURL()") != before


def test_nothing_is_asked_for_once_the_page_is_there(page):
    assert [url for url in page.asked if not url.startswith("blob:")] == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(page, theme):
    page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
    if not page.evaluate("'axe' in window"):
        page.add_script_tag(path=str(AXE))
    assert page.evaluate(SERIOUS, False) == []


def test_on_paper_are_pictures_and_curves_and_nothing_to_press(page):
    page.emulate_media(media="print")
    try:
        pressed = page.locator("[data-own-picture] :is(button, input, label[for=own-file])")
        assert pressed.count() > 5
        assert not any(each.is_visible() for each in pressed.all())
        for box in page.locator(".own-pictures canvas, .own-plot > svg").all():
            shown = box.bounding_box()
            assert shown["width"] > 100
            assert shown["x"] + shown["width"] <= 1000
        assert explorer(page, "cut").locator("output").is_visible()
    finally:
        page.emulate_media(media="screen")


def test_dropping_pasting_and_what_is_no_picture(page):
    hand_over = """([type, name, colour]) => new Promise(done => {
      const canvas = Object.assign(document.createElement('canvas'), {width: 30, height: 50});
      const context = canvas.getContext('2d');
      context.fillStyle = colour;
      context.fillRect(0, 0, 30, 50);
      canvas.toBlob(blob => {
        const data = new DataTransfer();
        data.items.add(new File([blob], name, {type: 'image/png'}));
        const target = document.querySelector('[data-own-picture=choose]');
        const how = {bubbles: true, cancelable: true};
        target.dispatchEvent(type === 'drop' ? new DragEvent('drop', {...how, dataTransfer: data})
          : new ClipboardEvent('paste', {...how, clipboardData: data}));
        done();
      });
    })"""
    pixel = """async () => {
      const copy = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
      copy.drawImage(document.querySelector('.own-chosen'), -90, -90);
      return [...copy.getImageData(0, 0, 1, 1).data];
    }"""
    page.evaluate(hand_over, ["drop", "green.png", "rgb(0, 200, 0)"])
    wait(page, "green.png")
    assert page.evaluate(pixel) == [0, 200, 0, 255]
    page.evaluate(hand_over, ["paste", "any.png", "rgb(0, 0, 200)"])
    wait(page, "pasted")
    assert page.evaluate(pixel) == [0, 0, 200, 255]
    page.locator("input[type=file]").set_input_files(
        {"name": "letter.txt", "mimeType": "text/plain", "buffer": b"no picture"}
    )
    page.wait_for_function("() => /cannot read letter.txt/.test(document.querySelector('.own-status').textContent)")
    assert page.evaluate(pixel) == [0, 0, 200, 255], "the picture that was there stays"
    page.wait_for_function(READY, timeout=60_000)  # and is encoded, though that had to wait for the green one
    assert page.locator(".own-status").inner_text() == "Your browser cannot read letter.txt as a picture."
    page.get_by_role("button", name="The book's picture").click()
    wait(page, "The book's picture")
    assert "letter.txt" not in page.locator(".own-status").inner_text()


def test_it_fits_a_phone(browser, page_file):
    with reading(browser, page_file.parent.as_uri(), **PHONE) as page:
        page.goto(page_file.as_uri())
        page.wait_for_function("() => document.querySelectorAll('.own-plot > svg').length === 3", timeout=60_000)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate(STICKING_OUT) == []
        assert all(box["width"] > 100 for box in (each.bounding_box() for each in page.locator("canvas").all()))
        sizes = page.locator(".own-plot text").evaluate_all("all => all.map(t => t.getBoundingClientRect().height)")
        assert min(sizes) > 9, "the labels are not shrunk with the drawing"
