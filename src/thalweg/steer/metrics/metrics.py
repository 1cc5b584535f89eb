"""Image metrics: differentiable functions from images to scores, with a name, a direction and a unit."""

import functools
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from thalweg.errors import UsageError
from thalweg.io.image_files import read_image
from thalweg.io.safetensors_files import read_tensors
from thalweg.limits import MAX_WEIGHT, check_number
from thalweg.prompts import read_prompt

_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma
_LAPLACIAN = ((1.0, 1.0, 1.0), (1.0, -8.0, 1.0), (1.0, 1.0, 1.0))
_FLAT = 1e-8
"""Added under square roots: a flat image's spread then has a finite gradient."""


class Scorer(Protocol):
    """A model that puts texts and images into one space, as CLIP does."""

    def embed_text(self, text: str) -> Tensor:
        """Return the text's features (d), unit length."""
        ...

    def embed_images(self, images: Tensor) -> Tensor:
        """Return the features (S, d), unit length, of images (S, 3, H, W) in 0..1; differentiable."""
        ...


@dataclass(frozen=True)
class Metric:
    """A score for each image of a batch, and which way is better.

    Metrics add (`sharpness() + 0.5 * contrast()`), subtract and multiply. In a sum each metric pulls in its own
    direction: adding one to be minimised to one to be maximised subtracts its score.

    Attributes:
        name: what people call it.
        score: images (S, 3, H, W) in 0..1 to scores (S,).
        maximize: whether more is better.
        unit: the score's unit; "1" for pure numbers.
        channels: of the images it scores; other than 3 for generators that show a sensor's bands or a map.
    """

    name: str
    score: Callable[[Tensor], Tensor]
    maximize: bool = True
    unit: str = "1"
    channels: int = 3

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if self.maximize else -1

    def __call__(self, images: Tensor) -> Tensor:
        """Return the scores (S,) of images (S, 3, H, W) in 0..1.

        Raises:
            UsageError: the images or the scores have another shape.
        """
        if images.ndim != 4 or images.shape[1] != self.channels:
            raise UsageError(f"expected images (S, {self.channels}, H, W), got {tuple(images.shape)}")
        scores = self.score(images)
        if not isinstance(scores, Tensor) or scores.shape != images.shape[:1]:
            got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise UsageError(f"metric {self.name}: expected a tensor of {len(images)} scores, one an image, got {got}")
        return scores

    def __add__(self, other: "Metric") -> "Metric":
        """Both at once; the sum has this one's direction."""
        sign = self.sign * other.sign
        unit = self.unit if self.unit == other.unit else "mixed"
        return Metric(
            f"{self.name} + {other.name}",
            lambda images: self(images) + sign * other(images),
            self.maximize,
            unit,
            self.channels,
        )

    def __sub__(self, other: "Metric") -> "Metric":
        """This one, against the other's direction."""
        both = self + -1 * other
        return replace(both, name=f"{self.name} - {_bracketed(other.name)}")

    def __mul__(self, other: "Metric | float") -> "Metric":
        """A weighted metric, or the product of two metrics of one direction.

        Raises:
            UsageError: the two metrics have opposite directions.
        """
        if not isinstance(other, Metric):
            weight = check_number("a metric's weight", other, -MAX_WEIGHT, MAX_WEIGHT)
            name = f"{weight:g}*{_bracketed(self.name)}"
            return replace(self, name=name, score=lambda images: weight * self(images))
        if self.maximize != other.maximize:
            raise UsageError(f"expected metrics of one direction in a product, got {self.name} and {other.name}")
        units = [unit for unit in (self.unit, other.unit) if unit != "1"]
        return Metric(
            f"{_bracketed(self.name)}*{_bracketed(other.name)}",
            lambda images: self(images) * other(images),
            self.maximize,
            " ".join(units) or "1",
            self.channels,
        )

    __rmul__ = __mul__


def _bracketed(name: str) -> str:
    return f"({name})" if " + " in name or " - " in name else name


def metric(
    score: Callable[[Tensor], Tensor], name: str, maximize: bool = True, unit: str = "1", channels: int = 3
) -> Metric:
    """Make a metric of any function from images (S, channels, H, W), pictures in 0..1, to scores (S,)."""
    return Metric(name, score, maximize, unit, channels)


def grey(images: Tensor) -> Tensor:
    """Return the luma (S, 1, H, W) of images (S, 3, H, W)."""
    return (images * images.new_tensor(_GREY)[:, None, None]).sum(1, keepdim=True)


def laplacian_variance(images: Tensor) -> Tensor:
    """Return the variance (S,) of the 3 x 3 Laplacian, centre -8, of the grey images (2308.12059, section 4.1)."""
    kernel = images.new_tensor(_LAPLACIAN)[None, None]
    return functional.conv2d(grey(images), kernel).flatten(1).var(1)


def sharpness() -> Metric:
    """More variance of the Laplacian: sharper."""
    return Metric("sharpness", laplacian_variance)


def blur() -> Metric:
    """Less variance of the Laplacian: more blurred."""
    return Metric("blur", laplacian_variance, maximize=False)


def colourfulness() -> Metric:
    """Colourfulness after Hasler and Suesstrunk (2003), M3, on values of 0..255; about 0 (none) to 110 (extreme)."""

    def score(images: Tensor) -> Tensor:
        red, green, blue = (255 * images).flatten(2).unbind(1)
        opponents = torch.stack([red - green, (red + green) / 2 - blue])
        spread = (opponents.var(2, correction=0).sum(0) + _FLAT).sqrt()
        return spread + 0.3 * (opponents.mean(2).square().sum(0) + _FLAT).sqrt()

    return Metric("colourfulness", score)


def contrast() -> Metric:
    """Standard deviation of the grey image (root mean square contrast)."""
    return Metric("contrast", lambda images: (grey(images).flatten(1).var(1, correction=0) + _FLAT).sqrt())


def symmetry() -> Metric:
    """Correlation of the image with its mirror image, left to right: 1 is symmetric."""

    def score(images: Tensor) -> Tensor:
        centred = images - images.mean((2, 3), keepdim=True)
        product = (centred * centred.flip(3)).sum((1, 2, 3))
        return product / (centred.square().sum((1, 2, 3)) + _FLAT)

    return Metric("symmetry", score)


def colour(value: str) -> Metric:
    """Distance of the image's mean colour from `value` ("#ff0000" or a CSS name), in RGB of 0..1.

    Raises:
        UsageError: no such colour.
    """
    target = _rgb(value)

    def score(images: Tensor) -> Tensor:
        return ((images.mean((2, 3)) - images.new_tensor(target)).square().sum(1) + _FLAT).sqrt()

    return Metric(f"colour: {value}", score, maximize=False)


def palette(values: Sequence[str]) -> Metric:
    """Distance of an image from a palette, in RGB of 0..1.

    The mean distance of the pixels from the palette's nearest colour, plus that of the palette's colours from their
    nearest pixel: an image that uses one of the colours only is not there yet.

    Raises:
        UsageError: no colours, or no such colour.
    """
    if not values:
        raise UsageError("expected a palette of colours like '#ff0000 #ffffff', got none")
    targets = [_rgb(value) for value in values]

    def score(images: Tensor) -> Tensor:
        pixels = images.flatten(2).mT[:, :, None]
        distances = ((pixels - images.new_tensor(targets)).square().sum(3) + _FLAT).sqrt()
        return distances.amin(2).mean(1) + distances.amin(1).mean(1)

    return Metric(f"palette: {' '.join(values)}", score, maximize=False)


def _rgb(value: str) -> tuple[float, ...]:
    from PIL import ImageColor

    try:
        return tuple(channel / 255 for channel in ImageColor.getrgb(value)[:3])
    except ValueError as error:
        raise UsageError(f"expected a colour like '#ff0000' or 'red', got {value!r}") from error


def text_similarity(scorer: Scorer, text: str) -> Metric:
    """Cosine of image and text in the scorer's space."""
    with torch.no_grad():
        target = scorer.embed_text(text)
    return Metric(f"text: {text}", lambda images: scorer.embed_images(images) @ target.to(images.device))


def image_similarity(scorer: Scorer, image: Tensor, name: str = "image") -> Metric:
    """Cosine of an image and a reference (3, H, W) in 0..1 in the scorer's space."""
    with torch.no_grad():
        target = scorer.embed_images(image[None])[0]
    return Metric(name, lambda images: scorer.embed_images(images) @ target.to(images.device))


def aesthetics(scorer: Scorer, weights: Path | str) -> Metric:
    """LAION aesthetics: a head of linear layers over the unit-length CLIP image features; about 1 (poor) to 10.

    Args:
        scorer: the CLIP model that the head was trained on (ViT-L/14 for the published heads).
        weights: the head as safetensors; its layers are taken in the order of the numbers in their names, as in the
            published `layers.0.weight`, `layers.2.weight`, ... and, for the single linear layer, `weight`, `bias`.

    Raises:
        UsageError: no such file, layers that do not follow on each other down to one score, or weights that are
            missing, unexpected or not finite.
    """
    path = Path(weights)
    if path.suffix != ".safetensors":
        raise UsageError(
            f"aesthetics: expected the head's weights as safetensors, got {path.name}; pickles (.pth) are refused: "
            "write its state_dict once with safetensors.torch.save_file"
        )
    tensors = read_tensors(path, f"aesthetics: expected the head's weights as safetensors, {weights}", UsageError)
    names = sorted((name for name in tensors if name.endswith("weight")), key=_layer_number)
    biases = {name: f"{name.removesuffix('weight')}bias" for name in names}
    if other := sorted(tensors.keys() - {*names, *biases.values()}):
        raise UsageError(f"{weights}: expected the weights and biases of linear layers alone, got {other[0]} as well")
    if 0 < len(lacking := sorted(set(biases.values()) - tensors.keys())) < len(names):
        raise UsageError(f"{weights}: expected a bias for each layer or for none, {lacking[0]} is missing")
    if bad := sorted(name for name, value in tensors.items() if not _is_finite(value)):
        raise UsageError(f"{weights}: expected finite floating weights, got others in {bad[0]}")
    layers = [(tensors[name].float(), tensors.get(biases[name])) for name in names]
    shapes = [tuple(weight.shape) for weight, _ in layers]
    follows = all(before[0] == after[-1] for before, after in itertools.pairwise(shapes))
    fitting = all(bias is None or bias.shape == weight.shape[:1] for weight, bias in layers)
    if not layers or any(len(shape) != 2 for shape in shapes) or not follows or not fitting or shapes[-1][0] != 1:
        raise UsageError(f"{weights}: expected linear layers that follow on each other down to 1 score, got {shapes}")

    def score(images: Tensor) -> Tensor:
        values = scorer.embed_images(images)
        if values.shape[1] != shapes[0][1]:
            raise UsageError(f"{weights}: expected features of width {shapes[0][1]}, the scorer has {values.shape[1]}")
        for weight, bias in layers:
            values = functional.linear(values, weight.to(values), None if bias is None else bias.to(values))
        return values[:, 0]

    return Metric("aesthetics", score)


def _is_finite(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and bool(tensor.isfinite().all())


def _layer_number(name: str) -> int:
    number = re.search(r"\d+", name)
    return int(number[0]) if number else 0


_PLAIN: dict[str, Callable[[], Metric]] = {
    "sharpness": sharpness,
    "blur": blur,
    "colourfulness": colourfulness,
    "contrast": contrast,
    "symmetry": symmetry,
}
KNOWN = (*_PLAIN, "colour: #ff0000", "palette: #ff0000 #ffffff", "text: a red ball", "image: FILE", "aesthetics: FILE")
"""What `parse` knows, as it is written."""

_FACTOR = re.compile(
    r"""\s* (?P<operator>[-+*])? \s*
    (?: (?P<number>\d+\.?\d*|\.\d+)
      | (?P<name>[A-Za-z_]+) (?:\s*:\s*(?P<argument>"[^"]*"|'[^']*'|.*?(?=\s+[-+*]\s|\s*$)))? ) \s*""",
    re.VERBOSE,
)


_FILE_METRICS = ("image", "aesthetics")
"""Metrics whose argument is a file."""


def with_absolute_files(text: str) -> str:
    """Return a metric's text with absolute paths of the files it names, so that it means the same in any folder."""

    def absolute(found: re.Match[str]) -> str:
        argument = found["argument"]
        if (found["name"] or "").lower() not in _FILE_METRICS or not argument:
            return found[0]
        path = str(Path(argument.strip("\"' ")).absolute())
        quote = "'" if '"' in path else '"'
        start, end = (place - found.start() for place in found.span("argument"))
        return f"{found[0][:start]}{quote}{path}{quote}{found[0][end:]}"

    return _FACTOR.sub(absolute, text)


def parse(text: str, load_scorer: Callable[[], Scorer] | None = None, read_files: bool = True) -> Metric:
    """Read a metric as written on a command line: `sharpness`, `0.5*sharpness + colourfulness`, `text: a red ball`.

    Terms are joined by + and -, factors by *; an argument runs on to the next of these between spaces, or is quoted.

    Args:
        text: the metric.
        load_scorer: makes the scorer; called once, where the text needs one.
        read_files: whether terms that name a file (image, aesthetics) may read it.

    Raises:
        UsageError: not a metric; names those known. A file is named and none may be read.
    """
    scorer = functools.cache(load_scorer) if load_scorer is not None else None
    terms: list[tuple[int, float, Metric | None]] = []
    position = 0
    while position < len(text) or not terms:
        found = _FACTOR.match(text, position)
        if found is None or (found["operator"] == "*" if not terms else found["operator"] is None):
            raise _unknown(text)
        if found["operator"] != "*":
            terms.append((-1 if found["operator"] == "-" else 1, 1.0, None))
        sign, weight, product = terms[-1]
        if found["number"]:
            weight = check_number("a metric's weight", weight * float(found["number"]), -MAX_WEIGHT, MAX_WEIGHT)
        else:
            name = found["name"].lower()
            if name in _FILE_METRICS and not read_files:
                raise UsageError(f"metric {name} reads a file of this machine, which is not allowed here; take others")
            argument = (found["argument"] or "").strip("\"' ")
            if name == "text" and argument:
                _check_text(argument, read_files)
            factor = _named(name, argument, text, scorer)
            product = factor if product is None else product * factor
        terms[-1] = sign, weight, product
        position = found.end()
    pulls = []
    for sign, weight, product in terms:
        if product is None:
            raise _unknown(text)
        pulls.append((sign, product if weight == 1 else weight * product))
    sign, total = pulls[0]
    total = total if sign > 0 else -1 * total
    for sign, pull in pulls[1:]:
        total = total + pull if sign > 0 else total - pull
    return total


def _named(name: str, argument: str, text: str, scorer: Callable[[], Scorer] | None) -> Metric:
    """Return the metric `name` with its argument; `text` is what the user wrote."""
    name = {"color": "colour", "colorfulness": "colourfulness"}.get(name, name)
    if name in _PLAIN and not argument:
        return _PLAIN[name]()
    if name == "colour" and argument:
        return colour(argument)
    if name == "palette" and argument:
        return palette(argument.split())
    if name not in ("text", *_FILE_METRICS) or not argument:
        raise _unknown(text)
    if scorer is None:
        raise UsageError(f"metric {name!r} needs a scorer of texts and images, and this model has none")
    if name == "text":
        return text_similarity(scorer(), argument)
    if name == "image":
        return image_similarity(scorer(), read_image(argument), f"image: {argument}")
    return aesthetics(scorer(), argument)


def _check_text(argument: str, read_files: bool) -> None:
    """Refuse the name of a file where a text is meant; without `read_files` no file is looked for."""

    def nowhere(name: str) -> Path:
        raise UsageError(f"metric text: expected a text, got {name!r}, the name of a file")

    if isinstance(read_prompt(argument, Path if read_files else nowhere), Path):
        raise UsageError(f"metric text: expected a text, got {argument!r}, the name of a file")


def _unknown(text: str) -> UsageError:
    return UsageError(f"expected a metric, got {text!r}; known are {', '.join(KNOWN)}, joined by +, - and *")
