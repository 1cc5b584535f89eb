import pytest
import typer

from thalweg.cli import app
from thalweg.cli.common.seed_options import SEED_FLAGS, seeds_or_count
from thalweg.errors import UsageError
from thalweg.seeds import read_seed


def seed_options() -> dict[str, dict[str, list[str]]]:
    """Return the spellings of each seed option by command."""
    found: dict[str, dict[str, list[str]]] = {}

    def collect(command: typer.main.TyperGroup, path: str) -> None:
        for name, inner in getattr(command, "commands", {}).items():
            collect(inner, f"{path} {name}".strip())
        options = {each.name: each.opts for each in command.params if each.name in ("seed", "seeds")}
        if options:
            found[path] = options

    collect(typer.main.get_command(app), "")
    return found


def test_seed_and_seeds_mean_the_same_in_every_command_that_has_one_of_them() -> None:
    options = seed_options()
    assert len(options) >= 11
    for command, found in options.items():
        if command in ("steer navigate", "gpp evaluate"):  # seeds of images and a seed of draws; seeds or their number
            continue
        (spellings,) = found.values()
        assert set(spellings) == set(SEED_FLAGS), command


def test_navigate_keeps_the_seeds_of_images_and_the_seed_of_draws_apart() -> None:
    assert seed_options()["steer navigate"] == {"seeds": ["--seeds"], "seed": ["--seed"]}


def test_several_seeds_are_refused_where_one_is_taken() -> None:
    assert read_seed("12") == 12 and read_seed("5-5") == 5
    with pytest.raises(UsageError, match="expected one seed here, such as 3, got '0-7'"):
        read_seed("0-7")


def test_a_number_alone_is_a_number_of_runs_and_a_list_names_their_seeds() -> None:
    assert seeds_or_count("3") == (0, 1, 2)
    assert seeds_or_count("4,7") == (4, 7) and seeds_or_count("5-5") == (5,)
    with pytest.raises(UsageError, match="number of runs"):
        seeds_or_count("0")
