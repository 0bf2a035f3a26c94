"""Rows that belong together: found, kept on one side of a cut, and told of where given splits part them."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from hf_finetune.data.config import Data
from hf_finetune.data.index.scan import index_of, scan
from hf_finetune.data.index.splits import cut
from hf_finetune.data.index.targets import Labelled
from hf_finetune.data.index.together import join
from hf_finetune.data.sources.source import SourceRow
from hf_finetune.errors import DataError, RecipeError
from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.types import SPLITS, Index, Split
from tests.data.pictures import jpeg, put
from tests.data.sources.scanning import index, notes, refusal, sizes, table

BOTH: Mapping[Split, float] = {"validation": 0.15, "test": 0.15}


def sides(found: Index, group_of: Mapping[str, str]) -> dict[str, set[str]]:
    """The splits that hold rows of each group."""
    there: defaultdict[str, set[str]] = defaultdict(set)
    for split, rows in found.splits.items():
        for row in rows:
            there[group_of[row.name]].add(split)
    return there


def grouped(groups: Sequence[Sequence[int]]) -> tuple[list[Labelled], list[list[int]], tuple[str, ...]]:
    """Rows of each group, by the class of each; the positions of each group; the names of the classes."""
    made: list[Labelled] = []
    together = []
    for number, classes in enumerate(groups):
        together.append(list(range(len(made), len(made) + len(classes))))
        made += [(SourceRow(f"g{number}/{n}", label, f"g{number}/{n}"), label) for n, label in enumerate(classes)]
    return made, together, tuple(f"c{label}" for label in range(1 + max(label for each in groups for label in each)))


def cut_groups(
    groups: Sequence[Sequence[int]], shares: Mapping[Split, float], seed: int = 0
) -> tuple[dict[Split, list[Labelled]], list[str]]:
    made, together, names = grouped(groups)
    strata = [label for each in groups for label in each]
    parts, said = cut(made, (strata, names), shares, together, seed, "data.group_column")
    where: defaultdict[str, set[str]] = defaultdict(set)
    for split, rows in parts.items():
        for row, _ in rows:
            where[row.name.partition("/")[0]].add(split)
    assert all(len(its) == 1 for its in where.values())
    assert sorted(row.name for rows in parts.values() for row, _ in rows) == sorted(row.name for row, _ in made)
    return parts, list(map(str, said))


def by_class(rows: Sequence[Labelled]) -> Counter[Any]:
    return Counter(label for _, label in rows)


def test_sets_that_share_a_member_become_one() -> None:
    assert join([[4, 1], [2, 3], [5], [3, 9], [9, 1]]) == [[1, 2, 3, 4, 9]]
    assert join([[7, 8], [1, 2]]) == [[1, 2], [7, 8]]


@pytest.mark.parametrize("seed", range(5))
def test_large_groups_are_cut_as_near_to_the_share_as_whole_groups_come(seed: int) -> None:
    parts, said = cut_groups([[n % 2 for n in range(40)] for _ in range(10)], BOTH, seed)
    assert {split: len(rows) for split, rows in parts.items()} == {"train": 320, "validation": 40, "test": 40}
    assert said == [
        f"{split} was cut with 40 rows where data.{split}_share=0.15 asks for 60, since groups stay whole"
        for split in ("test", "validation")
    ]


@pytest.mark.parametrize("seed", range(5))
def test_a_group_that_is_larger_than_the_share_is_taken_where_that_is_nearer_than_none(seed: int) -> None:
    parts, _ = cut_groups([[0] * 40 for _ in range(5)], {"test": 0.15}, seed)
    assert {split: len(rows) for split, rows in parts.items()} == {"train": 160, "test": 40}


@pytest.mark.parametrize("seed", range(5))
def test_the_smallest_harm_is_done_where_every_group_is_far_too_large(seed: int) -> None:
    parts, _ = cut_groups([[0] * 200, [0] * 150], {"test": 0.1}, seed)
    assert len(parts["test"]) == 150


@pytest.mark.parametrize("seed", range(5))
def test_groups_of_any_size_are_cut_near_to_the_share_of_every_class(seed: int) -> None:
    drawn = random.Random(seed)
    # Patients with 1 to 12 pictures, of one diagnosis or of two.
    groups = [drawn.choices(drawn.choice([[0], [0], [0, 1], [1], [2]]), k=drawn.randint(1, 12)) for _ in range(150)]
    everything = Counter(label for each in groups for label in each)
    parts, said = cut_groups(groups, BOTH, seed)
    for split in BOTH:
        assert abs(len(parts[split]) - 0.15 * everything.total()) <= 6
        for label, size in everything.items():
            assert abs(by_class(parts[split])[label] - 0.15 * size) <= 6
    assert said == []


def test_a_class_of_one_group_stays_in_train_with_a_note() -> None:
    parts, said = cut_groups([[0] * 4 for _ in range(10)] + [[1] * 20], {"test": 0.2})
    assert by_class(parts["test"]) == {0: 12}
    assert by_class(parts["train"]) == {0: 28, 1: 20}
    assert said == ["test was cut without a row of 1 class with few groups: c1"]


def test_one_group_cannot_be_cut() -> None:
    with pytest.raises(DataError) as caught:
        cut_groups([[0, 1] * 10], BOTH)
    assert str(caught.value) == (
        "data.group_column: a cut needs two groups, found one with all of 20 rows of train\n"
        "  leave data.group_column out, or name given splits in data.validation_split and data.test_split"
    )


def test_two_groups_cannot_be_cut_into_three() -> None:
    with pytest.raises(DataError) as caught:
        cut_groups([[0, 1] * 10] * 2, BOTH)
    assert str(caught.value) == (
        "data.validation_share: validation must be cut from train, found no class that can spare a row "
        "(40 rows of 2 classes in 2 groups)\n"
        "  add images, or name a given split in data.validation_split, or set data.test_share to 0"
    )


def houses(root: Path) -> list[tuple[str, str, str]]:
    """Path, class and house of 60 pictures of 12 houses, five each, put below `root`."""
    rows = [(f"{number}.jpg", "ab"[number % 2], f"{number // 5:02}") for number in range(60)]
    for number, (path, _, _) in enumerate(rows):
        put(root / path, number)
    return rows


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "tsv"])
def test_a_column_of_a_table_keeps_its_rows_together(tmp_path: Path, suffix: str) -> None:
    rows = houses(tmp_path)
    path = tmp_path / f"table.{suffix}"
    if suffix == "jsonl":
        path.write_text("".join(f'{{"image": "{p}", "label": "{c}", "house": {int(h)}}}\n' for p, c, h in rows))
    else:
        sign = "\t" if suffix == "tsv" else ","
        path.write_text("\n".join(map(sign.join, [("image", "label", "house"), *rows])))
    found = index(path, group_column="house")
    assert sizes(found) == {"train": 40, "validation": 10, "test": 10}
    assert all(len(there) == 1 for there in sides(found, {name: house for name, _, house in rows}).values())
    assert "kept together: 12 groups of house" in notes(found)
    assert found.layout.endswith("images from 'image', labels from 'label', groups from 'house'")
    alone = index(path)
    assert any(len(there) > 1 for there in sides(alone, {name: house for name, _, house in rows}).values())


def test_the_label_is_found_beside_a_group_that_could_be_one(tmp_path: Path) -> None:
    rows = houses(tmp_path)
    table(tmp_path / "t.csv", [("image", "kind", "house"), *rows])
    assert index(tmp_path / "t.csv", group_column="house").labels.names == ("a", "b")


def test_rows_without_a_group_are_each_their_own_and_ids_are_text(tmp_path: Path) -> None:
    rows = houses(tmp_path)
    told = [(path, label, {"00": "", "01": " 7 ", "02": "007", "03": "7"}.get(house, house))
            for path, label, house in rows]  # fmt: skip
    table(tmp_path / "t.csv", [("image", "label", "house"), *told])
    found = index(tmp_path / "t.csv", group_column="house")
    assert "kept together: 10 groups of house" in notes(found)  # of 12: one is blank, and two are 7
    assert "5 rows without house, each taken for a group of its own: 0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg" in notes(found)
    there = sides(found, {name: house.strip() or name for name, _, house in told})
    assert all(len(its) == 1 for its in there.values())


def test_a_column_that_is_not_there_or_says_nothing_is_refused(tmp_path: Path) -> None:
    rows = houses(tmp_path)
    path = table(tmp_path / "t.csv", [("image", "label", "house"), *((p, c, "") for p, c, _ in rows)])
    assert refusal(path, group_column="patient") == (
        "data.group_column: ROOT has no column 'patient', found image (path), label (text), house (text)\n"
        "  set data.group_column to one of these"
    )
    assert refusal(path, group_column="house") == (
        "data.group_column: values are expected in column 'house' of ROOT, found none\n"
        "  name another column, or leave data.group_column out"
    )


@pytest.mark.parametrize(
    ("pattern", "groups"), [(r"house_\d+", 12), (r"/(house_\d+)_", 12), (r"(\w)/.*(?P<group>\d)_", 10)]
)
def test_a_pattern_finds_the_group_in_the_names_of_a_folder(tmp_path: Path, pattern: str, groups: int) -> None:
    for number in range(60):
        put(tmp_path / "ab"[number % 2] / f"house_{number // 5:02}_{number}.jpg", number)
    found = index(tmp_path, group_pattern=pattern)
    assert f"kept together: {groups} groups: by {pattern}" in notes(found)
    names = {row.name: row.name.partition("_")[2][:2] for rows in found.splits.values() for row in rows}
    assert all(len(there) == 1 for there in sides(found, names).values())


def test_names_that_do_not_match_are_told_of_and_none_that_match_refused(tmp_path: Path) -> None:
    for number in range(40):
        put(tmp_path / "ab"[number % 2] / f"{'p' if number < 30 else 'x'}{number // 3}.{number}.jpg", number)
    found = index(tmp_path, group_pattern=r"p\d+")
    assert "10 rows whose name matches no group, each taken for a group of its own: a/x" in notes(found)
    assert refusal(tmp_path, group_pattern=r"patient(\d+)") == (
        r"data.group_pattern: names of rows that match patient(\d+) are expected in ROOT, found none among "
        "a/p0.0.jpg, a/p0.2.jpg, a/p1.4.jpg and 37 more\n"
        "  mend the expression; it may match anywhere in the name"
    )


def test_a_folder_has_no_column_and_the_other_key_is_offered(tmp_path: Path) -> None:
    put(tmp_path / "a/1.jpg", 1)
    put(tmp_path / "b/2.jpg", 2)
    assert refusal(tmp_path, group_column="patient") == (
        "data.group_column: the folder of class folders ROOT has no group column, found 'patient'\n"
        "  data.group_pattern tells groups by the rows' names"
    )


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ({"group_pattern": "("}, "data.group_pattern: expected a regular expression, found '(': missing )"),
        ({"group_pattern": "a", "group_column": "b"}, "data.group_pattern: groups are told by a column or by names"),
        ({"split_seed": -1}, "data.split_seed: a number greater than or equal to 0 is expected"),
    ],
)
def test_keys_that_cannot_be_meant_are_refused_with_the_recipe(told: dict[str, Any], text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe({"data": told})
    assert text in str(caught.value)


@pytest.mark.parametrize("stored", [True, False])
def test_a_column_of_parquet_and_of_a_dataset_in_memory(tmp_path: Path, stored: bool) -> None:
    datasets = pytest.importorskip("datasets")
    content = {
        "image": [{"bytes": jpeg(number), "path": None} for number in range(60)],
        "label": ["ab"[number % 2] for number in range(60)],
        "house": [None if number < 5 else float(number // 5) for number in range(60)],
    }
    data = datasets.Dataset.from_dict(
        content, features=datasets.Features({"image": datasets.Image(), "label": datasets.Value("string"),
                                             "house": datasets.Value("float64")})
    )  # fmt: skip
    config = Data(name="x", group_column="house")
    if stored:
        data.to_parquet(tmp_path / "table.parquet")
        found = scan(config.model_copy(update={"name": str(tmp_path / "table.parquet")}), seed=0)
    else:
        found = index_of(data, config, seed=0)
    assert "kept together: 11 groups of house" in notes(found)
    assert "5 rows without house, each taken for a group of its own" in notes(found)
    names = {row.name: row.name.rpartition(" ")[2] for rows in found.splits.values() for row in rows}
    there = sides(found, {name: str(int(n) // 5) if int(n) >= 5 else name for name, n in names.items()})
    assert all(len(its) == 1 for its in there.values())


def test_a_list_of_paths_is_grouped_by_their_names(tmp_path: Path) -> None:
    rows = houses(tmp_path)
    found = index_of([(tmp_path / path, label) for path, label, _ in rows], Data(group_pattern=r"/(\d+)\d\."), seed=0)
    assert "kept together: 5 groups" in notes(found)  # the tens of 10 to 59; ten pictures have no tens


@pytest.mark.parametrize("seed", range(4))
def test_byte_equal_pictures_join_their_groups(tmp_path: Path, seed: int) -> None:
    rows = houses(tmp_path)
    put(tmp_path / "7.jpg", 0)  # house 01 shares a picture with house 00
    put(tmp_path / "11.jpg", 8)  # and house 02 with house 01
    table(tmp_path / "t.csv", [("image", "label", "house"), *rows])
    found = scan(Data(name=str(tmp_path / "t.csv"), group_column="house"), seed=seed)
    there = sides(found, {name: "00" if house in ("01", "02") else house for name, _, house in rows})
    assert all(len(its) == 1 for its in there.values())


def test_a_given_split_that_parts_groups_is_reported_and_left_as_it_is(tmp_path: Path) -> None:
    rows = [(*row, "test" if number % 10 == 0 or number > 56 else "train") for number, row in
            enumerate(houses(tmp_path))]  # fmt: skip
    path = table(tmp_path / "t.csv", [("image", "label", "house", "split"), *rows])
    found = index(path, group_column="house", validation_share=0)
    assert sizes(found) == {"train": 51, "test": 9}
    (told,) = [note for note in found.notes if "both sides" in note.text]
    assert told.text == "7 groups (35 rows) found on both sides of train and test: scores there say too much"
    assert told.names == "00, 02, 04, 06, 08 and 2 more"


def test_a_table_for_a_given_test_may_lack_the_column(tmp_path: Path) -> None:
    rows = houses(tmp_path)
    table(tmp_path / "train.csv", [("image", "label", "house"), *rows[:50]])
    table(tmp_path / "test.csv", [("image", "label"), *(row[:2] for row in rows[50:])])
    found = index(tmp_path, group_column="house")
    assert sizes(found)["test"] == 10
    assert "10 rows without house, each taken for a group of its own" in notes(found)


def test_the_seed_of_the_cut_is_its_own_and_a_cut_is_the_same_again(tmp_path: Path) -> None:
    table(tmp_path / "t.csv", [("image", "label", "house"), *houses(tmp_path)])

    def parts(seed: int, split_seed: int | None) -> dict[str, set[str]]:
        config = Data(name=str(tmp_path / "t.csv"), group_column="house", split_seed=split_seed)
        found = scan(config, seed=seed)
        return {split: {row.name for row in found.splits[split]} for split in SPLITS}

    assert parts(seed=1, split_seed=None) == parts(seed=5, split_seed=1) == parts(seed=6, split_seed=1)
    assert parts(seed=1, split_seed=2) != parts(seed=1, split_seed=1)
