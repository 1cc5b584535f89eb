"""Earth embeddings as a Generator: the tools of `thalweg.steer` themselves work on them."""

import numpy as np
import pytest
import torch
import xarray as xr

from thalweg.earth.analysis.distribution import EmbeddingDistribution
from thalweg.earth.counterfactual.generator import EarthGenerator
from thalweg.earth.counterfactual.quantities import quantity_by_name
from thalweg.earth.counterfactual.trust_region import MahalanobisRegion
from thalweg.earth.inference.compute import embed
from thalweg.earth.model.earth_model import EarthModel
from thalweg.earth.store.lookup import embedding_at_place
from thalweg.embedding import Embedding, Lineage, ModelIdentity
from thalweg.errors import UsageError
from thalweg.generator import DirectedGenerator, Generator
from thalweg.steer.interpolation import PathConfig, equal_image_steps, path
from thalweg.steer.metrics.metric import metric
from thalweg.steer.navigation.navigation import NavigateConfig, Navigation
from thalweg.steer.optimization.optimize import optimize
from thalweg.steer.optimization.optimize_config import OptimizeConfig
from thalweg.steer.runs import Run


@pytest.fixture(scope="module")
def embedded(cube: object, model: EarthModel) -> xr.Dataset:
    return embed(cube, model, 32)


@pytest.fixture(scope="module")
def place(embedded: xr.Dataset) -> str:
    """A pixel as text, on a date on which most of the scene has embeddings."""
    seen = np.isfinite(embedded.embeddings.values[:, 0, 12, 20])
    share = np.isfinite(embedded.embeddings.values[:, 0]).mean((1, 2)) * seen
    return f"pixel:12,20@{np.datetime_as_string(embedded.time.values[share.argmax()], 'D')}"


@pytest.fixture(scope="module")
def generator(embedded: xr.Dataset, model: EarthModel) -> EarthGenerator:
    return EarthGenerator(model, dataset=embedded, distribution=EmbeddingDistribution.of(embedded))


def test_it_is_a_generator(generator: EarthGenerator, place: str) -> None:
    assert isinstance(generator, Generator)
    assert isinstance(generator, DirectedGenerator)
    embedding = generator.embed(place)
    assert embedding.lineage.prompt == place
    assert embedding.tensors["embedding"].shape == (32,)
    assert generator.render(embedding, [0, 1]).shape == (2, 3, 1, 1)
    assert not bool(generator.trainable_masks(embedding)["uncertainty"].any())


def test_a_pixel_is_rendered_as_in_its_scene(generator: EarthGenerator, place: str) -> None:
    scene = generator.render(generator.embed(place.partition("@")[2]), [0])
    assert scene.shape == (1, 3, 32, 32)
    assert bool(((scene >= 0) & (scene <= 1)).all())
    torch.testing.assert_close(scene[:, :, 12:13, 20:21], generator.render(generator.embed(place), [0]))
    assert bool((scene[:, :, 0, 0] == 0.85).all())  # never observed


def test_seeds_draw_from_the_uncertainty(generator: EarthGenerator, place: str) -> None:
    embedding = generator.embed(place)
    shown = generator.showing("sentinel-2").render(embedding, list(range(200)))
    torch.testing.assert_close(shown[:1], generator.showing("sentinel-2").render(embedding, [0]))
    torch.testing.assert_close(shown[5:6], generator.showing("sentinel-2").render(embedding, [5]))
    assert bool((shown.std(0) > 0).all())
    certain = Embedding({"embedding": embedding.tensors["embedding"]}, embedding.lineage)
    images = generator.render(certain, [0, 1, 2])
    torch.testing.assert_close(images, images[:1].expand_as(images))  # a batch's rows may differ in the last digit
    quantity = generator.showing(quantity_by_name("B8", generator.earth))
    draws = quantity.render(embedding, list(range(1, 400)))[:, 0, 0, 0]
    vector = embedding.tensors["embedding"].clone().requires_grad_()
    slope = torch.autograd.grad(quantity.view.decode(vector[None, :, None, None]).sum(), vector)[0]
    expected = (slope * embedding.tensors["uncertainty"]).norm()  # to first order
    assert float(draws.std()) == pytest.approx(float(expected), rel=0.2)


def test_optimize_raises_an_earth_metric_within_the_region(generator: EarthGenerator, place: str) -> None:
    embedding = generator.embed(place)
    ndvi = generator.showing(quantity_by_name("ndvi", generator.earth))
    greener = metric(lambda maps: maps.mean((1, 2, 3)), "NDVI", channels=1)
    assert generator.distribution is not None
    region = MahalanobisRegion(ndvi, embedding, generator.distribution)
    found = optimize(ndvi, embedding, OptimizeConfig(greener, [0], iterations=12), region=region)
    assert found.score > found.start_score + 0.02
    vector = found.embedding.tensors["embedding"].numpy()
    distance = generator.distribution.distance(vector)
    start = generator.distribution.distance(embedding.tensors["embedding"].numpy())
    assert distance <= max(generator.distribution.radius_quantile(0.95), start) * (1 + 1e-4)
    change = vector - embedding.tensors["embedding"].numpy()
    assert generator.distribution.mahalanobis_norm(change) <= generator.distribution.pairwise_quantile() * (1 + 1e-4)
    assert torch.equal(found.embedding.tensors["uncertainty"], embedding.tensors["uncertainty"])


def test_optimize_runs_on_bands_without_a_region_and_without_a_gradient(generator: EarthGenerator, place: str) -> None:
    bands = generator.showing("sentinel-2")
    target = torch.tensor([0.1, 0.2])[None, :, None, None]
    far = metric(lambda s: (s[:, [2, 6]] - target).square().mean((1, 2, 3)), "spectrum", maximize=False, channels=10)
    for method in ("gradient", "cma-es"):
        found = optimize(bands, generator.embed(place), OptimizeConfig(far, [0, 1], iterations=12, search=method))
        assert found.start_score > 1e-3
        assert found.score < found.start_score


def test_a_run_of_bands_is_refused_in_one_line(generator: EarthGenerator, place: str, tmp_path: object) -> None:
    bands = generator.showing("sentinel-2")
    mean = metric(lambda images: images.mean((1, 2, 3)), "mean", channels=10)
    run = Run.create(f"{tmp_path}/run", "optimize", generator.model, {})
    with pytest.raises(UsageError, match="expected an image of 3 channels, got 10"):
        optimize(bands, generator.embed(place), OptimizeConfig(mean, [0], iterations=2), run=run)


def test_a_path_leads_from_one_scene_to_the_other(generator: EarthGenerator, embedded: xr.Dataset) -> None:
    share = np.isfinite(embedded.embeddings.values[:, 0]).mean((1, 2))
    dates = [np.datetime_as_string(embedded.time.values[index], "D") for index in np.sort(share.argsort()[-2:])]
    first, last = (generator.embed(date) for date in dates)
    images = torch.stack([generator.render(one, [0])[0] for one in path(first, last, 5, method="lerp")])
    torch.testing.assert_close(images[:1], generator.render(first, [0]), equal_nan=True)
    both = (images != 0.85).all(0).all(0)
    away = [(image - images[0])[:, both].abs().mean() for image in images]
    assert away == sorted(away)
    assert away[-1] > 0


def test_a_path_is_spaced_by_its_images(generator: EarthGenerator, embedded: xr.Dataset, place: str) -> None:
    date = place.partition("@")[2]
    there = next(f"pixel:{r},{c}@{date}" for r, c in ((12, 4), (28, 28), (20, 8)) if _seen(embedded, r, c, date))
    found = equal_image_steps(generator, generator.embed(place), generator.embed(there), [0], PathConfig(4, "lerp"))
    images = torch.cat([generator.render(one, [0]) for one in found]).flatten(1)
    steps = (images[1:] - images[:-1]).norm(dim=1)
    assert float(steps.max()) <= 1.6 * float(steps.min())


def _seen(embedded: xr.Dataset, row: int, column: int, date: str) -> bool:
    try:
        embedding_at_place(embedded, f"pixel:{row},{column}@{date}")
    except UsageError:
        return False
    return True


def test_navigation_follows_principal_directions(generator: EarthGenerator, place: str, tmp_path: object) -> None:
    folder = f"{tmp_path}/walk"
    navigation = Navigation(generator, NavigateConfig(place), folder)
    candidates = navigation.propose(4)
    assert len(candidates) == 4
    assert len({candidate.label for candidate in candidates}) == 4
    assert all(candidate.label.startswith("direction ") for candidate in candidates)
    navigation.choose(0)
    navigation.propose(4)
    navigation.none()
    navigation.propose(3)
    navigation.choose(1, 0.5)
    navigation.replay()
    moved = navigation.current
    assert torch.equal(moved.tensors["uncertainty"], generator.embed(place).tensors["uncertainty"])
    again = Navigation.open(folder, generator)
    assert again.current.hash == moved.hash


def test_directions_have_a_norm_of_two_standard_deviations(generator: EarthGenerator, place: str) -> None:
    assert generator.distribution is not None
    for move in generator.directions(generator.embed(place)).values():
        assert generator.distribution.mahalanobis_norm(move["embedding"].numpy()) == pytest.approx(2, rel=1e-3)


def test_offsets_of_a_region_have_mahalanobis_norms(generator: EarthGenerator, place: str) -> None:
    assert generator.distribution is not None
    embedding = generator.embed(place)
    region = MahalanobisRegion(generator, embedding, generator.distribution)
    offsets = torch.randn(32, generator=torch.Generator().manual_seed(0))
    moved = region.embedding(offsets).tensors["embedding"] - embedding.tensors["embedding"]
    assert generator.distribution.mahalanobis_norm(moved.numpy()) == pytest.approx(float(offsets.norm()), rel=1e-3)
    torch.testing.assert_close(
        region.flatten(region.tensors(offsets)) - region.flatten(region.start.tensors), offsets, atol=1e-3, rtol=1e-3
    )
    assert float((region.origin + region.project(100 * offsets)).norm()) <= region.max_distance * (1 + 1e-4)
    assert torch.equal(region.project(1e-3 * offsets), 1e-3 * offsets)


def test_invalid_requests_are_refused(
    generator: EarthGenerator, model: EarthModel, embedded: xr.Dataset, place: str
) -> None:
    with pytest.raises(UsageError, match="Earth embeddings have no text: give the generator a dataset"):
        EarthGenerator(model).embed("a field")
    with pytest.raises(UsageError, match="place 'a field': expected POSITION@DATE such as pixel:30,12@2019-07-01"):
        generator.embed("a field")
    with pytest.raises(UsageError, match="pixel row 99, column 0 is outside"):
        generator.embed("pixel:99,0@2018-06-15")
    with pytest.raises(UsageError, match="write pixel:12,20 if they are column 20 and row 12"):
        generator.embed("20,12@2018-06-15")
    with pytest.raises(UsageError, match="pixel row 0, column 0 has no embedding on any date"):
        generator.embed(place.replace("12,20", "0,0"))
    with pytest.raises(UsageError, match="no directions: give the generator the `distribution`"):
        EarthGenerator(model, dataset=embedded).directions(generator.embed(place))
    with pytest.raises(UsageError, match=r"expected an embedding \(32,\) or \(32, h, w\), got \(7,\)"):
        generator.render(Embedding({"embedding": torch.zeros(7)}, Lineage(generator.model)), [0])
    with pytest.raises(UsageError, match="expected an embedding of"):
        generator.render(Embedding({"embedding": torch.zeros(32)}, Lineage(ModelIdentity("x", "y"))), [0])
    with pytest.raises(UsageError, match="sensor 'landsat-8': the model knows"):
        generator.showing("landsat-8")
    with pytest.raises(UsageError, match="embeddings of other, model"):
        EarthGenerator(model, dataset=embedded.assign_attrs({"thalweg:model": "other"}))
    with pytest.raises(UsageError, match=r"expected the embedding \(32,\) of a pixel"):
        assert generator.distribution is not None
        MahalanobisRegion(generator, generator.embed(place.partition("@")[2]), generator.distribution)
