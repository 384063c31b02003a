"""Data sets on the hub, brought into a data folder in the official layouts, part by part.

A data set's Parquet files are fetched one after the other, checked, read as a stream and deleted:
the disk holds one of them at a time, the memory some rows. Images keep their published bytes.
"""

import hashlib
import io
import json
import shutil
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TextIO

from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from vrp.config.data import DataConfig, HubDatasetConfig
from vrp.data.hub_columns import (
    ANNOTATIONS,
    POPE_COLUMNS,
    QUESTIONS,
    TEXTVQA_COLUMNS,
    VQA_COLUMNS,
    Columns,
    Row,
    image_stem,
)
from vrp.data.images import file_sha256
from vrp.errors import InputError
from vrp.hub import (
    HubUnreachableError,
    Listing,
    RemoteFile,
    Repository,
    download_file,
    is_commit,
    list_files,
    require_access,
    short,
    tell,
)

_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp"}
_ROWS_AT_ONCE = 64
_COLUMNS: Final = {"pope": POPE_COLUMNS, "vqa": VQA_COLUMNS, "textvqa": TEXTVQA_COLUMNS}


class _Record(NamedTuple):
    """What was made of a data set, kept beside it: nothing is done twice."""

    repository: str
    revision: str
    """As asked for."""
    commit: str
    subset: str | None
    split: str
    files: dict[str, str]
    """Official file, relative to the data folder → SHA-256."""
    images: list[str]
    """File names."""


def fetch_hub_sets(data: DataConfig) -> dict[str, str]:
    """Write the question files and images of the data sets that the config names.

    What has been fetched before, whole and from the same commit, is left alone, without a word to
    the hub where the commit is pinned. A run that was cut goes on with the Parquet file, and the
    byte of it, where it stopped.

    Returns:
        `pope`, `vqa` and `textvqa`, as far as the config names them → repository@commit.

    Raises:
        InputError: a data set cannot be had, or has other columns than published.
    """
    fetched = {}
    for name in data.hub.datasets:
        record = _fetch(data, name, getattr(data.hub, name))
        fetched[name] = f"{record.repository}@{record.commit}"
    return fetched


def not_fetched(data: DataConfig) -> list[str]:
    """Those data sets that `fetch_hub_sets` would still have to write, without asking the hub."""
    folder = Path(data.folder)
    missing = []
    for name in data.hub.datasets:
        record = _read_record(_record_place(folder, name))
        wanted: HubDatasetConfig = getattr(data.hub, name)
        images = folder / data.image_folder(name)
        if record is None or not _still_true(record, wanted, folder, images):
            missing.append(name)
    return missing


def _record_place(folder: Path, name: str) -> Path:
    return folder / ".downloads" / f"hub-{name}.json"


def _fetch(data: DataConfig, name: str, wanted: HubDatasetConfig) -> _Record:
    folder = Path(data.folder)
    image_folder = folder / data.image_folder(name)
    work = folder / ".downloads"
    earlier = _read_record(_record_place(folder, name))
    done = earlier
    if earlier is None or not _still_true(earlier, wanted, folder, image_folder):
        done = None
    if done is not None and is_commit(wanted.revision):
        return done
    repository = Repository("dataset", wanted.repository, wanted.revision)
    try:
        listing = list_files(repository)
        if done is not None and done.commit == listing.commit:
            return done
        require_access(repository, listing)
        parts = _parquet_files(repository, listing, wanted)
        images = _ImageFolder(image_folder)
        drafts = _Drafts(work / f"hub-{name}", images, repository, _COLUMNS[name])
        for number, part in enumerate(parts, 1):
            drafts.add(listing, part, f"{name}, part {number} of {len(parts)}")
    except HubUnreachableError as error:
        if done is not None:
            tell(f"{repository.name}: the hub cannot be reached; keeping {short(done.commit)}")
            return done
        raise InputError(
            f"{repository}: the hub cannot be reached ({error}); run `vrp fetch` where there is a "
            "network"
        ) from None
    files = _write_official(name, data, drafts.of(parts))
    if earlier is not None:
        _delete_outdated(folder, earlier, files)
    asked = (wanted.repository, wanted.revision, listing.commit, wanted.subset, wanted.split)
    record = _Record(*asked, files, drafts.images(parts))
    _record_place(folder, name).write_text(json.dumps(record._asdict()), encoding="utf-8")
    shutil.rmtree(work / f"hub-{name}")
    tell(f"{repository.name}@{short(listing.commit)}: {len(record.images)} images, "
         f"{', '.join(files)}")  # fmt: skip
    return record


def _read_record(path: Path) -> _Record | None:
    """The record of an earlier run; None where there is none."""
    try:
        return _Record(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _still_true(
    record: _Record, wanted: HubDatasetConfig, folder: Path, image_folder: Path
) -> bool:
    """Whether an earlier run made what is wanted now, and all of it is still there."""
    made = (record.repository, record.revision, record.subset, record.split)
    if made != (wanted.repository, wanted.revision, wanted.subset, wanted.split):
        return False
    files = {folder / name: sha256 for name, sha256 in record.files.items()}
    return all(
        path.is_file() and file_sha256(path) == sha256 for path, sha256 in files.items()
    ) and all((image_folder / name).is_file() for name in record.images)


def _delete_outdated(folder: Path, earlier: _Record, files: Collection[str]) -> None:
    """Delete question files that an earlier run wrote and this one did not, such as a split's."""
    for name, sha256 in earlier.files.items():
        path = folder / name
        if name not in files and path.is_file() and file_sha256(path) == sha256:
            path.unlink()


def _parquet_files(
    repository: Repository, listing: Listing, wanted: HubDatasetConfig
) -> list[RemoteFile]:
    """The files of the subset and split, in the data set's order, as its card says."""
    import datasets

    try:
        builder = datasets.load_dataset_builder(
            repository.name, wanted.subset, revision=listing.commit
        )
    except ValueError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{repository}: cannot be read as configured ({reason}); check data.hub's subset"
        ) from None
    except (datasets.exceptions.DatasetsError, OSError) as error:
        raise InputError(
            f"{repository}: is no data set of Parquet files ({' '.join(str(error).split())[:200]})"
        ) from None
    splits = {str(split): list(paths) for split, paths in (builder.config.data_files or {}).items()}
    if wanted.split not in splits:
        raise InputError(
            f"{repository}: has no split {wanted.split!r}; choose from {', '.join(splits)}"
        )
    paths = [str(path).partition(f"@{listing.commit}/")[2] for path in splits[wanted.split]]
    if not paths or not all(path.endswith(".parquet") and path in listing.files for path in paths):
        raise InputError(
            f"{repository}: split {wanted.split!r} is not in Parquet files; choose another"
        )
    return [listing.files[path] for path in paths]


class _Drafts:
    """Official rows of every Parquet file converted so far, each in a folder of its own."""

    def __init__(
        self, work: Path, images: "_ImageFolder", repository: Repository, columns: Columns
    ) -> None:
        self._work = work
        self._repository = repository
        self._columns = columns
        self._images = images

    def add(self, listing: Listing, part: RemoteFile, label: str) -> None:
        """Fetch, convert and delete one Parquet file, unless that was done before."""
        draft = self._draft(part)
        if draft.is_dir() and self._images.have(_image_names(draft)):
            return
        shutil.rmtree(draft, ignore_errors=True)
        parquet = self._work / f"{part.checksum.value}.parquet"
        download_file(self._repository, listing, part.path, parquet)
        unfinished = draft.with_name(f"{draft.name}.part")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        self._convert(parquet, part.path, unfinished, label)
        unfinished.rename(draft)
        parquet.unlink()

    def of(self, parts: Iterable[RemoteFile]) -> dict[str, list[Path]]:
        """Official file → the drafts of its rows, in the data set's order."""
        found: dict[str, list[Path]] = {}
        for part in parts:
            for path in sorted(self._draft(part).glob("*.jsonl")):
                found.setdefault(path.stem, []).append(path)
        return found

    def images(self, parts: Iterable[RemoteFile]) -> list[str]:
        """File names of the images of all parts, sorted."""
        return sorted({name for part in parts for name in _image_names(self._draft(part))})

    def _draft(self, part: RemoteFile) -> Path:
        return self._work / part.checksum.value

    def _convert(self, parquet: Path, path: str, draft: Path, label: str) -> None:
        drafts: dict[str, TextIO] = {}
        used: set[str] = set()
        try:
            published = f"{self._repository.name}, {path}"
            rows = _rows(parquet, label, published, self._columns)
            for number, row in enumerate(rows, 1):
                where = f"{published}, row {number}"
                ids = [row[column] for column in self._columns.image_ids if column in row]
                image = self._images.keep(ids[0] if ids else None, row["image"], where)
                used.add(image)
                for name, official in self._columns.official(row, image, where).items():
                    if name not in drafts:
                        drafts[name] = (draft / f"{name}.jsonl").open("w", encoding="utf-8")
                    drafts[name].write(json.dumps(official) + "\n")
        finally:
            for file in drafts.values():
                file.close()
        (draft / "images.txt").write_text("\n".join(sorted(used)), encoding="utf-8")


def _image_names(draft: Path) -> list[str]:
    return (draft / "images.txt").read_text(encoding="utf-8").split()


def _rows(parquet: Path, label: str, where: str, columns: Columns) -> Iterator[Row]:
    """Stream the rows of a Parquet file, images as bytes.

    Raises:
        InputError: a column is missing, or the file is not what its name says: no Parquet, or text
            that is not UTF-8.
    """
    import pyarrow as pa

    try:
        yield from _stream(parquet, label, where, columns)
    except (pa.ArrowException, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{where}: cannot be read ({reason}); it was published so: choose another revision"
        ) from None


def _stream(parquet: Path, label: str, where: str, columns: Columns) -> Iterator[Row]:
    import datasets
    import pyarrow.parquet as pq
    from pyarrow.dataset import ParquetFragmentScanOptions

    metadata = pq.ParquetFile(parquet)
    names = metadata.schema_arrow.names
    if missing := [name for name in columns.required if name not in names]:
        raise InputError(
            f"{where}: column {missing[0]!r} is missing (found: {', '.join(names)}); give a "
            "data set in the published columns, see data.hub in config/README.md"
        )
    stream = datasets.load_dataset(
        "parquet",
        data_files=[str(parquet)],
        split="train",
        streaming=True,
        batch_size=_ROWS_AT_ONCE,
        # Else a whole row group is read ahead, and another beside it.
        fragment_scan_options=ParquetFragmentScanOptions(
            use_buffered_stream=True, buffer_size=1 << 20, pre_buffer=False
        ),
    )
    # Not decoded: what is written must be what was published.
    stream = stream.cast_column("image", datasets.Image(decode=False))
    yield from tqdm(stream, total=metadata.metadata.num_rows, unit="row", desc=label, mininterval=5)


class _ImageFolder:
    """A folder of images, each written once under its name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._files = {path.stem: path.name for path in self._folder.iterdir() if path.is_file()}
        self._digests: dict[str, str] = {}
        self._told: set[str] = set()

    def have(self, names: Iterable[str]) -> bool:
        """Whether all these files are there."""
        return set(names) <= set(self._files.values())

    def keep(self, image_id: object, image: Mapping[str, Any] | None, where: str) -> str:
        """Write an image unless it is there; return its file name.

        One image is one file: where another data set has the same photograph in other bytes, the
        first ones stay.
        """
        content = image.get("bytes") if image else None
        if not content:
            raise InputError(f"{where}: the image is not in the file; choose another data set")
        digest = hashlib.sha256(content).hexdigest()
        stem = image_stem(image_id, self._folder.name, digest)
        if stem not in self._files:
            name = stem + _suffix(content)
            part = self._folder / f".{name}.part"
            part.write_bytes(content)
            part.replace(self._folder / name)
            self._files[stem], self._digests[stem] = name, digest
        name = self._files[stem]
        if stem not in self._digests:
            self._digests[stem] = file_sha256(self._folder / name)
        if self._digests[stem] != digest and stem not in self._told:
            self._told.add(stem)
            if len(self._told) == 1:
                tell(f"{where}: {name} lies there in other bytes already; those are kept, here "
                     "and for other images of this data set")  # fmt: skip
        return name


def _suffix(content: bytes) -> str:
    """A file suffix by the content; what is no image is for `sample` to refuse and to count."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return _SUFFIXES.get(str(Image.open(io.BytesIO(content)).format), ".jpg")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ".jpg"


def _write_official(
    name: str, data: DataConfig, drafts: Mapping[str, list[Path]]
) -> dict[str, str]:
    """Join the drafts into the official files; return their SHA-256 by their place."""
    files = {}
    for key, parts in drafts.items():
        official = _official_file(name, key, data)
        path = Path(data.folder) / official.place
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.part")
        with unfinished.open("w", encoding="utf-8") as file:
            if official.rows is None:
                file.writelines(_lines(parts))
            else:
                _write_rows(file, official.rows, official.header, _lines(parts))
        unfinished.replace(path)
        files[official.place] = file_sha256(path)
    return files


class _OfficialFile(NamedTuple):
    """How one of the official files looks."""

    place: str
    """Relative to the data folder."""
    rows: str | None = None
    """The key that holds its rows; None: the file is JSON lines."""
    header: Mapping[str, Any] = MappingProxyType({})
    """What stands beside them."""


def _official_file(name: str, key: str, data: DataConfig) -> _OfficialFile:
    """The file of a data set's drafts under `key` (see `Columns.official`)."""
    if name == "pope":
        return _OfficialFile(data.pope_questions.format(split=key))
    if name == "textvqa":
        header = {"dataset_type": key, "dataset_name": name, "dataset_version": "0.5.1"}
        return _OfficialFile(data.textvqa_questions.format(split=key), "data", header)
    common: dict[str, Any] = {"info": {}, "data_type": "mscoco", "license": {}}
    if key == ANNOTATIONS:
        return _OfficialFile(data.vqa_annotations, key, common)
    return _OfficialFile(data.vqa_questions, QUESTIONS, {"task_type": "Open-Ended", **common})


def _write_rows(file: TextIO, key: str, header: Mapping[str, Any], lines: Iterable[str]) -> None:
    """One JSON object: the header's keys, and under `key` the rows, one a line."""
    file.write(json.dumps(header)[:-1] + f', "{key}": [\n')
    for number, line in enumerate(lines):
        file.write((",\n" if number else "") + line.rstrip("\n"))
    file.write("\n]}\n")


def _lines(parts: Iterable[Path]) -> Iterator[str]:
    for part in parts:
        with part.open(encoding="utf-8") as file:
            yield from file
