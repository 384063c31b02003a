"""Data sets on the hub, brought into a data folder in the official layouts, part by part.

A data set's Parquet files are fetched one after the other, checked, read as a stream and deleted:
the disk holds one of them at a time, the memory some rows. Images keep their published bytes.
"""

import fileinput
import hashlib
import io
import json
import logging
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from vrp.data.dataset import DatasetPlaces, HubColumns, OfficialFile, Row
from vrp.data.file_digest import file_sha256
from vrp.data.hub_columns import image_stem
from vrp.data.json_input import printable
from vrp.errors import InputError
from vrp.hub import (
    Listing,
    RemoteFile,
    download_file,
    is_commit,
    list_files,
    require_access,
    short_revision,
)
from vrp.hub_errors import HubUnreachableError, Repository

if TYPE_CHECKING:
    import pyarrow as pa

    from vrp.config.data import HubDatasetConfig

logger = logging.getLogger(__name__)

_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp"}
_ROWS_AT_ONCE = 64


class _Record(NamedTuple):
    """Record of a fetched data set, stored next to the data; makes fetching idempotent."""

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


def fetch_hub_set(
    name: str, source: "HubDatasetConfig", places: DatasetPlaces, columns: HubColumns
) -> str:
    """Write the question files and images of a data set on the hub.

    What has been fetched before, whole and from the same commit, is left alone, without a word to
    the hub where the commit is pinned. A run that was cut goes on with the Parquet file, and the
    byte of it, where it stopped.

    Args:
        name: of the data set.
        source: where it is on the hub.
        places: where its files go.
        columns: how it is published.

    Returns:
        repository@commit.

    Raises:
        InputError: the data set cannot be had, or has other columns than published.
    """
    earlier = _read_record(_record_path(places.folder, name))
    done = earlier if earlier is not None and _is_current(earlier, source, places) else None
    if done is None or not is_commit(source.revision):
        done = _fetch(name, source, places, columns, earlier, done)
    return f"{done.repository}@{done.commit}"


def is_fetched(name: str, source: "HubDatasetConfig", places: DatasetPlaces) -> bool:
    """Whether `fetch_hub_set` has done its work before, as far as that is known offline."""
    record = _read_record(_record_path(places.folder, name))
    return record is not None and _is_current(record, source, places)


def _record_path(folder: Path, name: str) -> Path:
    return folder / ".downloads" / f"hub-{name}.json"


def _fetch(
    name: str,
    source: "HubDatasetConfig",
    places: DatasetPlaces,
    columns: HubColumns,
    earlier: _Record | None,
    current: _Record | None,
) -> _Record:
    """Ask the hub, and fetch what it has.

    Args:
        name: of the data set.
        source: where it is on the hub.
        places: where its files go.
        columns: how it is published.
        earlier: record of an earlier run.
        current: the same where it is of this source and its files are whole: kept where the hub
            cannot be reached, or its commit is still the same.
    """
    work = places.folder / ".downloads" / f"hub-{name}"
    repository = Repository("dataset", source.repository, source.revision)
    try:
        listing = list_files(repository)
        if current is not None and current.commit == listing.commit:
            return current
        require_access(repository, listing)
        parts = _parquet_files(repository, listing, source)
        drafts = _Drafts(work, _ImageFolder(places.folder / places.images), repository, columns)
        for number, part in enumerate(parts, 1):
            drafts.add(listing, part, f"{name}, part {number} of {len(parts)}")
    except HubUnreachableError as error:
        if current is None:
            raise InputError(
                f"{repository}: the hub cannot be reached ({error}); run `vrp fetch` where there "
                "is a network"
            ) from None
        kept = short_revision(current.commit)
        logger.warning(f"{repository.name}: the hub cannot be reached; keeping {kept}")
        return current
    files = {
        places.file(official.file, official.split): _write_official(places, official, written)
        for key, written in drafts.of(parts).items()
        for official in [columns.official_file(key)]
    }
    # Question files that an earlier run wrote and this one did not, such as a split's.
    for place, sha256 in earlier.files.items() if earlier is not None else ():
        path = places.folder / place
        if place not in files and path.is_file() and file_sha256(path) == sha256:
            path.unlink()
    asked = (source.repository, source.revision, listing.commit, source.subset, source.split)
    record = _Record(*asked, files, drafts.images(parts))
    _record_path(places.folder, name).write_text(json.dumps(record._asdict()), encoding="utf-8")
    shutil.rmtree(work)
    logger.info(
        f"{repository.name}@{short_revision(listing.commit)}: {len(record.images)} images, "
        f"{', '.join(files)}"
    )
    return record


def _read_record(path: Path) -> _Record | None:
    """The record of an earlier run; None where there is none."""
    try:
        return _Record(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _is_current(record: _Record, source: "HubDatasetConfig", places: DatasetPlaces) -> bool:
    """Whether an earlier run fetched this source, and all of it is still there."""
    fetched = (record.repository, record.revision, record.subset, record.split)
    if fetched != (source.repository, source.revision, source.subset, source.split):
        return False
    files = {places.folder / name: sha256 for name, sha256 in record.files.items()}
    return all(
        path.is_file() and file_sha256(path) == sha256 for path, sha256 in files.items()
    ) and all((places.folder / places.images / name).is_file() for name in record.images)


def _parquet_files(
    repository: Repository, listing: Listing, source: "HubDatasetConfig"
) -> list[RemoteFile]:
    """The files of the subset and split, in the data set's order, as its card says."""
    import datasets

    try:
        builder = datasets.load_dataset_builder(
            repository.name, source.subset, revision=listing.commit
        )
    except ValueError as error:
        raise InputError(
            f"{repository}: cannot be read as configured ({_one_line(error)}); check data.hub's "
            "subset"
        ) from None
    except (datasets.exceptions.DatasetsError, OSError) as error:
        raise InputError(
            f"{repository}: is no data set of Parquet files ({_one_line(error)})"
        ) from None
    splits = {str(split): list(paths) for split, paths in (builder.config.data_files or {}).items()}
    if source.split not in splits:
        raise InputError(
            f"{repository}: has no split {source.split!r}; choose from {', '.join(splits)}"
        )
    paths = [str(path).partition(f"@{listing.commit}/")[2] for path in splits[source.split]]
    if not paths or not all(path.endswith(".parquet") and path in listing.files for path in paths):
        raise InputError(
            f"{repository}: split {source.split!r} is not in Parquet files; choose another"
        )
    return [listing.files[path] for path in paths]


class _Drafts:
    """Official rows of every Parquet file converted so far, each in a folder of its own."""

    def __init__(
        self, work: Path, images: "_ImageFolder", repository: Repository, columns: HubColumns
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
                for name, official in self._columns.to_official(row, image, where).items():
                    if name not in drafts:
                        drafts[name] = (draft / f"{name}.jsonl").open("w", encoding="utf-8")
                    drafts[name].write(json.dumps(official) + "\n")
        finally:
            for file in drafts.values():
                file.close()
        (draft / "images.txt").write_text("\n".join(sorted(used)), encoding="utf-8")


def _image_names(draft: Path) -> list[str]:
    return (draft / "images.txt").read_text(encoding="utf-8").split()


def _rows(parquet: Path, label: str, where: str, columns: HubColumns) -> Iterator[Row]:
    """Stream the rows of a Parquet file, images as bytes.

    Raises:
        InputError: a column is missing, or the file is not what its name says: no Parquet, or text
            that is not UTF-8.
    """
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow.dataset import ParquetFragmentScanOptions

    try:
        metadata = pq.ParquetFile(parquet)
        names = metadata.schema_arrow.names
        if missing := [name for name in columns.required if name not in names]:
            raise InputError(
                f"{where}: column {missing[0]!r} is missing (found: {', '.join(names)}); give a "
                "data set in the published columns, see data.hub in config/README.md"
            )
        _require_images(metadata.schema_arrow.field("image").type, where)
        stream = datasets.load_dataset(
            "parquet",
            data_files=[str(parquet)],
            split="train",
            streaming=True,
            batch_size=_ROWS_AT_ONCE,
            # Otherwise two whole row groups are read ahead.
            fragment_scan_options=ParquetFragmentScanOptions(
                use_buffered_stream=True, buffer_size=1 << 20, pre_buffer=False
            ),
        )
        # Not decoded: what is written must be what was published.
        stream = stream.cast_column("image", datasets.Image(decode=False))
        n_rows = metadata.metadata.num_rows
        yield from tqdm(stream, total=n_rows, unit="row", desc=label, mininterval=5)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise InputError(
            f"{where}: cannot be read ({_one_line(error)}); it was published so: choose another "
            "revision"
        ) from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _require_images(kind: "pa.DataType", where: str) -> None:
    """Refuse a column that holds no encoded images: of numbers, a decoder would make some."""
    import pyarrow as pa

    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    # Of texts each row says what it names in place of its image.
    encoded = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_string, pa.types.is_null)
    if not any(fits(kind) for fits in encoded):
        raise InputError(
            f"{where}: column 'image' holds {kind}, not the bytes of image files; choose another "
            "data set"
        )


class _ImageFolder:
    """A folder of images, each written once under its name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._files = {path.stem: path.name for path in self._folder.iterdir() if path.is_file()}
        self._digests: dict[str, str] = {}
        self._warned = False

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
            named = printable(str(image.get("path") or "")) if image else ""
            instead = f", which names {named!r} instead" if named else ""
            raise InputError(
                f"{where}: the image is not in the file{instead}; choose another data set"
            )
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
        if self._digests[stem] != digest and not self._warned:
            self._warned = True
            logger.warning(
                f"{where}: {name} is there already with other content, which is kept, here "
                "and for other images of this data set"
            )
        return name


def _suffix(content: bytes) -> str:
    """A file suffix by the content; what is no image is for `sample` to refuse and to count."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return _SUFFIXES.get(str(Image.open(io.BytesIO(content)).format), ".jpg")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ".jpg"


def _write_official(places: DatasetPlaces, official: OfficialFile, drafts: list[Path]) -> str:
    """Join the drafts into an official file, JSON lines or one object; return its SHA-256."""
    path = places.path(official.file, official.split)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.part")
    start, between, end = "", "\n", "\n"
    if official.rows is not None:
        start = json.dumps(dict(official.header))[:-1] + f', "{official.rows}": [\n'
        between, end = ",\n", "\n]}\n"
    with (
        unfinished.open("w", encoding="utf-8") as file,
        fileinput.FileInput(drafts, encoding="utf-8") as rows,
    ):
        file.write(start)
        for number, line in enumerate(rows):
            file.write((between if number else "") + line.rstrip("\n"))
        file.write(end)
    unfinished.replace(path)
    return file_sha256(path)
