"""Image files of every mode and every fault become pixels or a reason."""

from __future__ import annotations

import io
import os
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from errata.data.decode import (
    UnreadableError,
    decode_file,
    image_suffixes,
    quiet_pillow,
    read_header,
    thumbnail,
)

SIZE = (6, 8)
RGB = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
GREY = RGB[:, :, 0].copy()


def decoded(path, channels=3, size=SIZE):
    return decode_file(path, size=size, channels=channels)


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image))


def saved(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def colour(array):
    return array.transpose(2, 0, 1).tolist()


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "tga", "webp"])
def test_colour_survives_lossless_formats(tmp_path, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    assert decoded(saved(tmp_path / f"a.{suffix}", RGB, **options)).tolist() == colour(RGB)


def test_grey_survives_in_one_and_in_three_channels(tmp_path):
    path = saved(tmp_path / "a.png", GREY)
    assert decoded(path, channels=1).tolist() == [GREY.tolist()]
    assert decoded(path, channels=3).tolist() == [GREY.tolist()] * 3


def test_jpeg_is_what_pillow_makes_of_it(tmp_path):
    path = saved(tmp_path / "a.jpg", RGB)
    assert decoded(path).tolist() == colour(pixels_of(path))


def test_two_levels_become_black_and_white(tmp_path):
    path = saved(tmp_path / "a.png", GREY > 99)
    with Image.open(path) as image:
        assert image.mode == "1"
    assert decoded(path, channels=1).tolist() == [(255 * (GREY > 99)).tolist()]


def test_palette_gives_its_colours(tmp_path):
    image = Image.fromarray(RGB).quantize(5)
    image.save(tmp_path / "a.png")
    assert decoded(tmp_path / "a.png").tolist() == colour(np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_flattened_on_white(tmp_path, mode):
    image = Image.new("RGBA", (8, 6), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 4, 6))
    options = {}
    if mode == "P":
        image = Image.new("P", (8, 6), 1)
        image.putpalette([0, 0, 0, 9, 9, 9])
        image.paste(0, (0, 0, 4, 6))
        options = {"transparency": 1}
    image.convert(mode).save(tmp_path / "a.png", **options)
    assert decoded(tmp_path / "a.png", channels=1)[0, 0].tolist() == [0] * 4 + [255] * 4


def test_half_transparent_black_is_grey(tmp_path):
    Image.new("RGBA", (8, 6), (0, 0, 0, 51)).save(tmp_path / "a.png")
    assert np.unique(decoded(tmp_path / "a.png")).tolist() == [204]


def test_cmyk_is_converted(tmp_path):
    image = Image.fromarray(RGB).convert("CMYK")
    image.save(tmp_path / "a.tiff")
    assert decoded(tmp_path / "a.tiff").tolist() == colour(np.asarray(image.convert("RGB")))


def test_cmyk_jpeg_is_not_inverted(tmp_path):
    Image.new("RGB", (8, 6), (250, 10, 10)).convert("CMYK").save(tmp_path / "a.jpg")
    red, green, blue = decoded(tmp_path / "a.jpg").reshape(3, -1).mean(1)
    assert red > 230
    assert max(green, blue) < 40


def test_sixteen_bits_are_divided_by_257(tmp_path):
    wide = GREY.astype(np.uint16) * 257
    path = saved(tmp_path / "a.png", wide)
    assert decoded(path, channels=1).tolist() == [GREY.tolist()]
    assert saved(tmp_path / "a.tiff", wide).exists()
    assert decoded(tmp_path / "a.tiff", channels=3).tolist() == [GREY.tolist()] * 3


def test_sixteen_bits_that_hold_eight_are_kept(tmp_path):
    path = saved(tmp_path / "a.png", np.minimum(GREY, 200).astype(np.uint16))
    assert decoded(path, channels=1).tolist() == [np.minimum(GREY, 200).tolist()]


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_wide_numbers_are_stretched_between_their_ends(tmp_path, kind):
    values = np.tile(np.array([-1000, 0, 1000, 3000], kind), (6, 2))
    path = saved(tmp_path / "a.tiff", values)
    assert decoded(path, channels=1)[0, 0].tolist() == [0, 64, 128, 255] * 2


def test_constant_floats_are_black(tmp_path):
    path = saved(tmp_path / "a.tiff", np.full(SIZE, 3.5, np.float32))
    assert np.unique(decoded(path)).tolist() == [0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_floats_that_are_not_finite_are_unreadable(tmp_path, bad):
    values = np.zeros(SIZE, np.float32)
    values[2, 2] = bad
    with pytest.raises(UnreadableError, match="NaN or infinite"):
        decoded(saved(tmp_path / "a.tiff", values))


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_animation_gives_its_first_frame(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 6), shade) for shade in ((0, 0, 0), (255, 255, 255))]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
    with Image.open(tmp_path / f"a.{suffix}") as image:
        assert image.n_frames == 2
    assert np.unique(decoded(tmp_path / f"a.{suffix}")).tolist() == [0]


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", sorted(TURNS))
@pytest.mark.parametrize("suffix", ["png", "tiff", "webp"])
def test_exif_orientation_is_undone_exactly(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    stored = np.ascontiguousarray(TURNS[orientation](RGB))
    path = saved(tmp_path / f"a.{suffix}", stored, exif=exif, **options)
    assert decoded(path).tolist() == colour(RGB)
    shown = np.asarray(Image.open(io.BytesIO(thumbnail(path))))
    assert (shown == RGB).all()


def test_exif_orientation_of_a_jpeg_agrees_with_pillow(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "a.jpg", np.rot90(RGB).copy(), exif=exif)
    assert decoded(path).tolist() == colour(pixels_of(path))


def test_damaged_exif_does_not_hide_the_picture(tmp_path):
    path = saved(tmp_path / "a.png", RGB, exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    with quiet_pillow():
        assert decoded(path).tolist() == colour(RGB)


def test_largest_centred_part_is_kept(tmp_path):
    # Twice as wide as high: the outer quarters are cut off, whatever the scale. The antialiased
    # resize comes before the crop, so that the outermost column still feels its neighbours.
    wide = np.zeros((20, 40, 3), np.uint8)
    wide[:, 10:30] = 255
    path = saved(tmp_path / "a.png", wide)
    assert np.unique(decoded(path, size=(20, 20))).tolist() == [255]
    assert np.unique(decoded(path, size=(5, 5))[:, :, 1:-1]).tolist() == [255]
    assert np.unique(decoded(path, size=(50, 50))[:, :, 2:-2]).tolist() == [255]


def test_shrinking_a_jpeg_is_close_to_the_slow_way(tmp_path):
    y, x = np.mgrid[:600, :400] / 400
    smooth = np.stack([255 * x, 170 * y, 255 * x * y / 1.5], -1).astype(np.uint8)
    path = saved(tmp_path / "a.jpg", smooth, quality=95)
    with Image.open(path) as image:
        slow = image.crop((0, 100, 400, 500)).resize((64, 64), Image.Resampling.BILINEAR)
    fast = decoded(path, size=(64, 64)).transpose(1, 2, 0).astype(int)
    # JPEG decoded at a lower resolution differs by rounding, not by position.
    assert np.abs(fast - np.asarray(slow)).mean() < 1


@pytest.mark.parametrize(
    ("shape", "size"), [((1, 3000, 3), (64, 64)), ((3000, 1, 3), (64, 64)), ((1, 1, 3), (64, 32))]
)
def test_extreme_proportions_are_readable(tmp_path, shape, size):
    path = saved(tmp_path / "a.png", np.full(shape, 7, np.uint8))
    assert decoded(path, size=size).shape == (3, *size)
    assert np.unique(decoded(path, size=size)).tolist() == [7]


def test_thumbnail_is_small_and_bare(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "a secret place"
    path = saved(tmp_path / "a.jpg", np.zeros((900, 1200, 3), np.uint8), exif=exif)
    shown = Image.open(io.BytesIO(thumbnail(path)))
    assert (shown.format, shown.mode, shown.size) == ("PNG", "RGB", (512, 384))
    assert not shown.getexif()
    grey = Image.open(io.BytesIO(thumbnail(saved(tmp_path / "b.png", GREY))))
    assert grey.mode == "L"


def png_bytes():
    file = io.BytesIO()
    Image.fromarray(np.tile(RGB, (20, 20, 1))).save(file, format="PNG")
    return file.getvalue()


def jpeg_bytes():
    file = io.BytesIO()
    Image.fromarray(np.tile(RGB, (20, 20, 1))).save(file, format="JPEG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"no picture", "no image of a known format"),
        (png_bytes()[:20], "truncated or damaged|no image"),
        (png_bytes()[: len(png_bytes()) // 2], "truncated or damaged"),
        (jpeg_bytes()[: len(jpeg_bytes()) // 2], "truncated or damaged"),
        (png_bytes().replace(b"IHDR", b"IHDX"), "its start is damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image of a known format"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "no image of a known format"),
    ],
)
def test_bad_content_has_a_reason(tmp_path, content, why):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with quiet_pillow(), pytest.raises(UnreadableError, match=why):
        decoded(path)


def test_missing_file_has_a_reason(tmp_path):
    with pytest.raises(UnreadableError, match="No such file"):
        decoded(tmp_path / "none.png")
    with pytest.raises(UnreadableError, match="directory"):
        decoded(tmp_path)
    with pytest.raises(UnreadableError, match="null"):
        decoded(tmp_path / "a\0.png")


def test_bomb_is_too_large(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.png", RGB)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with quiet_pillow():
        with pytest.raises(UnreadableError, match="too large: more than 40 pixels"):
            decoded(path)
        with pytest.raises(UnreadableError, match="too large"):
            read_header(path)
        # Between one and two limits Pillow only warns, and so it is decoded.
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
        assert decoded(path).shape == (3, *SIZE)


def test_bomb_in_a_few_bytes_costs_no_memory(tmp_path):
    # A header that promises 60,000 x 60,000 pixels.
    content = bytearray(png_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(content)
    with quiet_pillow(), pytest.raises(UnreadableError, match="too large"):
        read_header(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("image", "is_grey"),
    [
        (Image.new("L", (3, 2)), True),
        (Image.new("1", (3, 2)), True),
        (Image.new("LA", (3, 2)), True),
        (Image.new("I;16", (3, 2)), True),
        (Image.new("RGB", (3, 2)), False),
        (Image.new("RGBA", (3, 2)), False),
        (Image.new("RGB", (3, 2), (1, 2, 3)).quantize(2), False),
    ],
)
def test_header_tells_size_and_colour(tmp_path, image, is_grey):
    image.save(tmp_path / "a.png")
    assert read_header(tmp_path / "a.png") == (3, 2, is_grey)


def test_palette_of_greys_is_grey(tmp_path):
    image = Image.new("P", (3, 2))
    image.putpalette([0, 0, 0, 9, 9, 9])
    image.save(tmp_path / "a.png")
    assert read_header(tmp_path / "a.png").is_grey


def test_suffixes_are_of_formats_that_are_read():
    assert {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif"} <= image_suffixes()
    assert not {".txt", ".csv", ".db", ".pdf", ".eps", ".h5", ".json", ""} & image_suffixes()


def test_name_of_any_bytes_is_opened(tmp_path):
    path = tmp_path / os.fsdecode(b'a, "b" <script> \xff\xfe.png')
    assert decoded(saved(path, RGB)).tolist() == colour(RGB)
