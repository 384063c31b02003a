"""Hostile and odd files through `vrp sample`: handled, or refused in one clear line."""

import hashlib
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vrp.cli import main
from vrp.data.images import open_image
from vrp.tables.items import ITEMS
from vrp.tables.parquet_files import read_table

N_IMAGES = 8
SPLITS = {
    "pope": "{dataset: pope, split: random, task: existence, count: COUNT}",
    "vqa": "{dataset: vqa, split: open, task: open, count: COUNT}",
    "textvqa": "{dataset: textvqa, split: val, task: text, count: COUNT}",
    "own": "{dataset: own, split: shop, task: open, count: COUNT}",
}


def image_name(image):
    return f"COCO_val2014_{image:012d}.jpg"


def pope_rows():
    return [
        {"question_id": i, "image": image_name(i), "text": f"Is there a {i}?",
         "label": ("yes", "no")[i % 2]}
        for i in range(N_IMAGES)
    ]  # fmt: skip


def vqa_documents(n_annotators=10):
    questions = [
        {"question_id": i, "image_id": i, "question": f"What color is {i}?"}
        for i in range(N_IMAGES)
    ]
    answers = [
        {"answer": "red" if n < 6 else "blue", "answer_id": n, "answer_confidence": "yes"}
        for n in range(n_annotators)
    ]
    annotations = [
        {"question_id": i, "image_id": i, "answer_type": "other", "answers": answers}
        for i in range(N_IMAGES)
    ]
    return {"questions": questions}, {"annotations": annotations}


def textvqa_document():
    answers = ["red"] * 6 + ["blue"] * 4
    return {
        "data": [
            {
                "question_id": i,
                "image_id": image_name(i).removesuffix(".jpg"),
                "answers": list(answers),
                "question": f"what is written on {i}?",
                "set_name": "val",
            }
            for i in range(N_IMAGES)
        ]
    }


def own_rows():
    return [
        {"image": image_name(i), "question": f"What is {i}?", "answers": ["red"]}
        for i in range(N_IMAGES)
    ]


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


class Study:
    """A data folder with all the data sets over the same eight pictures."""

    def __init__(self, folder, capsys):
        self.folder = folder
        self.data = folder / "data"
        self.images = self.data / "images"
        self.images_named = "images"
        self.report = folder / "out" / "sampling.json"
        self.items = folder / "out" / "items.parquet"
        self._capsys = capsys
        self.images.mkdir(parents=True)
        for i in range(N_IMAGES):
            Image.new("RGB", (12, 9), (20 * i, 80, 80)).save(self.images / image_name(i))
        self.pope = self.data / "pope.jsonl"
        self.questions, self.annotations = self.data / "q.json", self.data / "a.json"
        self.textvqa = self.data / "t_val.json"
        self.own = self.data / "own.jsonl"
        write_lines(self.pope, pope_rows())
        for path, document in zip((self.questions, self.annotations), vqa_documents(), strict=True):
            path.write_text(json.dumps(document))
        self.textvqa.write_text(json.dumps(textvqa_document()))
        write_lines(self.own, own_rows())

    def sample(self, dataset, *, count=N_IMAGES):
        """Run the command; return what it printed on stderr."""
        config = self.folder / "study.yaml"
        config.write_text(
            f"study: a\nmodels: {{m: {{family: llava, checkpoint: 'zoo:llava'}}}}\n"
            f"data: {{origin: local, folder: '{self.data}', images: '{self.images_named}', "
            "files: {pope: {questions: pope.jsonl}, vqa: {questions: q.json, annotations: a.json},"
            f" textvqa: {{questions: 't_{{split}}.json', images: '{self.images_named}'}},"
            " own: {questions: own.jsonl}}}\n"
            f"sample: {{splits: [{SPLITS[dataset].replace('COUNT', str(count))}]}}\n"
        )
        manifest = self.folder / "data.json"
        manifest.write_text("{}")
        self._capsys.readouterr()
        main(["sample", "--config", str(config), "--data", str(manifest),
              "--items", str(self.items), "--sampling", str(self.report)])  # fmt: skip
        return self._capsys.readouterr().err

    def refusal(self, dataset, *, count=N_IMAGES):
        """The one line with which the command must end; nothing is written."""
        with pytest.raises(SystemExit) as caught:
            self.sample(dataset, count=count)
        message = self._capsys.readouterr().err
        assert caught.value.code == 2
        assert message.startswith("vrp sample: ")
        assert message.count("\n") == 1
        assert "Traceback" not in message
        assert not self.items.exists()
        assert not self.report.exists()
        return message

    def taken(self):
        """Image name → item."""
        return {row["image"]: row for row in read_table(self.items, ITEMS).iter_rows(named=True)}


@pytest.fixture
def study(tmp_path, capsys):
    return Study(tmp_path, capsys)


@pytest.mark.parametrize("mark", ["<image>", "<|image_pad|>", "<|vision_start|>"])
@pytest.mark.parametrize("dataset", SPLITS)
def test_a_question_with_an_images_placeholder_is_refused_by_name(study, dataset, mark):
    asked = f"{mark} Is there a car?"
    if dataset == "pope":
        write_lines(
            study.pope, [*pope_rows()[:2], pope_rows()[2] | {"text": asked}, *pope_rows()[3:]]
        )
    elif dataset == "own":
        write_lines(study.own, [*own_rows()[:2], own_rows()[2] | {"question": asked}])
    elif dataset == "vqa":
        document = json.loads(study.questions.read_text())
        document["questions"][2]["question"] = asked
        study.questions.write_text(json.dumps(document))
    else:
        document = textvqa_document()
        document["data"][2]["question"] = asked
        study.textvqa.write_text(json.dumps(document))
    message = study.refusal(dataset)
    assert f"holds {mark!r}; remove it" in message
    assert ("line 3" if dataset == "own" else "question_id") in message


@pytest.mark.parametrize("dataset", SPLITS)
def test_nothing_is_said_where_nothing_is_wrong(study, dataset):
    assert study.sample(dataset) == ""
    row = json.loads(study.report.read_text())["splits"][0]
    assert (row["taken"], row["missing"], row["unreadable"]) == (N_IMAGES, [], [])


# Images


@pytest.mark.parametrize("name", ["../secret.jpg", "images/../../secret.jpg", "/etc/hostname"])
@pytest.mark.parametrize("dataset", ["pope", "own"])
def test_an_image_path_that_escapes_the_root_is_refused(study, dataset, name):
    Image.new("RGB", (4, 4)).save(study.folder / "secret.jpg")
    rows = pope_rows() if dataset == "pope" else own_rows()
    rows[3]["image"] = name
    write_lines(study.pope if dataset == "pope" else study.own, rows)
    assert "leaves the data root" in study.refusal(dataset)


@pytest.mark.parametrize("dataset", SPLITS)
def test_a_link_that_escapes_the_root_is_refused(study, dataset):
    Image.new("RGB", (4, 4)).save(study.folder / "secret.jpg")
    image = study.images / image_name(3)
    image.unlink()
    image.symlink_to(study.folder / "secret.jpg")
    assert "a link that leaves the data root" in study.refusal(dataset)


@pytest.mark.slow
def test_a_shared_image_folder_is_read_where_it_is(study):
    store = study.folder / "store"
    study.images.rename(store)
    study.images.symlink_to(store)
    for study.images_named in ("images", str(store)):
        for dataset in SPLITS:
            assert study.sample(dataset) == ""
            assert {Path(image).name for image in study.taken()} == set(map(image_name, range(8)))
    study.items.unlink()
    study.report.unlink()
    store.joinpath(image_name(3)).unlink()
    store.joinpath(image_name(3)).symlink_to("/etc/hostname")
    assert "a link that leaves the data root" in study.refusal("pope")


@pytest.mark.parametrize("dataset", SPLITS)
def test_a_question_file_that_links_out_of_the_data_folder_is_refused(study, dataset):
    names = {"pope": study.pope, "vqa": study.annotations, "textvqa": study.textvqa}
    path = names.get(dataset, study.own)
    path.rename(study.folder / "elsewhere.json")
    path.symlink_to(study.folder / "elsewhere.json")
    assert "a link that leaves the data folder" in study.refusal(dataset)


@pytest.mark.parametrize("dataset", SPLITS)
def test_an_elongated_image_is_named_and_counted(study, dataset):
    Image.new("RGB", (2, 600)).save(study.images / image_name(3))
    refusal = study.refusal(dataset)
    assert "usable 7 (dropped: 1 elongated image)" in refusal
    assert f"{image_name(3)}: 2×600 pixels" in refusal
    said = study.sample(dataset, count=N_IMAGES - 1)
    assert "images elongated, their questions left out" in said
    row = json.loads(study.report.read_text())["splits"][0]
    assert row["dropped"] == {"elongated image": 1}
    assert len(row["elongated"]) == 1
    assert row["unreadable"] == []


def bomb(path):
    """A PNG of a hundred bytes that says it is 40,000 by 40,000 pixels."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    path.write_bytes(data + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))


def truncate(path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-800])


DAMAGES = {
    "too large": bomb,
    "zero bytes": lambda path: path.write_bytes(b""),
    "truncated": truncate,
    "not a readable image": lambda path: path.write_text("<html>404</html>"),
    "32-bit": lambda path: Image.new("F", (4, 4), 0.5).save(path, "TIFF"),
}


@pytest.mark.slow
@pytest.mark.parametrize("words", DAMAGES)
@pytest.mark.parametrize("dataset", SPLITS)
def test_a_damaged_image_is_named_and_never_replaced_in_silence(study, dataset, words):
    image = study.images / image_name(3)
    DAMAGES[words](image)
    refusal = study.refusal(dataset)
    assert "asked for 8 items, found 8, usable 7 (dropped: 1 unreadable image)" in refusal
    assert image.name in refusal
    assert words in refusal
    # With one item fewer to find, the others are taken, and both outputs say so.
    said = study.sample(dataset, count=N_IMAGES - 1)
    assert said.count("\n") == 1
    assert "images unreadable, their questions left out" in said
    assert "from its others: 1 (" in said
    assert image.name in said
    assert words in said
    row = json.loads(study.report.read_text())["splits"][0]
    assert (row["usable"], row["taken"]) == (N_IMAGES - 1, N_IMAGES - 1)
    assert row["dropped"] == {"unreadable image": 1}
    assert len(row["unreadable"]) == 1
    assert image.name in row["unreadable"][0]
    # Another run says the very same: no reason holds the address of an object.
    first = study.report.read_text()
    assert "0x" not in first
    study.sample(dataset, count=N_IMAGES - 1)
    assert study.report.read_text() == first
    assert f"images/{image.name}" not in study.taken()


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("pope", image_name(3)),
        ("vqa", "image_id 3"),
        ("textvqa", f"image_id {image_name(3).removesuffix('.jpg')}"),
        ("own", image_name(3)),
    ],
)
def test_a_missing_image_is_named_and_never_replaced_in_silence(study, dataset, name):
    (study.images / image_name(3)).unlink()
    refusal = study.refusal(dataset)
    assert "(dropped: 1 image not found)" in refusal
    assert f"images to fix: {name}" in refusal
    said = study.sample(dataset, count=N_IMAGES - 2)
    assert said.count("\n") == 1
    assert "images not found, their questions left out" in said
    assert name in said
    row = json.loads(study.report.read_text())["splits"][0]
    assert row["missing"] == [name]
    assert row["found"] == row["usable"] + 1 == N_IMAGES


def test_many_lost_images_are_counted_on_stderr_and_all_named_in_the_report(study):
    for i in range(5):
        (study.images / image_name(i)).unlink()
    said = study.sample("pope", count=2)
    assert "from its others: 5 (" in said
    assert f"{image_name(2)} and 2 more" in said
    row = json.loads(study.report.read_text())["splits"][0]
    assert row["missing"] == [image_name(i) for i in range(5)]


def odd_images(folder):
    """Pictures that are fine but not plain RGB: name → what a model is to see at the top left."""
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(folder / image_name(0), quality=95)
    deep = np.full((6, 8), 32896, dtype=np.uint16)  # half of 65,535: 128 of 255
    Image.fromarray(deep).save(folder / image_name(1), "PNG")
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    frames[0].save(folder / image_name(2), "GIF", save_all=True, append_images=frames[1:])
    turned = Image.new("RGB", (16, 8), "black")
    turned.paste((255, 255, 255), (0, 0, 8, 8))  # the left half; upright it is the top half
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(folder / image_name(3), exif=exif, quality=95)
    return {
        image_name(0): ((16, 16), (255, 0, 0)),
        image_name(1): ((8, 6), (128, 128, 128)),
        image_name(2): ((8, 8), (255, 0, 0)),
        image_name(3): ((8, 16), (255, 255, 255)),
    }


@pytest.mark.parametrize("dataset", SPLITS)
def test_odd_but_sound_images_are_taken_and_seen_upright_in_rgb(study, dataset):
    wanted = odd_images(study.images)
    assert study.sample(dataset) == ""
    taken = study.taken()
    for name, (size, colour) in wanted.items():
        path = study.images / name
        row = taken[f"images/{name}"]
        assert row["group"] == hashlib.sha256(path.read_bytes()).hexdigest()
        image = open_image(path)
        assert (image.mode, image.size) == ("RGB", size)
        assert np.abs(np.subtract(image.getpixel((1, 1)), colour)).max() < 20


# Question files


def test_duplicate_question_ids_are_refused(study):
    rows = pope_rows()
    rows[5]["question_id"] = 2
    write_lines(study.pope, rows)
    assert "line 6: question_id 2 was used for another question" in study.refusal("pope")
    questions, annotations = vqa_documents()
    questions["questions"][5]["question_id"] = 2
    study.questions.write_text(json.dumps(questions))
    assert "questions row 6: question_id 2 was used before" in study.refusal("vqa")
    annotations["annotations"][5]["question_id"] = 2
    study.annotations.write_text(json.dumps(annotations))
    assert "annotations row 6: question_id 2 is annotated twice" in study.refusal("vqa")
    document = textvqa_document()
    document["data"][5]["question_id"] = 2
    study.textvqa.write_text(json.dumps(document))
    assert "data row 6: question_id 2 was used before" in study.refusal("textvqa")
    write_lines(study.own, [row | {"question_id": 7} for row in own_rows()])
    assert "line 2: question_id 7 was used before" in study.refusal("own")


def test_nine_annotators_are_enough(study):
    _, annotations = vqa_documents(n_annotators=9)
    study.annotations.write_text(json.dumps(annotations))
    assert study.sample("vqa") == ""
    for row in study.taken().values():
        assert len(row["answers"]) == 9
        assert row["reference"] == "red"


def test_nine_annotators_are_no_textvqa(study):
    document = textvqa_document()
    del document["data"][4]["answers"][-1]
    study.textvqa.write_text(json.dumps(document))
    assert "data row 5: key 'answers' holds 9 answers; TextVQA has 10" in study.refusal("textvqa")


@pytest.mark.parametrize("dataset", SPLITS)
def test_text_that_is_not_utf8_is_refused_with_its_line(study, dataset):
    path = {
        "pope": study.pope, "vqa": study.annotations, "textvqa": study.textvqa, "own": study.own,
    }[dataset]  # fmt: skip
    text = path.read_bytes()
    path.write_bytes(text[:-3] + b"\xe9" + text[-3:])
    line = text.count(b"\n") or 1
    assert f"{path.name}, line {line}: not UTF-8" in study.refusal(dataset)
