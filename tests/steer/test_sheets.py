import pytest
import torch

from thalweg.steer.sheets import contact_sheet, labelled_sheet, score_labels, sheet_tiles, square_columns


def test_contact_sheet_places_images_in_rows():
    images = torch.arange(1, 6).float()[:, None, None, None].expand(5, 3, 2, 3) / 10
    sheet = contact_sheet(images, columns=2, gap=1)
    assert sheet.shape == (3, 3 * 3 - 1, 2 * 4 - 1)
    assert torch.all(sheet[:, :2, :3] == 0.1)
    assert torch.all(sheet[:, 3:5, 4:7] == 0.4)
    assert torch.all(sheet[:, 2] == 1)
    assert torch.all(sheet[:, 6:, 4:] == 1)  # no sixth image


def test_small_images_are_enlarged_by_a_whole_factor_and_labelled_below() -> None:
    images = torch.rand((3, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    sheet = labelled_sheet(images, 2, ["seed 0", "seed 1", "seed 2"])
    assert sheet.shape == (3, 2 * 218 - 6, 2 * 198 - 6)
    assert torch.equal(sheet[:, 0:192:3, 198:390:3], images[1]) and torch.equal(sheet[:, 2:192:3, 200:390:3], images[1])
    strips = [sheet[:, 192:212, :192], sheet[:, 192:212, 198:390], sheet[:, 410:430, :192]]
    for strip in strips:
        assert strip.min() < 0.3 and (strip > 0.9).float().mean() > 0.7, "black letters on white"
    assert not torch.equal(strips[0], strips[1])
    assert torch.equal(sheet[:, 212:218], torch.ones(3, 6, 390)) and bool((sheet[:, 218:, 198:] == 1).all())


@pytest.mark.parametrize(("side", "shown", "label"), [(100, 200, 21), (192, 192, 20), (512, 512, 53)])
def test_readable_images_keep_their_size_and_labels_grow_with_them(side: int, shown: int, label: int) -> None:
    sheet = labelled_sheet(torch.zeros(1, 3, side, side), 1, ["seed 7"])
    assert sheet.shape == (3, shown + label, shown)
    letters = (sheet[:, shown:] < 0.5).any(0).any(0).nonzero()
    assert 0.15 < letters.max() / shown < 0.3, "as large in relation to the image at any size"


def test_tiles_are_the_images_with_their_labels() -> None:
    images = torch.rand((5, 3, 64, 80), generator=torch.Generator().manual_seed(0))
    labels = [f"seed {seed}" for seed in range(5)]
    sheet = labelled_sheet(images, 2, labels)
    tiles = sheet_tiles(sheet.shape[2], sheet.shape[1], columns=2, rows=3)
    assert len(tiles) == 6
    for index, tile in enumerate(tiles[:5]):
        found = sheet[:, tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
        assert torch.equal(found, labelled_sheet(images[index : index + 1], 1, labels[index : index + 1]))


def test_square_sheets_have_as_many_columns_as_rows_or_one_more() -> None:
    assert [square_columns(count) for count in (1, 2, 3, 4, 5, 9, 10)] == [1, 2, 2, 2, 3, 3, 4]


def test_long_labels_are_written_smaller() -> None:
    label = "before, seed 18446744073709551615: 0.0123"
    strip = labelled_sheet(torch.zeros(1, 3, 192, 192), 1, [label])[:, 192:]
    columns = (strip < 0.5).any(0).any(0).nonzero()
    assert columns.max() < 192 and columns.max() > 150


def test_labels_name_seed_and_score() -> None:
    assert score_labels([3, 4], [0.02445, 120.0], "after, ") == ["after, seed 3: 0.02445", "after, seed 4: 120"]
