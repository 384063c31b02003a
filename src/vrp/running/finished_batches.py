"""Finished batches of a shard, kept beside its table until the whole shard is done.

A killed job leaves them behind; the next one takes them over and computes the rest. They are no
outputs of any rule: a folder with a dot in front, removed when the shard's tables are written.
"""

import hashlib
import io
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa

from vrp.study.provenance import EXECUTION
from vrp.tables.atomic_files import atomic_write, write_text

logger = logging.getLogger(__name__)

Batch = tuple[str, ...]
"""Item ids."""
BatchTables = tuple[pa.Table, ...]
"""Rows of one batch, one table for each output of the stage."""

_PLAN = "plan.json"
_DIGEST_BYTES = hashlib.sha256().digest_size


class FinishedBatches:
    """The side files of one shard."""

    def __init__(
        self, output: Path, plan: Sequence[Batch], provenance: Mapping[str, str], *, stage: str
    ) -> None:
        """Take over what an earlier run of the very same work left, or start afresh.

        Where that run had other batches, since the batch size was changed in between, its finished
        ones stay, and the rest is planned as now.

        Args:
            output: the shard's table (the first, where there are several).
            plan: the item ids of each batch.
            provenance: what makes the tables (model, code, config …): batches that were made by
                anything else are thrown away.
            stage: named in messages.
        """
        self.folder = output.parent / f".{output.stem}.batches"
        self._stage = stage
        self._provenance = {k: v for k, v in sorted(provenance.items()) if k != EXECUTION}
        earlier = self._earlier_plan()
        same_items = {i for batch in earlier for i in batch} == {i for batch in plan for i in batch}
        if not same_items:
            self.discard()
        self.plan = self._continued(earlier, plan) if same_items else list(plan)
        self._described = same_items and self.plan == earlier

    def complete(
        self,
        compute: Callable[[Batch], Any],
        tabulate: Callable[[Any], BatchTables] | None = None,
    ) -> Iterator[BatchTables]:
        """Yield the tables of every batch in the order of the plan, computing what is missing.

        Each computed batch is written before it is yielded. Where there is `tabulate`, the tables
        of one batch are made and written on a thread of its own while the next one is computed.

        Args:
            compute: the tables of a batch, or what `tabulate` makes them of.
            tabulate: makes the tables of what was computed; it must not touch the model.

        Raises:
            InputError: the disk is full.
        """
        found = [self._load(index) for index in range(len(self.plan))]
        n_found = sum(tables is not None for tables in found)
        if n_found:
            logger.info(
                f"{self._stage}: {n_found} of {len(self.plan)} batches were finished by an earlier "
                "run; computing the others"
            )
        with ThreadPoolExecutor(max_workers=1) as aside:
            pending: Future[BatchTables] | None = None
            for index, (batch, tables) in enumerate(zip(self.plan, found, strict=True)):
                try:
                    computed: Any = compute(batch) if tables is None else None
                finally:  # what was begun is kept, whatever comes of this batch
                    done, pending = (None if pending is None else pending.result()), None
                if done is not None:
                    yield done
                if tables is not None:
                    yield tables
                elif tabulate is not None:
                    pending = aside.submit(self._tabulated, index, tabulate, computed)
                else:
                    self._save(index, computed)
                    yield computed
            if pending is not None:
                yield pending.result()

    def discard(self) -> None:
        """Remove the side files: the shard's tables are written, or they are of other work."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _earlier_plan(self) -> list[Batch]:
        """The plan of an earlier run of this work; empty where there is none."""
        try:
            work = json.loads((self.folder / _PLAN).read_text("utf-8"))
            if work["provenance"] != self._provenance:
                return []
            return [tuple(batch) for batch in work["plan"]]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def _continued(self, earlier: Sequence[Batch], plan: Sequence[Batch]) -> list[Batch]:
        """The batches that an earlier run had finished, then what is left of the plan."""
        n_finished = 0
        while n_finished < len(earlier) and self._path(n_finished).is_file():
            n_finished += 1
        finished = list(earlier[:n_finished])
        done = {item_id for batch in finished for item_id in batch}
        rest = [tuple(item_id for item_id in batch if item_id not in done) for batch in plan]
        return finished + [batch for batch in rest if batch]

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.batch"

    def _digest(self, index: int, content: bytes) -> bytes:
        """Digest a batch's work and content: a job that was given up may still write its own
        batches beside the plan."""
        work = json.dumps([self._provenance, self.plan[index]])
        return hashlib.sha256(work.encode() + content).digest()

    def _tabulated(
        self, index: int, tabulate: Callable[[Any], BatchTables], computed: Any
    ) -> BatchTables:
        tables = tabulate(computed)
        self._save(index, tables)
        return tables

    def _save(self, index: int, tables: BatchTables) -> None:
        """Write a batch: a digest, then one Arrow stream after another."""
        if not self._described:
            work = {"provenance": self._provenance, "plan": self.plan}
            write_text(self.folder / _PLAN, json.dumps(work, indent=1) + "\n")
            self._described = True
        sink = io.BytesIO()
        for table in tables:
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
        content = sink.getvalue()
        # One that a power cut damages is noticed by its digest and computed again.
        with atomic_write(self._path(index), durable=False) as part:
            part.write_bytes(self._digest(index, content) + content)

    def _load(self, index: int) -> BatchTables | None:
        """Read a batch; None where there is none, a damaged one or one of other work."""
        try:
            written = self._path(index).read_bytes()
        except OSError:
            return None
        digest, content = written[:_DIGEST_BYTES], written[_DIGEST_BYTES:]
        if digest != self._digest(index, content):
            return None
        tables, streams = [], pa.BufferReader(content)
        while streams.tell() < streams.size():
            with pa.ipc.open_stream(streams) as reader:
                tables.append(reader.read_all())
        return tuple(tables)
