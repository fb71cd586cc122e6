"""Recipes as files: what is printed is read back, and what is wrong is said in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from converters.cli import main
from zoo import registry
from zoo.errors import ZooError
from zoo.recipe import (
    Augmentation,
    CosineAnnealingLR,
    MultiStepLR,
    Normal,
    Phase,
    Phases,
    PolyLR,
    Recipe,
    ReduceLROnPlateau,
    StepLR,
    Uniform,
)
from zoo.recipe_file import check, dumps, from_plain, read_recipe, to_plain
from zoo.recipes import DEFAULT, FINE_TUNING

MINI = registry.model("alexnet_mini")
RECIPES = {name: registry.recipe(registry.model(name)) for name in registry.models()}


@pytest.mark.parametrize("recipe", [*RECIPES.values(), FINE_TUNING, DEFAULT], ids=lambda recipe: recipe.name)
def test_a_recipe_survives_its_file(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(dumps(recipe))
    assert read_recipe(tmp_path / "r.yaml") == recipe
    assert from_plain(to_plain(recipe)) == recipe


@pytest.mark.parametrize("name", registry.models())
def test_every_member_s_recipe_fits_it_and_names_its_source(name: str) -> None:
    spec = registry.model(name)
    recipe = registry.recipe(spec)
    assert recipe is not DEFAULT
    assert recipe.source
    check(recipe, spec)


def test_networks_outside_the_family_have_the_default_and_not_the_papers() -> None:
    assert registry.recipe(replace(MINI, name="theirs")) is DEFAULT
    stranger = replace(MINI.without("fc7", "relu7", "drop7"), name="alexnet")  # has a member's name, not its layers
    assert registry.recipe(stranger) is DEFAULT
    assert registry.recipe(registry.model("alexnet").with_num_classes(7)).name == "paper"


def test_show_prints_what_train_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "caffenet", "--recipe"]) == 0
    (tmp_path / "r.yaml").write_text(capsys.readouterr().out)
    assert read_recipe(tmp_path / "r.yaml") == RECIPES["caffenet"]


BASE = "name: mine\nsource: me\nschedule: {kind: StepLR, step_size: 3}\ninitial: {'*': {kind: HeNormal}}\n"


def test_what_is_left_out_has_its_default_and_5e_4_is_a_number(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(BASE + "weight_decay: 5e-4\nrate: 1\n")
    recipe = read_recipe(tmp_path / "r.yaml")
    assert (recipe.weight_decay, recipe.rate, recipe.schedule) == (5e-4, 1.0, StepLR(step_size=3))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BASE + "ratte: 0.1", "unknown key of a Recipe 'ratte'; did you mean rate"),
        (BASE + "rate: fast", "rate: expected float, got 'fast'"),
        (BASE + "augmentation: {flop: true}", "unknown key of a Augmentation 'flop'; did you mean flip"),
        (BASE.replace("StepLR", "StepLRR"), "unknown kind 'StepLRR'; did you mean StepLR"),
        (BASE.replace("step_size: 3", "step_size: x"), "schedule: step_size: expected int, got 'x'"),
        (BASE.replace("name: mine\n", ""), "name of a Recipe is missing"),
        (BASE.replace("kind: HeNormal", ""), "kind is missing"),
        (BASE + "rate: 0.1\nrate: 0.2", "a key is given twice (line 1)"),
        ("- a", "expected keys with values"),
        ("", "expected keys with values, got None"),
        ("a: [", "no YAML"),
        ("[" * 3000, "no YAML"),
        ("#" * 200_000, "has more than 131,072 bytes"),
        ("x: !!python/object/apply:os.system [exit]", "could not determine a constructor"),
    ],
)
def test_what_is_no_recipe_is_said_in_one_line(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.yaml").write_text(text)
    command = ["train", "alexnet_mini", "--data", "digits", "-o", str(tmp_path / "run")]
    assert main([*command, "--recipe", str(tmp_path / "r.yaml")]) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1 and "r.yaml" in said
    assert not (tmp_path / "run").exists()


def _phases(**changes: Any) -> Phases:
    return Phases(phases=(replace(Phase(epoch=0, rate=1.0, bias_rate=1.0), **changes),))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"momentum": 1.0}, "momentum is 1.0, expected a number of at least 0 and below 1"),
        ({"label_smoothing": -0.1}, "label_smoothing is -0.1"),
        (
            {"initial": {"*.weight": Normal(std=-1.0)}},
            "initial: *.weight: std is -1.0, expected a number of at least 0",
        ),
        ({"initial": {"*.weight": Uniform(bound=-1.0)}}, "initial: *.weight: bound is -1.0"),
        ({"batch_size": 0}, "batch_size is 0, expected a number of at least 1"),
        ({"epochs": 10**400}, "0, expected a number of at least 1 and below 1,000,000,000,000,000,000"),
        ({"augmentation": Augmentation(pad=-1)}, "augmentation: pad is -1, expected a number of at least 0"),
        ({"augmentation": Augmentation(pad=500)}, "augmentation: pad is 500, expected less than the input's "),
        ({"augmentation": Augmentation(colour_noise=-0.1)}, "augmentation: colour_noise is -0.1"),
        ({"schedule": StepLR(step_size=0)}, "schedule: step_size is 0, expected a number of at least 1"),
        ({"schedule": MultiStepLR(milestones=(3, 1))}, "milestones of [3, 1], expected them in order"),
        ({"schedule": MultiStepLR(milestones=(30,), unit="run")}, "milestones of [30], expected shares of the run"),
        ({"schedule": ReduceLROnPlateau(factor=2.0)}, "schedule: factor is 2.0"),
        ({"schedule": PolyLR(power=-1.0)}, "schedule: power is -1.0, expected a number of at least 0"),
        ({"schedule": CosineAnnealingLR(eta_min=1.0)}, "an eta_min of 1.0, expected 0 to 0.01"),
        ({"schedule": _phases(epoch=3)}, "no phase that begins at epoch 0"),
        ({"schedule": _phases(rate=-1.0)}, "schedule: phases: rate is -1.0, expected a number of at least 0"),
        ({"schedule": _phases(rate=0.0, bias_rate=0.0)}, "no rate above 0"),
        ({"schedule": _phases(layers={"conv9": 1.0})}, "the phase from epoch 0 'conv9' fits nothing in alexnet_mini"),
        ({"schedule": Phases(phases=_phases().phases * 2)}, "phases that begin at [0, 0], expected one at each epoch"),
        ({"schedule": _phases(), "warmup_epochs": 1}, "warmup_epochs changes nothing"),
    ],
)
def test_numbers_that_cannot_train_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ZooError) as caught:
        check(replace(DEFAULT, **changes), MINI)  # pyright: ignore
    assert message in str(caught.value)


def test_every_field_is_written_out() -> None:
    assert set(yaml.safe_load(dumps(DEFAULT))) == set(Recipe.__dataclass_fields__)
