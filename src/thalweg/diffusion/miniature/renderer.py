"""Renderer of the synthetic dataset: an object before a plain or graded background, 64 x 64 px, from its attributes.

Each shape is traced once, orthographically, into a map of surface normals and object coordinates. An image is that map
scaled, moved, lit and coloured, so that thousands of renderings take seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, grid_sample, normalize, pad

from thalweg.errors import UsageError

SIZE = 64
"""Height and width of an image, pixels."""
SUPERSAMPLING = 2
"""Rendered pixels per image pixel, each way."""

COLOURS = {
    "red": (0.85, 0.08, 0.08),
    "orange": (0.98, 0.50, 0.04),
    "yellow": (0.98, 0.90, 0.10),
    "green": (0.10, 0.60, 0.15),
    "cyan": (0.10, 0.80, 0.85),
    "blue": (0.10, 0.22, 0.88),
    "purple": (0.48, 0.12, 0.70),
    "pink": (0.98, 0.52, 0.75),
    "brown": (0.40, 0.22, 0.09),
    "white": (0.86, 0.86, 0.86),
}
BACKGROUNDS = {
    "white": (0.97, 0.97, 0.97),
    "grey": (0.55, 0.55, 0.55),
    "black": (0.05, 0.05, 0.05),
    "beige": (0.88, 0.78, 0.58),
    "navy": (0.06, 0.09, 0.32),
    "teal": (0.04, 0.42, 0.42),
    "maroon": (0.40, 0.04, 0.12),
    "lavender": (0.76, 0.68, 0.96),
}
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "shape": ("ball", "cube", "cone", "ring", "cylinder"),
    "colour": tuple(COLOURS),
    "material": ("matte", "glossy", "striped"),
    "size": ("small", "medium", "large"),
    "position": ("left", "right", "top", "bottom", "centre"),
    "background": (*BACKGROUNDS, "gradient"),
    "light": ("left", "right", "above", "front"),
    "focus": ("sharp", "soft", "blurred"),
}
RADII = {"small": 0.17, "medium": 0.25, "large": 0.34}
"""Half the object's extent, in image widths."""
OFFSETS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "top": (0.0, -1.0), "bottom": (0.0, 1.0), "centre": (0.0, 0.0)}
LIGHTS = {
    "left": (-0.85, 0.25, 0.45),
    "right": (0.85, 0.25, 0.45),
    "above": (0.0, 0.92, 0.35),
    "front": (0.0, 0.0, 1.0),
}
BLURS = {"sharp": 0.0, "soft": 0.9, "blurred": 1.8}
"""Standard deviation of the blur, px."""

SPRITE = 160
"""Height and width of a traced shape, pixels."""
MARGIN = 1.1
"""Half the side of a traced shape's map, in object radii."""


def draw_attributes(
    count: int, random: torch.Generator, named: Mapping[str, str] | None = None
) -> list[dict[str, str]]:
    """Draw the attributes of `count` objects, uniform and independent, with fixed values for those in `named`.

    Raises:
        UsageError: an unknown attribute or value.
    """
    named = dict(named or {})
    for attribute, value in named.items():
        if attribute not in ATTRIBUTES:
            raise UsageError(f"expected an attribute out of {', '.join(ATTRIBUTES)}, got {attribute}")
        if value not in ATTRIBUTES[attribute]:
            raise UsageError(f"expected {attribute} out of {', '.join(ATTRIBUTES[attribute])}, got {value}")
    drawn = {
        attribute: torch.randint(len(values), (count,), generator=random).tolist()
        for attribute, values in ATTRIBUTES.items()
    }
    return [
        {name: named.get(name, ATTRIBUTES[name][drawn[name][index]]) for name in ATTRIBUTES} for index in range(count)
    ]


def render(objects: Sequence[Mapping[str, str]], random: torch.Generator) -> Tensor:
    """Render objects, with a value for each attribute, to images (N, 3, 64, 64), float32 in 0..1.

    Exact size, position, hue, light and the ends of a gradient are drawn at random within the attributes' values.
    """
    count = len(objects)

    def uniform(*shape: int, low: float = -1.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=random)

    def table(attribute: str, values: Mapping[str, object]) -> Tensor:
        return torch.tensor([values[item[attribute]] for item in objects])

    radius = table("size", RADII) * (1 + 0.06 * uniform())
    reach = (0.47 - radius).clamp(max=0.22)
    centre = table("position", OFFSETS) * reach[:, None] + 0.02 * uniform(2)
    surface = _place([item["shape"] for item in objects], radius, centre)
    light = normalize(table("light", LIGHTS) + 0.10 * uniform(3), dim=1)
    colour = (table("colour", COLOURS) + 0.03 * uniform(3)).clamp(0, 1)
    shaded = _shade(surface, colour, light, [item["material"] for item in objects])
    backdrop = _backdrops([item["background"] for item in objects], random)
    images = surface.cover * shaded + (1 - surface.cover) * backdrop
    images = avg_pool2d(images, SUPERSAMPLING)
    return _blur(images, table("focus", BLURS) * (1 + 0.1 * uniform()))


@dataclass(frozen=True)
class _Surface:
    """Visible surface, (N, C, H, W) each: cover, unit normals, stripe coordinate, offset from the centre."""

    cover: Tensor
    normals: Tensor
    along: Tensor
    offset: Tensor


def _place(shapes: Sequence[str], radius: Tensor, centre: Tensor) -> _Surface:
    """Return the traced shapes scaled and moved; `radius` (N) and `centre` (N, 2: right, down) in image widths."""
    sprites = torch.stack([_sprites()[shape] for shape in shapes])
    side = SIZE * SUPERSAMPLING
    line = (torch.arange(side) + 0.5) / side - 0.5
    down, right = torch.meshgrid(line, line, indexing="ij")
    grid = (torch.stack([right, down], dim=-1) - centre[:, None, None]) / (radius * MARGIN)[:, None, None, None]
    sampled = grid_sample(sprites, grid, align_corners=False)
    cover = sampled[:, :1]
    inside = sampled[:, 1:] / cover.clamp(min=1e-3)  # at the rim, samples are averaged with empty pixels
    offset = torch.stack([grid[..., 0], -grid[..., 1]], dim=1) * MARGIN
    return _Surface(cover, normalize(inside[:, :3], dim=1), inside[:, 3:], offset)


def _shade(surface: _Surface, colour: Tensor, light: Tensor, materials: Sequence[str]) -> Tensor:
    """Return Lambert shading, with a Blinn-Phong highlight and a reflected sky if glossy, and pale bands if striped."""
    is_glossy = torch.tensor([material == "glossy" for material in materials]).float()[:, None, None, None]
    is_striped = torch.tensor([material == "striped" for material in materials]).float()[:, None, None, None]
    albedo = colour[:, :, None, None].expand_as(surface.normals)
    pale = torch.where(colour.min(dim=1).values > 0.7, 0.25, 0.95)[:, None, None, None]  # white objects have dark bands
    band = is_striped * torch.sigmoid(12 * torch.sin(8.0 * surface.along))
    albedo = albedo + band * 0.85 * (pale - albedo)
    diffuse = (surface.normals * light[:, :, None, None]).sum(1, keepdim=True).clamp(min=0)
    toward = (1 - surface.offset.square().sum(1, keepdim=True)).clamp(min=0.05).sqrt()
    ball = torch.cat([surface.offset, toward], dim=1)
    bent = normalize(surface.normals + 1.5 * ball, dim=1)  # so that flat faces reflect more than one direction
    half = normalize(light + torch.tensor([0.0, 0.0, 1.0]), dim=1)
    shine = (bent * half[:, :, None, None]).sum(1, keepdim=True).clamp(min=0) ** 30
    elevation = 2 * bent[:, 1:2] * bent[:, 2:]  # vertical component of the reflected view
    sky = torch.sigmoid(14 * (elevation - 0.6))
    return (albedo * (0.40 + 0.65 * diffuse) + is_glossy * (0.85 * shine + 0.30 * sky)).clamp(0, 1)


def _backdrops(names: Sequence[str], random: torch.Generator) -> Tensor:
    """Return backgrounds (N, 3, H, W): plain, or a vertical gradient between two that differ clearly."""
    palette = torch.tensor(list(BACKGROUNDS.values()))
    distance = torch.cdist(palette, palette)
    pairs = (distance > 0.6).nonzero()
    order = {name: index for index, name in enumerate(BACKGROUNDS)}
    ends = torch.stack(
        [
            pairs[int(torch.randint(len(pairs), (1,), generator=random))]
            if name == "gradient"
            else torch.tensor([order[name]] * 2)
            for name in names
        ]
    )
    jitter = 0.02 * (2 * torch.rand(len(names), 3, 1, 1, generator=random) - 1)
    side = SIZE * SUPERSAMPLING
    height = torch.linspace(0, 1, side)[:, None].expand(side, side)
    top, bottom = palette[ends[:, 0]][:, :, None, None], palette[ends[:, 1]][:, :, None, None]
    return (top + (bottom - top) * height + jitter).clamp(0, 1)


def _blur(images: Tensor, deviation: Tensor) -> Tensor:
    """Return images (N, 3, H, W) under a Gaussian blur with standard deviations (N), pixels."""
    reach = 7
    distance = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-0.5 * (distance / deviation[:, None].clamp(min=0.05)) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)[:, None, None]
    count, channels, height, width = images.shape
    flat = pad(images, (reach,) * 4, mode="replicate").reshape(1, -1, height + 2 * reach, width + 2 * reach)
    flat = conv2d(conv2d(flat, kernel, groups=count * channels), kernel.transpose(2, 3), groups=count * channels)
    return flat.reshape(images.shape)


@cache
def _sprites() -> dict[str, Tensor]:
    """Return the traced shapes (5, SPRITE, SPRITE): cover, normal (right, up, toward the camera), stripe coordinate."""
    return {shape: _trace(shape) for shape in ATTRIBUTES["shape"]}


def _trace(shape: str) -> Tensor:
    """Return a shape (5, SPRITE, SPRITE) by sphere tracing of its signed distance; the camera is orthographic."""
    line = ((torch.arange(SPRITE) + 0.5) / SPRITE * 2 - 1) * MARGIN
    down, right = torch.meshgrid(line, line, indexing="ij")
    rotation = _rotation(shape)
    points = torch.stack([right, -down, torch.full_like(right, 2.0)], dim=-1)
    ahead = torch.tensor([0.0, 0.0, -1.0])
    for _ in range(80):  # rays that miss the shape leave it behind
        points = points + ahead * 0.9 * _distance(shape, points @ rotation)[..., None]
    here = points.requires_grad_()
    with torch.enable_grad():
        distance = _distance(shape, here @ rotation)
        (normals,) = torch.autograd.grad(distance.sum(), here)
    hit = (distance.detach().abs() < 0.01) & (points.detach()[..., 2] > -2)
    local = (points.detach() @ rotation) @ torch.tensor([0.45, 1.0, 0.25])
    layers = torch.where(hit[..., None], torch.cat([normalize(normals, dim=-1), local[..., None]], dim=-1), 0.0)
    return torch.cat([hit[..., None].float(), layers], dim=-1).permute(2, 0, 1)


def _rotation(shape: str) -> Tensor:
    """Return the rotation (3, 3) from camera to object coordinates: azimuth of the object, then camera elevation."""
    azimuth = torch.tensor(0.6 if shape == "cube" else 0.0)
    elevation = torch.tensor(1.1 if shape == "ring" else 0.5)  # the hole of a ring is visible from above
    about = torch.tensor([[azimuth.cos(), 0, azimuth.sin()], [0, 1, 0], [-azimuth.sin(), 0, azimuth.cos()]])
    over = torch.tensor([[1, 0, 0], [0, elevation.cos(), -elevation.sin()], [0, elevation.sin(), elevation.cos()]])
    return (over @ about).float()


def _distance(shape: str, points: Tensor) -> Tensor:
    """Return the signed distance (H, W) of points (H, W, 3) in object coordinates to a shape of radius 1."""
    across, up = points[..., [0, 2]].norm(dim=-1), points[..., 1]
    if shape == "ball":
        return points.norm(dim=-1) - 0.92
    if shape == "cube":
        beyond = points.abs() - 0.60
        return beyond.clamp(min=0).norm(dim=-1) + beyond.max(dim=-1).values.clamp(max=0)
    if shape == "cylinder":
        beyond = torch.stack([across - 0.62, up.abs() - 0.72], dim=-1)
        return beyond.clamp(min=0).norm(dim=-1) + beyond.max(dim=-1).values.clamp(max=0)
    if shape == "ring":
        return ((across - 0.66) ** 2 + up**2 + 1e-9).sqrt() - 0.27
    slope = torch.tensor(0.80 / 1.7).atan()  # cone: apex at 0.95, base of radius 0.80 at -0.75
    side = (across - 0.80 * (0.95 - up) / 1.7) * slope.cos()
    return torch.maximum(side, -0.75 - up)
