import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from thalweg.errors import UsageError
from thalweg.steer.metrics import clip_metrics, image_statistics
from thalweg.steer.metrics.expression import with_absolute_files
from thalweg.steer.metrics.metric import Metric, metric
from thalweg.steer.metrics.parsing import parse

COLOURS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0)}


class PooledScorer:
    """Features of an image: its mean colour; of a text: the colours it names."""

    loaded = 0

    def __init__(self):
        PooledScorer.loaded += 1

    def embed_text(self, text):
        total = sum((torch.tensor(COLOURS[word]) for word in text.split() if word in COLOURS), torch.zeros(3))
        return torch.nn.functional.normalize(total + 1e-3, dim=0)

    def embed_images(self, images):
        return torch.nn.functional.normalize(images.mean((2, 3)) + 1e-3, dim=1)


@pytest.fixture
def images():
    return torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1


def flat(*colour, size=12):
    return torch.tensor(colour)[None, :, None, None].expand(1, 3, size, size).clone()


ALL = {
    "sharpness": image_statistics.sharpness(),
    "blur": image_statistics.blur(),
    "colourfulness": image_statistics.colourfulness(),
    "contrast": image_statistics.contrast(),
    "symmetry": image_statistics.symmetry(),
    "colour": image_statistics.colour("#ff0000"),
    "palette": image_statistics.palette(["red", "#fff"]),
    "text": clip_metrics.text_similarity(PooledScorer(), "a red ball"),
    "image": clip_metrics.image_similarity(PooledScorer(), flat(0.2, 0.5, 0.1)[0]),
    "sum": 2 * image_statistics.sharpness() + image_statistics.contrast(),
    "product": image_statistics.sharpness() * image_statistics.contrast(),
}


@pytest.mark.parametrize("name", ALL)
def test_an_images_score_does_not_depend_on_the_others(name, images):
    scores = ALL[name](images)
    assert scores.shape == (3,)
    assert torch.allclose(scores[1:2], ALL[name](images[1:2]), rtol=1e-5)
    assert len(set(scores.tolist())) == 3


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("text", "image")])
def test_gradient_is_that_of_finite_differences(name, images):
    assert torch.autograd.gradcheck(ALL[name], images[:1, :, :5, :5].double().requires_grad_(), atol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_a_flat_image_has_a_finite_gradient(name):
    image = flat(0.5, 0.5, 0.5).requires_grad_()
    ALL[name](image).sum().backward()
    assert torch.isfinite(image.grad).all()


def test_sharpness_is_the_variance_of_the_laplacian():
    image = torch.zeros(1, 3, 5, 5)
    image[..., 2, 2] = 1.0  # its Laplacian: -8 once, 1 eight times
    expected = torch.tensor([-8.0] + [1.0] * 8).var()
    assert torch.allclose(image_statistics.sharpness()(image), expected, rtol=1e-4)
    assert image_statistics.sharpness().maximize
    assert not image_statistics.blur().maximize


def test_colourfulness_of_known_images():
    assert image_statistics.colourfulness()(flat(0.4, 0.4, 0.4)).item() < 0.01
    halves = torch.cat([flat(1.0, 0.0, 0.0), flat(0.0, 1.0, 0.0)], dim=3)
    # red - green is +-255, its mean 0; (red + green) / 2 - blue is 127.5 everywhere
    assert image_statistics.colourfulness()(halves).item() == pytest.approx(255 + 0.3 * 127.5, rel=1e-4)


def test_contrast_and_symmetry_of_known_images():
    halves = torch.cat([flat(0.0, 0.0, 0.0), flat(1.0, 1.0, 1.0)], dim=3)
    assert image_statistics.contrast()(halves).item() == pytest.approx(0.5, rel=1e-4)
    assert image_statistics.symmetry()(halves).item() == pytest.approx(-1, rel=1e-4)
    assert image_statistics.symmetry()(torch.cat([halves, halves.flip(3)], dim=3)).item() == pytest.approx(1, rel=1e-4)


def test_colour_and_palette_measure_distance():
    assert image_statistics.colour("red")(flat(1.0, 0.0, 0.0)).item() < 1e-3
    assert image_statistics.colour("red")(flat(0.0, 0.0, 0.0)).item() == pytest.approx(1, rel=1e-3)
    both = torch.cat([flat(1.0, 0.0, 0.0), flat(1.0, 1.0, 1.0)], dim=3)
    palette = image_statistics.palette(["red", "white"])
    assert palette(both).item() < 1e-3
    assert palette(flat(1.0, 0.0, 0.0)).item() > 0.5  # white is missing
    assert palette(flat(1.0, 0.5, 0.0)).item() > 0.5  # orange is in no palette


def test_similarity_knows_its_target():
    near = clip_metrics.text_similarity(PooledScorer(), "red")
    assert near(flat(0.9, 0.1, 0.1)) > near(flat(0.1, 0.1, 0.9))
    near = clip_metrics.image_similarity(PooledScorer(), flat(0.1, 0.2, 0.9)[0])
    assert near(flat(0.1, 0.2, 0.9)).item() == pytest.approx(1, abs=1e-5)


def test_algebra(images):
    sharp, contrast, blur = image_statistics.sharpness(), image_statistics.contrast(), image_statistics.blur()
    assert torch.allclose((2 * sharp + contrast)(images), 2 * sharp(images) + contrast(images))
    assert torch.allclose((sharp * contrast)(images), sharp(images) * contrast(images))
    assert torch.allclose((contrast - sharp)(images), contrast(images) - sharp(images))
    assert torch.allclose((contrast + blur)(images), contrast(images) - blur(images))  # each its own way
    assert torch.allclose((blur + contrast)(images), blur(images) - contrast(images))
    assert (contrast + blur).maximize
    assert not (blur + contrast).maximize
    assert (0.5 * (sharp + contrast)).name == "0.5*(sharpness + contrast)"
    with pytest.raises(UsageError, match="one direction"):
        _ = sharp * blur


def test_a_users_own_function_and_its_shape(images):
    brightness = metric(lambda images: images.mean((1, 2, 3)), "brightness", unit="fraction")
    assert torch.allclose(brightness(images), images.mean((1, 2, 3)))
    with pytest.raises(UsageError, match=r"mean: expected a tensor of 3 scores, one per image, got \(\)"):
        metric(lambda images: images.mean(), "mean")(images)
    with pytest.raises(UsageError, match=r"expected images \(S, 3, H, W\), got \(3, 12, 12\)"):
        brightness(images[0])


def write_head(path, sizes, bias=True):
    random = torch.Generator().manual_seed(1)
    tensors = {}
    for index, (inputs, outputs) in enumerate(sizes):
        tensors[f"layers.{2 * index}.weight"] = torch.randn(outputs, inputs, generator=random)
        if bias:
            tensors[f"layers.{2 * index}.bias"] = torch.randn(outputs, generator=random)
    save_file(tensors, path)
    return tensors


def test_aesthetics_applies_the_heads_layers_in_order(tmp_path, images):
    # twelve layers: by number layers.10 follows layers.8, by name it would come before layers.2
    sizes = [(3, 4), *[(4, 4)] * 10, (4, 1)]
    tensors = write_head(tmp_path / "head.safetensors", sizes)
    expected = PooledScorer().embed_images(images)
    for index in range(len(sizes)):
        expected = expected @ tensors[f"layers.{2 * index}.weight"].T + tensors[f"layers.{2 * index}.bias"]
    scores = clip_metrics.aesthetics(PooledScorer(), tmp_path / "head.safetensors")(images)
    assert torch.allclose(scores, expected[:, 0], rtol=1e-4)


def test_aesthetics_refuses_other_files(tmp_path, images):
    with pytest.raises(UsageError, match="expected the head's weights as safetensors"):
        clip_metrics.aesthetics(PooledScorer(), tmp_path / "none.safetensors")
    (tmp_path / "head.pth").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(UsageError, match="expected the head's weights as safetensors"):
        clip_metrics.aesthetics(PooledScorer(), tmp_path / "head.pth")
    with pytest.raises(UsageError, match="pickles"):
        clip_metrics.aesthetics(PooledScorer(), tmp_path / "head.pth")
    write_head(tmp_path / "broken.safetensors", [(3, 4), (5, 1)])
    with pytest.raises(UsageError, match="follow on each other"):
        clip_metrics.aesthetics(PooledScorer(), tmp_path / "broken.safetensors")
    write_head(tmp_path / "wide.safetensors", [(768, 1)])
    with pytest.raises(UsageError, match="features of width 768, the scorer has 3"):
        clip_metrics.aesthetics(PooledScorer(), tmp_path / "wide.safetensors")(images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda head: head.pop("layers.2.bias"), r"layers\.2\.bias is missing"),
        (lambda head: head.update(extra=torch.zeros(1)), "got extra as well"),
        (lambda head: head["layers.0.weight"].fill_(torch.nan), r"expected finite .* layers\.0\.weight"),
        (lambda head: head.update({"layers.0.bias": torch.zeros(4, dtype=torch.int32)}), r"others in layers\.0\.bias"),
        (lambda head: head.update({"layers.0.bias": torch.zeros(3)}), "follow on each other"),
    ],
)
def test_aesthetics_refuses_heads_with_missing_or_other_weights(tmp_path, change, message):
    tensors = write_head(tmp_path / "head.safetensors", [(3, 4), (4, 1)])
    change(tensors)
    save_file(tensors, tmp_path / "head.safetensors")
    with pytest.raises(UsageError, match=message):
        clip_metrics.aesthetics(PooledScorer(), tmp_path / "head.safetensors")


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("sharpness", image_statistics.sharpness()),
        (" Blur ", image_statistics.blur()),
        ("colorfulness", image_statistics.colourfulness()),
        ("0.5*sharpness + colourfulness", 0.5 * image_statistics.sharpness() + image_statistics.colourfulness()),
        ("contrast - 2 * sharpness", image_statistics.contrast() - 2 * image_statistics.sharpness()),
        ("-sharpness", -1 * image_statistics.sharpness()),
        ("sharpness*contrast*3", 3 * (image_statistics.sharpness() * image_statistics.contrast())),
        ("colour: #ff0000", image_statistics.colour("#ff0000")),
        ("palette: #ff0000 white", image_statistics.palette(["#ff0000", "white"])),
        ("2*text: a red ball + symmetry", 2 * ALL["text"] + image_statistics.symmetry()),
        ("text: 'a red ball' + symmetry", ALL["text"] + image_statistics.symmetry()),
        ('text: "a ball - red"', clip_metrics.text_similarity(PooledScorer(), "a ball - red")),
    ],
)
def test_parse(text, same, images):
    parsed = parse(text, PooledScorer)
    assert isinstance(parsed, Metric)
    assert torch.allclose(parsed(images), same(images))
    assert parsed.maximize == same.maximize


def test_parse_reads_an_image(tmp_path):
    Image.new("RGB", (8, 8), (20, 40, 240)).save(tmp_path / "a-blue one.png")
    parsed = parse(f"image: {tmp_path}/a-blue one.png", PooledScorer)
    assert parsed(flat(20 / 255, 40 / 255, 240 / 255)).item() == pytest.approx(1, abs=1e-5)


def test_parse_loads_one_scorer_and_only_where_needed():
    PooledScorer.loaded = 0
    parse("sharpness + colour: red", PooledScorer)
    assert PooledScorer.loaded == 0
    parse("text: red + text: blue", PooledScorer)
    assert PooledScorer.loaded == 1


@pytest.mark.parametrize(
    "text", ["", "sharp", "sharpness +", "3", "sharpness contrast", "2 +* sharpness", "*sharpness", "text", "blur: 3"]
)
def test_parse_names_the_known_metrics(text):
    with pytest.raises(UsageError, match="known are sharpness, blur, colourfulness"):
        parse(text, PooledScorer)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("sharpnes", "sharpness"),
        ("0.5*Colorfullness", "colourfulness"),
        ("aestetics: head.safetensors", "aesthetics"),
        ("text: a red ball + contarst", "contrast"),
    ],
)
def test_parse_suggests_a_similar_name_before_a_scorer_is_loaded(text: str, hint: str) -> None:
    PooledScorer.loaded = 0
    with pytest.raises(UsageError, match=re.escape(f"expected a metric, got '{text}' (did you mean {hint}?)")):
        parse(text, PooledScorer)
    assert PooledScorer.loaded == 0


def test_parse_reads_files_before_a_scorer_is_loaded(tmp_path: Path) -> None:
    PooledScorer.loaded = 0
    for text in (f"text: a ball + image: {tmp_path}/none.png", f"text: a ball + aesthetics: {tmp_path}/head.pth"):
        with pytest.raises(UsageError, match=r"expected (an image file|the head's weights)|aesthetics: expected"):
            parse(text, PooledScorer)
    assert PooledScorer.loaded == 0


def test_parse_says_what_is_wrong_with_arguments(tmp_path):
    with pytest.raises(UsageError, match="expected a colour like '#ff0000' or 'red', got '#ff'"):
        parse("colour: #ff")
    with pytest.raises(UsageError, match="needs a scorer"):
        parse("text: a red ball")
    with pytest.raises(UsageError, match="expected an image file"):
        parse(f"image: {tmp_path}/none.png", PooledScorer)


@pytest.mark.parametrize("argument", ["ball.png", "vectors.bin", "ball.safetensors", "/nowhere/ball"])
@pytest.mark.parametrize("read_files", [True, False])
def test_a_text_is_not_the_name_of_a_file(argument, read_files):
    with pytest.raises(UsageError, match=r"expected a (text|prompt)"):
        parse(f"text: {argument}", PooledScorer, read_files)


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -1e10])
def test_a_weight_is_a_finite_number(weight):
    with pytest.raises(UsageError, match="a metric's weight to be a number from"):
        weight * image_statistics.contrast()


@pytest.mark.parametrize("text", ["9" * 400 + "*contrast", "1000000*1000000*contrast"])
def test_a_weight_in_a_text_is_a_finite_number(text):
    with pytest.raises(UsageError, match="a metric's weight to be a number from"):
        parse(text)


def test_an_image_is_read_as_a_viewer_shows_it(tmp_path):
    picture = Image.new("RGBA", (4, 2), (255, 0, 0, 255))
    picture.paste((0, 0, 0, 0), (2, 0, 4, 2))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.png", exif=exif)
    shown = torch.ones(1, 3, 4, 2)
    shown[:, 1:, :2] = 0
    torch.testing.assert_close(parse(f"image: {tmp_path}/turned.png", PooledScorer)(shown), torch.ones(1))


def test_a_metric_of_other_channels_accepts_only_these():
    mean = metric(lambda layers: layers.mean((1, 2, 3)), "mean", channels=10)
    both = 2 * mean + mean * mean - mean
    layers = torch.full((2, 10, 4, 4), 0.5)
    torch.testing.assert_close(both(layers), torch.tensor([0.75, 0.75]))
    with pytest.raises(UsageError, match=r"expected images \(S, 10, H, W\), got \(2, 3, 4, 4\)"):
        both(layers[:, :3])


@pytest.mark.parametrize(
    ("text", "absolute"),
    [
        ("sharpness - 0.5*blur", "sharpness - 0.5*blur"),
        ("text: a red ball", "text: a red ball"),
        ("image: a-blue one.png", 'image: "{here}/a-blue one.png"'),
        ("blur + 0.5*image: 'a.png' - text: a ball", 'blur + 0.5*image: "{here}/a.png" - text: a ball'),
        ("aesthetics: ../head.safetensors * blur", 'aesthetics: "{here}/../head.safetensors" * blur'),
        ("image: /elsewhere/a.png", 'image: "/elsewhere/a.png"'),
    ],
)
def test_files_of_a_metric_get_absolute_paths(
    text: str, absolute: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert with_absolute_files(text) == absolute.format(here=tmp_path)
    assert with_absolute_files(with_absolute_files(text)) == with_absolute_files(text)
