"""Data sets on the hub, brought into a data folder in the official layouts, part by part.

A data set's Parquet files are fetched one after the other, checked, read as a stream and deleted:
the disk holds one of them at a time, the memory some rows. Images keep their published bytes.
"""

import contextlib
import functools
import hashlib
import io
import itertools
import json
import logging
import shutil
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
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
from vrp.tables.atomic_files import atomic_write

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
    byte of it, where it stopped. Returns repository@commit.

    Raises:
        InputError: the data set cannot be had, or has other columns than published.
    """
    done = _read_record(places.folder, name)
    if done is None or not is_commit(source.revision) or not is_fetched(name, source, places):
        done = _fetch(name, source, places, columns)
    return f"{done.repository}@{done.commit}"


def is_fetched(name: str, source: "HubDatasetConfig", places: DatasetPlaces) -> bool:
    """Whether `fetch_hub_set` has done its work before, as far as that is known offline."""
    record = _read_record(places.folder, name)
    if record is None:
        return False
    fetched = (record.repository, record.revision, record.subset, record.split)
    return (
        fetched == (source.repository, source.revision, source.subset, source.split)
        and all(_is_file(places.folder / file, digest) for file, digest in record.files.items())
        and all((places.folder / places.images / image).is_file() for image in record.images)
    )


def _fetch(
    name: str, source: "HubDatasetConfig", places: DatasetPlaces, columns: HubColumns
) -> _Record:
    """Ask the hub, and fetch what it has.

    What is there already is kept where the hub cannot be reached, or its commit is still the same.
    """
    work = places.folder / ".downloads" / f"hub-{name}"
    repository = Repository("dataset", source.repository, source.revision)
    earlier = _read_record(places.folder, name)
    current = earlier if is_fetched(name, source, places) else None
    try:
        listing = list_files(repository)
        if current is not None and current.commit == listing.commit:
            return current
        require_access(repository, listing)
        images = _ImageFolder(places.folder / places.images)
        parts = _parquet_files(repository, listing, source)
        drafts = [work / f"{part.checksum.value}.jsonl" for part in parts]
        for number, (part, draft) in enumerate(zip(parts, drafts, strict=True), 1):
            if not draft.is_file() or not images.have(image for image, _ in _read_draft(draft)):
                parquet = draft.with_suffix(".parquet")
                download_file(repository, listing, part.path, parquet)
                label = f"{name}, part {number} of {len(parts)}"
                rows = _rows(parquet, label, f"{repository.name}, {part.path}", columns)
                _write_draft(draft, rows, images, columns)
                parquet.unlink()
    except HubUnreachableError as error:
        if current is None:
            raise InputError(
                f"{repository}: the hub cannot be reached ({error}); run `vrp fetch` where there "
                "is a network"
            ) from None
        kept = short_revision(current.commit)
        logger.warning(f"{repository.name}: the hub cannot be reached; keeping {kept}")
        return current
    files = _write_official(places, columns, drafts)
    if earlier is not None:
        _delete_outdated(places.folder, earlier, files)
    kept_images = sorted({image for draft in drafts for image, _ in _read_draft(draft)})
    asked = (source.repository, source.revision, listing.commit, source.subset, source.split)
    record = _Record(*asked, files, kept_images)
    _record_path(places.folder, name).write_text(json.dumps(record._asdict()), encoding="utf-8")
    shutil.rmtree(work)
    logger.info(
        f"{repository.name}@{short_revision(listing.commit)}: {len(record.images)} images, "
        f"{', '.join(files)}"
    )
    return record


def _delete_outdated(folder: Path, earlier: _Record, files: Collection[str]) -> None:
    """Delete question files that an earlier run wrote and this one did not, such as a split's."""
    for place, sha256 in earlier.files.items():
        if place not in files and _is_file(folder / place, sha256):
            (folder / place).unlink()


def _record_path(folder: Path, name: str) -> Path:
    return folder / ".downloads" / f"hub-{name}.json"


def _read_record(folder: Path, name: str) -> _Record | None:
    """The record of an earlier run; None where there is none."""
    try:
        return _Record(**json.loads(_record_path(folder, name).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _is_file(path: Path, sha256: str) -> bool:
    return path.is_file() and file_sha256(path) == sha256


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
            f"{repository}: is not a data set of Parquet files ({_one_line(error)})"
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


def _write_draft(
    path: Path, rows: Iterable[tuple[str, Row]], images: "_ImageFolder", columns: HubColumns
) -> None:
    """Write a line for each row: its image's file, and what it becomes in the official files."""
    with atomic_write(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        for where, row in rows:
            ids = [row[column] for column in columns.image_ids if column in row]
            image = images.keep(ids[0] if ids else None, row["image"], where)
            file.write(json.dumps([image, columns.to_official(row, image, where)]) + "\n")


def _read_draft(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _rows(parquet: Path, label: str, where: str, columns: HubColumns) -> Iterator[tuple[str, Row]]:
    """Stream the rows of a Parquet file, images as bytes, each with its place."""
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
        shown = tqdm(stream, total=n_rows, unit="row", desc=label, mininterval=5)
        for number, row in enumerate(shown, 1):
            yield f"{where}, row {number}", row
    except (pa.ArrowException, ValueError, OSError) as error:
        raise InputError(
            f"{where}: cannot be read ({_one_line(error)}); it was published like this: "
            "choose another revision"
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
        what = f"holds {kind}, not the bytes of image files"
        raise InputError(f"{where}: column 'image' {what}; choose another data set")


class _ImageFolder:
    """A folder of images, each written once under its name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._files = {path.stem: path.name for path in self._folder.iterdir() if path.is_file()}
        self._digest = functools.cache(file_sha256)
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
            self._files[stem] = name
        name = self._files[stem]
        if not self._warned and self._digest(self._folder / name) != digest:
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


def _write_official(
    places: DatasetPlaces, columns: HubColumns, drafts: Iterable[Path]
) -> dict[str, str]:
    """Join the drafts into the official files; return their SHA-256 by their place."""
    files: dict[str, tuple[TextIO, OfficialFile]] = {}
    with contextlib.ExitStack() as stack:
        of_drafts = itertools.chain.from_iterable(map(_read_draft, drafts))
        for key, row in (item for _, rows in of_drafts for item in rows.items()):
            is_first = key not in files
            if is_first:
                official = columns.official_file(key)
                path = stack.enter_context(atomic_write(places.path(official.file, official.split)))
                files[key] = stack.enter_context(path.open("w", encoding="utf-8")), official
            file, official = files[key]
            if official.rows is None:
                file.write(("" if is_first else "\n") + json.dumps(row))
            else:  # one object, its rows one a line
                head = f'{json.dumps(dict(official.header))[:-1]}, "{official.rows}": [\n'
                file.write((head if is_first else ",\n") + json.dumps(row))
        for file, official in files.values():
            file.write("\n" if official.rows is None else "\n]}\n")
    written = sorted((official.file, official.split) for _, official in files.values())
    return {places.file(*of_key): file_sha256(places.path(*of_key)) for of_key in written}
