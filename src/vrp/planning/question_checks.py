"""Whether question files hold what a study asks of them, as far as they are there."""

from collections import Counter
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from vrp.config.data import DataConfig
from vrp.config.study import StudyConfig
from vrp.data.archives import archives_of, not_downloaded
from vrp.data.datasets import get_dataset, load_datasets
from vrp.data.hub_sets import is_fetched
from vrp.data.item import POPE, Reading
from vrp.data.item_sampling import require_enough
from vrp.data.scenes.pope_sampling import OBJECTS_ASKED
from vrp.errors import InputError
from vrp.planning.workload import n_images_of, n_items
from vrp.stages.sample import read_splits


class Questions(NamedTuple):
    """What the question files say before anything is asked."""

    notes: tuple[str, ...] = ()
    """What is worth knowing of them."""
    n_images: int | None = None
    """The most images about which answers can be judged; None: not known."""


def check_questions(study: StudyConfig) -> Questions:
    """Refuse question files that do not hold what the study asks of them, where they are there.

    Raises:
        InputError: a file is malformed, or has too few questions for a split.
    """
    if study.data.origin == "scenes":  # drawn anew: what is there may be of other settings
        _require_scenes(study)
        return Questions(n_images=_most_drawn(study))
    if unfetched(study.data):
        return Questions()
    readings, _ = read_splits(study, [name for name in _datasets(study) if _is_there(study, name)])
    taken: Counter[tuple[str, str]] = Counter()
    for split in study.sample.splits:
        reading = readings.get((split.dataset, split.split))
        if reading is None:
            continue
        shared = get_dataset(split.dataset).splits_share_questions
        of_earlier = taken[split.dataset, split.task] if shared else 0
        require_enough(reading, of_earlier + split.count)
        taken[split.dataset, split.task] += split.count
    unjudged = {
        f"{dataset} {split}": sum(question.reference is None for question in reading.questions)
        for (dataset, split), reading in readings.items()
    }
    notes = tuple(
        f"{n:,} questions of {name} have no `answers`: they are asked, and not judged"
        for name, n in unjudged.items()
        if n
    )
    asked = {(split.dataset, split.split) for split in study.sample.splits}
    return Questions(notes, _most_judged(study, readings) if asked <= set(readings) else None)


def _most_judged(study: StudyConfig, readings: Mapping[tuple[str, str], Reading]) -> int:
    """The most images that the study's judged items can be of."""
    judged = {
        place: [question for question in reading.questions if question.reference is not None]
        for place, reading in readings.items()
    }
    taken = sum(
        min(split.count, len(judged[split.dataset, split.split])) for split in study.sample.splits
    )
    every = list(chain.from_iterable(judged.values()))
    # Questions of one image, or of one named group, are kept together.
    images = {question.image for question in every}
    groups = {question.group or question.image for question in every}
    return min(taken, len(images), len(groups))


def _most_drawn(study: StudyConfig) -> int | None:
    """The same of drawn scenes, which the data sets have in common."""
    n_images = [n_images_of(study, name) for name in _datasets(study)]
    known = [n for n in n_images if n is not None]
    return min(n_items(study), max(known)) if len(known) == len(n_images) else None


def _require_scenes(study: StudyConfig) -> None:
    n_images = study.data.scenes.n_pope_images
    most = 2 * OBJECTS_ASKED * n_images
    for split in study.sample.splits:
        if split.dataset == POPE and split.count > most:
            raise InputError(
                f"pope {split.split}: asked for {split.count} items, the {n_images} images of "
                f"data.scenes.n_pope_images have {most}; lower the count or draw more"
            )


def unfetched(data: DataConfig) -> list[str]:
    """What a study's own fetching, which trusts its marks alone, would ask the network for."""
    match data.origin:
        case "official":
            archives = archives_of(load_datasets(data.official))
            return not_downloaded(Path(data.folder), archives)
        case "hub":
            return [
                f"data.hub.{name}"
                for name, source in data.hub.items()
                if not is_fetched(name, source, data.places(name))
            ]
        case _:
            return []


def _datasets(study: StudyConfig) -> list[str]:
    return list(dict.fromkeys(split.dataset for split in study.sample.splits))


def _is_there(study: StudyConfig, dataset: str) -> bool:
    places = study.data.places(dataset)
    asked = [(split.dataset, split.split) for split in study.sample.splits]
    files = study.data.question_files(one for one in asked if one[0] == dataset)
    folder = Path(study.data.folder)
    return (folder / places.images).is_dir() and all((folder / name).is_file() for name in files)
