"""Image files: read as a viewer shows them on a white page, written only if they are finite."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from thalweg.errors import MissingPathError, NotFiniteError, UsageError
from thalweg.io import image_files
from thalweg.io.image_files import png, png_size, read_image, read_mask

RED, BLUE = (255, 0, 0), (0, 0, 255)


def saved(path: Path, image: Any, **options: Any) -> Path:
    image.save(path, **options)
    return path


def red_and_blue(mode: str = "RGB") -> Any:
    """Red on the left, blue on the right, 4 x 2 px."""
    image = Image.new("RGB", (4, 2), RED)
    image.paste(BLUE, (2, 0, 4, 2))
    return image.convert(mode)


@pytest.mark.parametrize("rotation", [3, 6, 8])
def test_exif_orientation_is_applied(tmp_path: Path, rotation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = rotation
    read = read_image(saved(tmp_path / "rotated.png", red_and_blue(), exif=exif))
    assert read.shape == ((3, 2, 4) if rotation == 3 else (3, 4, 2))
    corners = {3: (2, 0), 6: (0, 2), 8: (2, 0)}[rotation]  # the channel that the first and the last pixel show
    assert (int(read[:, 0, 0].argmax()), int(read[:, -1, -1].argmax())) == corners


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "L", "RGB"])
def test_transparent_pixels_are_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    if mode in ("P", "L", "RGB"):
        image = Image.new(mode, (2, 1), 0)
        image.putpixel((1, 0), {"P": 1, "L": 9, "RGB": (9, 9, 9)}[mode])
        if mode == "P":
            image.putpalette([0, 0, 0, 9, 9, 9])
        path = saved(tmp_path / "a.png", image, transparency={"P": 1, "L": 9, "RGB": (9, 9, 9)}[mode])
    else:
        path = saved(tmp_path / "a.png", image.convert(mode) if mode != "PA" else image)
    read = read_image(path)
    assert torch.equal(read[:, 0, 0], torch.zeros(3))
    assert torch.equal(read[:, 0, 1], torch.ones(3))


def test_partly_transparent_pixels_are_blended_with_white(tmp_path: Path) -> None:
    path = saved(tmp_path / "half.png", Image.new("RGBA", (1, 1), (255, 0, 0, 51)))
    torch.testing.assert_close(read_image(path).flatten(), torch.tensor([1.0, 0.8, 0.8]), rtol=0, atol=1 / 255)


def test_greys_of_more_than_8_bits_keep_their_brightness(tmp_path: Path) -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    expected = torch.tensor(values.astype(np.float32) / 65535)
    for name in ("deep.png", "deep.tif"):
        path = saved(tmp_path / name, Image.fromarray(values))
        torch.testing.assert_close(read_mask(path), expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(read_image(path)[2], expected)
    whole = saved(tmp_path / "whole.tif", Image.fromarray(values.astype(np.int32)))
    torch.testing.assert_close(read_mask(whole), expected, rtol=0, atol=1e-6)
    shares = saved(tmp_path / "shares.tif", Image.fromarray(np.array([[0, 0.25, 1]], np.float32)))
    torch.testing.assert_close(read_mask(shares), torch.tensor([[0, 0.25, 1]]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("values", [[0.0, 200.0], [-1.0, 0.5], [0.0, np.nan]])
def test_values_out_of_range_are_invalid(tmp_path: Path, values: list[float]) -> None:
    path = saved(tmp_path / "height.tif", Image.fromarray(np.array([values], np.float32)))
    with pytest.raises(UsageError, match=r"height.tif: expected (greys from 0 to 1|finite values)"):
        read_image(path)


@pytest.mark.parametrize("mode", ["1", "CMYK", "YCbCr"])
def test_other_modes(tmp_path: Path, mode: str) -> None:
    image = red_and_blue().convert("L").point(lambda value: 255 * (value > 50)).convert(mode)
    suffix = {"1": ".png", "CMYK": ".tif", "YCbCr": ".jpg"}[mode]
    read = read_image(saved(tmp_path / f"other{suffix}", image))
    torch.testing.assert_close(read[:, 0], torch.tensor([1.0, 1, 0, 0]).expand(3, 4), rtol=0, atol=0.02)


def test_a_colour_profile_is_applied(tmp_path: Path) -> None:
    colour = Image.new("RGB", (1, 1), (100, 50, 20))
    plain = read_image(saved(tmp_path / "plain.png", colour))
    assert torch.equal(read_image(saved(tmp_path / "broken.png", colour, icc_profile=b"no profile at all")), plain)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    same = read_image(saved(tmp_path / "srgb.png", colour, icc_profile=srgb))
    torch.testing.assert_close(same, plain, rtol=0, atol=1.5 / 255)
    # A profile with red and blue exchanged: the image shows blue where its values are red.
    swapped = bytearray(srgb)
    places = {srgb[at : at + 4]: at for at in range(132, 132 + 12 * int.from_bytes(srgb[128:132], "big"), 12)}
    red, blue = places[b"rXYZ"], places[b"bXYZ"]
    swapped[red + 4 : red + 12], swapped[blue + 4 : blue + 12] = srgb[blue + 4 : blue + 12], srgb[red + 4 : red + 12]
    other = read_image(saved(tmp_path / "swapped.png", colour, icc_profile=bytes(swapped)))
    torch.testing.assert_close(other[[2, 1, 0]], plain, rtol=0, atol=0.02)


def test_a_mask_is_read_like_an_image(tmp_path: Path) -> None:
    image = Image.new("RGBA", (2, 2), (255, 255, 255, 255))
    image.putpixel((0, 1), (0, 0, 0, 255))
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "mask.png", image, exif=exif)
    assert torch.equal(read_mask(path), torch.tensor([[0.0, 1.0], [1.0, 1.0]]))
    assert torch.equal(read_mask(path.read_bytes()), read_mask(path))


def test_animations_are_refused_and_camera_previews_are_ignored(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
    for name in ("moving.gif", "moving.png", "pages.tif"):
        path = saved(tmp_path / name, frames[0], save_all=True, append_images=frames[1:])
        with pytest.raises(UsageError, match=f"{name}: expected a still image, got 2 frames"):
            read_image(path)
    camera = saved(tmp_path / "camera.jpg", frames[0], format="MPO", save_all=True, append_images=frames[1:])
    assert int(read_image(camera)[:, 0, 0].argmax()) == 0


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "gif"])
def test_a_damaged_file_raises_one_line_error(tmp_path: Path, kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    whole = saved(tmp_path / f"whole.{kind}", Image.fromarray(noise)).read_bytes()
    path = tmp_path / f"cut.{kind}"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UsageError, match=f"cut.{kind}: expected an image file") as raised:
        read_image(path)
    assert "\n" not in str(raised.value)


def test_random_bytes_are_an_image_or_raise_one_line_error() -> None:
    random = np.random.default_rng(1)
    content = io.BytesIO()
    red_and_blue().save(content, format="PNG")
    for _ in range(200):
        changed = bytearray(content.getvalue())
        for _ in range(3):
            changed[random.integers(len(changed))] = random.integers(256)
        try:
            assert read_image(bytes(changed)).isfinite().all()
        except UsageError as error:
            assert "\n" not in str(error)


def test_a_file_without_an_image_raises_one_line_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "words.png").write_text("no image")
    with pytest.raises(UsageError, match=r"words.png: expected an image file.*; this is none"):
        read_image(tmp_path / "words.png")
    with pytest.raises(MissingPathError, match="expected an image file, found none"):
        read_image(tmp_path / "none.png")
    with pytest.raises(UsageError, match="expected an image file"):
        read_image(tmp_path)
    path = saved(tmp_path / "large.png", Image.new("L", (50, 40)))
    monkeypatch.setattr(image_files, "MAX_PIXELS", 1000)
    with pytest.raises(UsageError, match="at most 1,000 pixels, got 50 x 40"):
        read_image(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(UsageError, match="at most 1,000 pixels, got far more"):
        read_image(path)
    monkeypatch.setattr(image_files, "MAX_BYTES", 10)
    with pytest.raises(UsageError, match="at most 10 bytes"):
        read_image(path)


def test_the_size_of_a_png_is_in_its_header(tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    path.write_bytes(png(torch.zeros(3, 3, 70_000)))
    assert png_size(path) == (70_000, 3)
    for content in (b"", path.read_bytes()[:23], b"no image, but as long as the header of one"):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=r"its wide\.png can't be read: expected a PNG file") as raised:
            png_size(path)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_an_image_that_is_not_finite_is_not_written(value: float) -> None:
    image = torch.zeros(3, 4, 4)
    image[1, 2, 3] = value
    with pytest.raises(NotFiniteError, match=r"seed-3.png: 2% of its values are NaN or infinity, no image"):
        png(image, "seed-3.png")
    assert Image.open(io.BytesIO(png(torch.zeros(3, 4, 4)))).size == (4, 4)
