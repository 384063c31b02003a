"""Hostile and odd image files, made here, and how names are resolved."""

import hashlib
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vrp.data.file_digest import file_sha256
from vrp.data.images import (
    MAX_PIXELS,
    ElongatedImageError,
    ImageIndex,
    open_image,
    sampled_image,
)
from vrp.errors import InputError


def _picture(path, size=(8, 6), colour=(200, 30, 60), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)
    return path


def _png_header_only(path, width, height):
    def chunk(kind, body):
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    path.write_bytes(data + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    return path


def test_rgb_is_unchanged(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    path = tmp_path / "plain.png"
    Image.fromarray(pixels).save(path)
    assert np.array_equal(np.asarray(open_image(path)), pixels)


def test_exif_rotation_is_applied(tmp_path):
    image = Image.new("RGB", (8, 4), "black")
    image.paste((255, 255, 255), (0, 0, 4, 4))  # the left half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned 90° clockwise for viewing: left becomes top
    path = tmp_path / "turned.png"
    image.save(path, exif=exif)
    upright = open_image(path)
    assert upright.size == (4, 8)
    assert upright.getpixel((1, 1)) == (255, 255, 255)
    assert upright.getpixel((1, 6)) == (0, 0, 0)


def test_cmyk_becomes_rgb(tmp_path):
    path = tmp_path / "print.jpg"
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(path, quality=95)  # magenta + yellow = red
    red, green, blue = open_image(path).getpixel((8, 8))
    assert red > 220
    assert green < 40
    assert blue < 40


def test_sixteen_bit_is_scaled_not_clipped(tmp_path):
    wide = np.array([[0, 257, 1000, 32896, 65535]], dtype=np.uint16)
    path = tmp_path / "deep.png"
    Image.fromarray(wide).save(path)
    with Image.open(path) as stored:
        assert stored.mode.startswith("I")
    assert np.asarray(open_image(path))[0, :, 0].tolist() == [0, 1, 4, 128, 255]


def test_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    path = tmp_path / "moving.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=10)
    assert open_image(path).getpixel((4, 4)) == (255, 0, 0)


def test_transparency_is_laid_over_white(tmp_path):
    clear = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    clear.putpixel((1, 0), (0, 0, 0, 0))
    path = tmp_path / "clear.png"
    clear.save(path)
    image = open_image(path)
    assert (image.mode, image.getpixel((0, 0)), image.getpixel((1, 0))) == (
        "RGB",
        (255, 0, 0),
        (255, 255, 255),
    )


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA"])
def test_other_modes_become_rgb(tmp_path, mode):
    path = tmp_path / "mode.png"
    Image.new("L", (4, 4), 255).convert(mode).save(path)
    image = open_image(path)
    assert image.mode == "RGB"
    assert image.getpixel((0, 0)) == (255, 255, 255)


def test_float_image_is_refused(tmp_path):
    path = tmp_path / "float.tiff"
    Image.new("F", (4, 4), 0.5).save(path)
    with pytest.raises(InputError, match=r"float\.tiff.*save it as 8-bit RGB"):
        open_image(path)


@pytest.mark.parametrize("side", [40_000, 10_000])
def test_decompression_bomb_is_refused_from_its_header(tmp_path, side):
    assert side * side > MAX_PIXELS  # the smaller one is under Pillow's own error limit
    path = _png_header_only(tmp_path / "bomb.png", side, side)
    with pytest.raises(InputError, match=r"bomb\.png: too large.*scale the image down"):
        open_image(path)


def test_zero_byte_truncated_and_non_images_are_refused(tmp_path):
    empty = tmp_path / "empty.jpg"
    empty.touch()
    with pytest.raises(InputError, match=r"empty\.jpg.*zero bytes.*download it again"):
        open_image(empty)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    cut = tmp_path / "cut.jpg"
    Image.fromarray(noise).save(cut)
    cut.write_bytes(cut.read_bytes()[:-400])
    with pytest.raises(InputError, match=r"cut\.jpg: not a readable image.*truncated.*again"):
        open_image(cut)
    words = tmp_path / "page.jpg"
    words.write_text("<html>404</html>")
    with pytest.raises(InputError, match=r"page\.jpg: not a readable image"):
        open_image(words)
    with pytest.raises(InputError, match=r"gone\.jpg: no such image file"):
        open_image(tmp_path / "gone.jpg")
    with pytest.raises(InputError, match="no such image file"):
        open_image(tmp_path)


@pytest.mark.parametrize("error", [RuntimeError, NotImplementedError, OSError, TypeError])
def test_any_error_of_a_decoder_is_one_line_that_is_the_same_in_every_run(
    tmp_path, monkeypatch, error
):
    def fail(file):
        raise error(f"cannot decode {file!r}")

    _picture(tmp_path / "a.jpg")
    monkeypatch.setattr(Image, "open", fail)
    message = r"^a\.jpg: not a readable image \(cannot decode the file\); download it again"
    with pytest.raises(InputError, match=message):
        ImageIndex(tmp_path).inspect("a.jpg")


def test_a_refusal_does_not_depend_on_where_the_data_folder_is(tmp_path):
    said = set()
    for folder in ("here", "there"):
        _picture(tmp_path / folder / "a.jpg").write_bytes(b"")
        with pytest.raises(InputError) as caught:
            ImageIndex(tmp_path / folder).inspect("a.jpg")
        said.add(str(caught.value))
    assert said == {"a.jpg: the image file is empty (zero bytes); download it again"}


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("val2014/COCO_val2014_000000000042.jpg", "COCO_val2014_000000000042.jpg"),
        ("COCO_val2014_000000000042.jpg", "COCO_val2014_000000000042.jpg"),
        ("deep/er/000000000042.jpg", "COCO_val2014_000000000042.jpg"),
        ("train2017/000000000042.jpg", "COCO_train2014_000000000042.jpg"),
        ("COCO_train2014_000000000042.jpg", "000000000042.jpg"),
        ("a/b.png", "a/b.png"),
        ("a/b.png", "b.png"),
    ],
)
def test_names_are_found_flat_or_nested_under_any_year(tmp_path, stored, asked):
    _picture(tmp_path / stored)
    assert ImageIndex(tmp_path).find(asked) == stored


def test_exact_path_and_name_come_before_the_same_id(tmp_path):
    for stored in ("val2014/COCO_val2014_000000000007.jpg", "all/000000000007.jpg"):
        _picture(tmp_path / stored)
    index = ImageIndex(tmp_path)
    assert index.find("000000000007.jpg") == "all/000000000007.jpg"
    assert index.find("COCO_val2014_000000000007.jpg") == "val2014/COCO_val2014_000000000007.jpg"
    assert index.find_id("7") == "val2014/COCO_val2014_000000000007.jpg"


def test_ids_that_are_file_names(tmp_path):
    _picture(tmp_path / "0054c91397f2fe05.jpg")
    index = ImageIndex(tmp_path)
    assert index.find_id("0054c91397f2fe05") == "0054c91397f2fe05.jpg"
    assert index.find_id("54") is None
    assert index.find("absent.jpg") is None


def test_another_folders_file_of_that_name_is_not_the_image(tmp_path):
    _picture(tmp_path / "photos" / "s1" / "000.jpg")
    _picture(tmp_path / "photos" / "s2" / "001.jpg")
    index = ImageIndex(tmp_path, "photos")
    assert index.find("s2/000.jpg") is None
    assert index.find("photos/s2/000.jpg") is None
    assert index.find("s1/000.jpg") == index.find("photos/s1/000.jpg") == "photos/s1/000.jpg"
    # Without a folder the name is looked for everywhere.
    assert index.find("000.jpg") == "photos/s1/000.jpg"


def test_a_name_that_no_file_can_have_finds_nothing(tmp_path):
    assert ImageIndex(tmp_path).find("a" * 5000 + ".png") is None


def test_two_files_of_one_name_are_ambiguous(tmp_path):
    _picture(tmp_path / "a/1.jpg")
    _picture(tmp_path / "b/1.jpg")
    with pytest.raises(InputError, match=r"1\.jpg: 2 files have this name \(a/1\.jpg, b/1\.jpg\)"):
        ImageIndex(tmp_path).find("1.jpg")


def test_folder_below_the_root_gives_paths_from_the_root(tmp_path):
    _picture(tmp_path / "pope/val2014/x.jpg")
    index = ImageIndex(tmp_path, "pope/val2014")
    assert index.find("x.jpg") == "pope/val2014/x.jpg"
    assert index.path("pope/val2014/x.jpg").is_file()


@pytest.mark.parametrize("name", ["../secret.jpg", "a/../../secret.jpg", "/etc/passwd", "a\0b.jpg"])
def test_paths_that_leave_the_root_are_refused(tmp_path, name):
    root = tmp_path / "root"
    _picture(root / "a/in.jpg")
    _picture(tmp_path / "secret.jpg")
    index = ImageIndex(root)
    for look in (index.find, index.path):
        with pytest.raises(InputError, match="leaves the data root"):
            look(name)


def test_links_that_leave_the_root_are_refused(tmp_path):
    root = tmp_path / "root"
    _picture(root / "in.jpg")
    secret = _picture(tmp_path / "outside/secret.jpg")
    (root / "link.jpg").symlink_to(secret)
    (root / "folder").symlink_to(secret.parent)
    index = ImageIndex(root)
    for name in ("link.jpg", "folder/secret.jpg"):
        with pytest.raises(InputError, match="a link that leaves the data root"):
            index.find(name)
        with pytest.raises(InputError, match="a link that leaves the data root"):
            index.inspect(name)
    assert index.find("secret.jpg") is None
    assert "folder" in index.why_missing()


@pytest.fixture(params=["link", "link below", "absolute"])
def shared(request, tmp_path):
    """A data root whose image folder, as named, is elsewhere: (root, name, the real folder)."""
    root, store = tmp_path / "root", tmp_path / "store" / "val2014"
    root.mkdir()
    _picture(store / "deep/000000000054.jpg")
    if request.param == "absolute":
        return root, str(store), store
    name = "val2014" if request.param == "link" else "linked/val2014"
    (root / name.split("/")[0]).symlink_to(store if request.param == "link" else store.parent)
    return root, name, store


def test_an_image_folder_that_is_named_may_be_elsewhere(shared):
    root, named, store = shared
    index = ImageIndex(root, named)
    name = f"{named}/deep/000000000054.jpg"
    by_path = str(index._base / "deep/000000000054.jpg")
    for asked in ("000000000054.jpg", "COCO_val2014_000000000054.jpg", by_path):
        assert index.find(asked) == name
    assert index.find_id("54") == name
    assert index.inspect(name) == ImageIndex(store).inspect("deep/000000000054.jpg")
    assert sampled_image(root, name).is_file()
    with pytest.raises(InputError, match="lies outside the data folder"):
        sampled_image(root, "../store/val2014/deep/000000000054.jpg")


def test_nothing_beside_a_named_folder_is_read(shared):
    root, named, store = shared
    secret = _picture(store.parent.parent / "secret.jpg")
    (store / "link.jpg").symlink_to(secret)
    (store / "links").symlink_to(secret.parent)
    index = ImageIndex(root, named)
    for name in ("link.jpg", "links/secret.jpg"):
        with pytest.raises(InputError, match="a link that leaves the data root"):
            index.find(name)
    for name in ("../secret.jpg", str(secret), f"{store}/../../secret.jpg"):
        for look in (index.find, index.path):
            with pytest.raises(InputError, match="leaves the data root"):
                look(name)
    assert index.find("secret.jpg") is None
    assert f"linked folders are not entered: {named}/links" in index.why_missing()


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    _picture(tmp_path / "open/1.jpg")
    _picture(tmp_path / "closed/2.jpg")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    index = ImageIndex(tmp_path)
    assert index.find("1.jpg") == "open/1.jpg"
    assert index.find("2.jpg") is None
    assert index.why_missing() == "image not found (folders cannot be read: closed)"


def test_a_folder_is_not_named_by_climbing(tmp_path):
    with pytest.raises(InputError, match="climbs out of"):
        ImageIndex(tmp_path, "../elsewhere")


@pytest.mark.parametrize("size", [(2, 600), (600, 2), (1, 201)])
def test_an_elongated_image_is_refused_as_what_it_is(tmp_path, size):
    _picture(tmp_path / "banner.png", size=size)
    message = rf"^banner\.png: {size[0]}×{size[1]} pixels, one side more than 200 times the other"
    with pytest.raises(ElongatedImageError, match=message):
        ImageIndex(tmp_path).inspect("banner.png")


def test_an_image_of_the_most_elongated_shape_is_taken(tmp_path):
    _picture(tmp_path / "narrow.png", size=(2, 400))
    assert ImageIndex(tmp_path).inspect("narrow.png")[1:] == (2, 400)


def test_links_inside_the_root_are_followed(tmp_path):
    _picture(tmp_path / "in.jpg")
    (tmp_path / "alias.jpg").symlink_to("in.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    index = ImageIndex(tmp_path)
    assert index.inspect("alias.jpg") == index.inspect("in.jpg")
    with pytest.raises(InputError):
        index.inspect("loop.jpg")


def test_inspect_gives_digest_of_the_bytes_and_size(tmp_path):
    path = _picture(tmp_path / "in.jpg", size=(8, 6))
    facts = ImageIndex(tmp_path).inspect("in.jpg")
    assert facts == (hashlib.sha256(path.read_bytes()).hexdigest(), 8, 6)
    assert file_sha256(path) == facts.sha256


def test_inspect_remembers_and_repeats_a_refusal(tmp_path):
    (tmp_path / "empty.jpg").touch()
    index = ImageIndex(tmp_path)
    for _ in range(2):
        with pytest.raises(InputError, match="zero bytes"):
            index.inspect("empty.jpg")


def test_root_may_itself_be_a_link(tmp_path):
    _picture(tmp_path / "real/in.jpg")
    (tmp_path / "data").symlink_to("real")
    assert ImageIndex(tmp_path / "data").find("in.jpg") == "in.jpg"


def test_missing_root_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        ImageIndex(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no such folder"):
        ImageIndex(tmp_path, "nowhere")


def test_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(InputError, match="no such image file"):
        open_image(tmp_path / "pipe.jpg")
