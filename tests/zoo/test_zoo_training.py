import json

import pytest
import torch
from safetensors.torch import load_file

from vrp.errors import InputError
from vrp.zoo.evaluate import load_model
from vrp.zoo.training import RECIPES, Recipe, train
from vrp.zoo.training_phase import StepOutcome, TrainingPhase, run_phase, steps_done

TINY = Recipe(
    n_vision_scenes=12,
    n_language_scenes=12,
    n_validation=4,
    vision_steps=2,
    vision_batch=4,
    language_steps=3,
    language_batch=3,
    prior_steps=2,
    prefix_steps=2,
    prefix_batch=4,
)


class StoppedError(Exception):
    pass


def _problem():
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2)
    data = torch.randn(20, 3)

    def compute(step):
        return StepOutcome(layer(data[step : step + 4]).square().mean(), {})

    return layer, compute


def test_stage_that_was_stopped_ends_like_one_that_was_not(tmp_path):
    plan = TrainingPhase("toy", steps=9, peak_rate=0.1, warmup=3, checkpoint_every=4)
    layer, compute = _problem()
    run_phase(plan, {"layer": layer}, layer.parameters(), compute, tmp_path / "a")
    whole = layer.weight.clone()

    layer, compute = _problem()
    out = tmp_path / "b"

    def stops(step):
        if step == 6:
            raise StoppedError
        return compute(step)

    with pytest.raises(StoppedError):
        run_phase(plan, {"layer": layer}, layer.parameters(), stops, out)
    assert steps_done(plan, out) == 4
    layer, compute = _problem()
    torch.nn.init.zeros_(layer.weight)  # must come from the checkpoint
    run_phase(plan, {"layer": layer}, layer.parameters(), compute, out)
    assert torch.equal(layer.weight, whole)


def test_stage_starts_over_when_told_to(tmp_path):
    plan = TrainingPhase("toy", steps=4, peak_rate=0.1)
    layer, compute = _problem()
    run_phase(plan, {"layer": layer}, layer.parameters(), compute, tmp_path)
    whole = layer.weight.clone()
    layer, compute = _problem()
    run_phase(plan, {"layer": layer}, layer.parameters(), compute, tmp_path, resume=False)
    assert torch.equal(layer.weight, whole)


@pytest.mark.slow
def test_interrupted_training_ends_with_the_same_weights(tmp_path, monkeypatch):
    family = "paligemma"
    whole = train(family, tmp_path / "whole", seed=1, recipe=TINY)

    from vrp.zoo import training

    original = training._LanguageStage.packed_step

    def stop_at_two(self, step):
        if step == 2:
            raise StoppedError
        return original(self, step)

    monkeypatch.setattr(training, "CHECKPOINT_EVERY", 1)
    monkeypatch.setattr(training._LanguageStage, "packed_step", stop_at_two)
    with pytest.raises(StoppedError):
        train(family, tmp_path / "cut", seed=1, recipe=TINY)
    monkeypatch.setattr(training._LanguageStage, "packed_step", original)
    resumed = train(family, tmp_path / "cut", seed=1, recipe=TINY)

    first, second = (load_file(f / "model.safetensors") for f in (whole, resumed))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    log = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").open()]
    assert any("validation_existence" in line for line in log)
    made = json.loads((whole / "training.json").read_text())
    assert made["recipe"]["language_steps"] == 3
    assert load_model(family, whole).model.config.model_type == "paligemma"


def test_unknown_family_is_refused(tmp_path):
    with pytest.raises(InputError, match="unknown family 'blip'; give one of llava"):
        train("blip", tmp_path)


def test_only_paligemma_has_a_prefix_stage():
    with_prefix = {family for family, recipe in RECIPES.items() if recipe.prefix_steps}
    assert with_prefix == {"paligemma"}
