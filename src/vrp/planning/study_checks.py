"""What of a study is known to be wrong before anything has run."""

from collections import Counter
from pathlib import Path

from vrp.config.study import StudyConfig
from vrp.data.datasets import get_dataset
from vrp.errors import InputError
from vrp.interventions.conditions import conditions_by_name
from vrp.planning.sources import check_families


def check_names(study: StudyConfig) -> None:
    """Refuse families, splits and conditions that cannot be meant; no data is read.

    Raises:
        InputError: a model's family or a split does not exist, or a condition lacks its control.
    """
    check_families(study)
    for split in study.sample.splits:
        get_dataset(split.dataset).require_split(split.split, study.data.places(split.dataset))
    _check_controls(study)


def _check_controls(study: StudyConfig) -> None:
    """Refuse an ablation whose effect could be told from no random one's."""
    known = conditions_by_name(study).ablate if study.ablate.enabled else {}
    for name, condition in known.items():
        if condition.control is not None and condition.control not in known:
            raise InputError(
                f"ablate.conditions: {name} has no {condition.control} to be compared to (there: "
                f"{', '.join(known)}); add a random one of the same count or share, value and layer"
            )


def check_questions(study: StudyConfig) -> list[str]:
    """Refuse question files that do not hold what the study asks of them, where they are there.

    Returns:
        What is worth knowing of them before they are asked.

    Raises:
        InputError: a file is malformed, or has too few questions for a split.
    """
    from vrp.data.sampling import require_enough
    from vrp.stages.sample import read_splits

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
    return [
        f"{n:,} questions of {name} have no `answers`: they are asked, and not judged"
        for name, n in unjudged.items()
        if n
    ]


def _datasets(study: StudyConfig) -> list[str]:
    return list(dict.fromkeys(split.dataset for split in study.sample.splits))


def _is_there(study: StudyConfig, dataset: str) -> bool:
    places = study.data.places(dataset)
    asked = [(split.dataset, split.split) for split in study.sample.splits]
    files = study.data.question_files(one for one in asked if one[0] == dataset)
    folder = Path(study.data.folder)
    return (folder / places.images).is_dir() and all((folder / name).is_file() for name in files)
