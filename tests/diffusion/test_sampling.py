"""The chain's gradient against the whole graph and against finite differences, for every scheduler."""

from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from thalweg.diffusion import gradient_routes, sampling
from thalweg.diffusion.gradient_routes import SHORTCUT_AT
from thalweg.diffusion.sampling import Schedule, sample
from thalweg.diffusion.schedulers import SCHEDULERS, make_scheduler
from thalweg.errors import ThalwegError, UsageError
from thalweg.gradient_modes import Gradient

NOISE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
DIFFUSION = diffusers.DDIMScheduler(**NOISE, clip_sample=False)
FLOW = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
STEPS = 6


def named(name: str, eta: float | None = None, **changes: Any) -> Callable[[], Schedule]:
    like = FLOW if name.startswith("flow_") else DIFFUSION
    return lambda: Schedule(make_scheduler(name, like.from_config(like.config, **changes)), STEPS, eta)


CONFIGURATIONS: dict[str, Callable[[], Schedule]] = {
    **{name: named(name) for name in SCHEDULERS},
    "ddim_eta": named("ddim", eta=0.7),
    "tcd_eta": named("tcd", eta=0.9),
    "ddim_v_prediction": named("ddim", prediction_type="v_prediction"),
    "euler_karras_v_prediction": named("euler", prediction_type="v_prediction", use_karras_sigmas=True),
    "ddim_thresholding": named("ddim", thresholding=True),
    "pndm_runge_kutta": lambda: Schedule(diffusers.PNDMScheduler(**NOISE, skip_prk_steps=False), STEPS),
    "edm_euler": lambda: Schedule(diffusers.EDMEulerScheduler(), STEPS),
    "edm_dpm": lambda: Schedule(diffusers.EDMDPMSolverMultistepScheduler(), STEPS),
    "sa_solver": lambda: Schedule(diffusers.SASolverScheduler(**NOISE), STEPS),
}


class Denoiser:
    """A smooth function of latents, time and two tensors; counts its calls and may see other tensors at first."""

    def __init__(self) -> None:
        random = torch.Generator().manual_seed(3)
        self.mix = torch.randn(4, 2, 3, 3, generator=random, dtype=torch.float64) / 4
        self.out = torch.randn(2, 4, 3, 3, generator=random, dtype=torch.float64) / 6
        self.calls = 0

    def __call__(self, latents: Tensor, timestep: Tensor, rows: Tensor, pooled: Tensor) -> Tensor:
        self.calls += 1
        mix, out = self.mix.to(latents), self.out.to(latents)
        hidden = torch.conv2d(latents, mix, padding=1) + (rows.tanh().sum(0) + pooled)[:, None, None]
        hidden = torch.tanh(hidden + torch.sin(timestep.to(latents.dtype) / 200 + rows.mean()))
        return torch.conv2d(hidden, out, padding=1) + 0.3 * latents


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, list[Tensor]]:
    random = torch.Generator().manual_seed(1)
    noise, rows, pooled = (torch.randn(shape, generator=random) for shape in ((2, 2, 4, 4), (2, 4), (4,)))
    return noise.to(dtype), [rows.to(dtype).requires_grad_(), pooled.to(dtype).requires_grad_()]


def loss(latents: Tensor) -> Tensor:
    return (latents / latents.detach().std()).tanh().square().mean()


def gradients(value: Tensor, tensors: list[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in torch.autograd.grad(value, tensors)])


def differences(function: Callable[[list[Tensor]], Tensor], tensors: list[Tensor], step: float = 1e-5) -> Tensor:
    """Central finite differences of a scalar function, an entry at a time."""
    found = []
    with torch.no_grad():
        for index, tensor in enumerate(tensors):
            for entry in range(tensor.numel()):
                sides = []
                for sign in (1, -1):
                    moved = [other.clone() for other in tensors]
                    moved[index].view(-1)[entry] += sign * step
                    sides.append(function(moved))
                found.append((sides[0] - sides[1]) / (2 * step))
    return torch.stack(found)


pytestmark = pytest.mark.filterwarnings("ignore:Should have t:UserWarning")  # torchsde, of rounding at an end


@pytest.mark.parametrize("schedule", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_gradients_are_exact(schedule: Callable[[], Schedule], monkeypatch: pytest.MonkeyPatch) -> None:
    noise, tensors = inputs()
    noise.requires_grad_()
    made = schedule()
    scale = sample(Denoiser(), made, noise, tensors).detach().std()

    def value(tensors: list[Tensor]) -> Tensor:
        return (sample(Denoiser(), made, noise, tensors) / scale).tanh().square().mean()

    exact = value(tensors)
    assert exact.dtype == torch.float64
    found = gradients(exact, [*tensors, noise])
    moved = sum(tensor.numel() for tensor in tensors)
    assert found[:moved].norm() > 1e-6
    torch.testing.assert_close(found[:moved], differences(value, tensors), rtol=1e-5, atol=1e-8)

    monkeypatch.setattr(sampling._Recomputed, "apply", staticmethod(lambda denoiser, *rest: denoiser(*rest)))
    torch.testing.assert_close(found, gradients(value(tensors), [*tensors, noise]), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("schedule", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_an_image_does_not_depend_on_its_batch(schedule: Callable[[], Schedule]) -> None:
    noise, tensors = inputs(torch.float32)
    made = schedule()
    with torch.no_grad():
        both = sample(Denoiser(), made, noise, tensors)
        alone = sample(Denoiser(), made, noise[1:], tensors)
    torch.testing.assert_close(both[1:], alone, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(both[0], both[1], atol=1e-2)


@pytest.mark.parametrize("name", ["ddpm", "euler_ancestral", "dpm_multistep_sde", "dpm_sde", "kdpm2_ancestral", "lcm"])
def test_stochastic_schedulers_draw_other_noise_for_other_images(name: str) -> None:
    schedule, random = CONFIGURATIONS[name](), torch.Generator().manual_seed(0)
    start = torch.randn(1, 2, 4, 4, generator=random)
    near = torch.cat([start, start + 1e-4])
    with torch.no_grad():
        latents = sample(Denoiser(), schedule, near, [tensor.float() for tensor in inputs()[1]])
        again = sample(Denoiser(), schedule, near, [tensor.float() for tensor in inputs()[1]])
    assert torch.equal(latents, again)
    assert (latents[0] - latents[1]).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["ddim", "heun", "lms", "dpm_multistep"])
@pytest.mark.parametrize(("gradient", "last_k", "recorded"), [("one_step", 5, 1), ("last_k", 3, 3), ("last_k", 99, 99)])
def test_the_last_calls_only(name: str, gradient: Gradient, last_k: int, recorded: int) -> None:
    noise, tensors = inputs()
    schedule = CONFIGURATIONS[name]()
    first = schedule.calls - recorded

    def value(tensors: list[Tensor]) -> Tensor:
        inner = Denoiser()

        def late(latents: Tensor, timestep: Tensor, *moved: Tensor) -> Tensor:
            return inner(latents, timestep, *(moved if inner.calls >= first else inputs()[1]))

        return loss_at(sample(late, schedule, noise, tensors))

    scale = sample(Denoiser(), schedule, noise, tensors).detach().std()

    def loss_at(latents: Tensor) -> Tensor:
        return (latents / scale).tanh().square().mean()

    denoiser = Denoiser()
    latents = sample(denoiser, schedule, noise, tensors, gradient, last_k)
    found = gradients(loss_at(latents), tensors)
    torch.testing.assert_close(found, differences(value, tensors), rtol=1e-5, atol=1e-8)
    assert denoiser.calls == schedule.calls + min(recorded, schedule.calls)


def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let autograd keep the graph of denoiser calls."""
    monkeypatch.setattr(sampling._Recomputed, "apply", staticmethod(lambda denoiser, *rest: denoiser(*rest)))


@pytest.mark.parametrize("name", ["ddim", "heun", "lms", "dpm_multistep", "euler_ancestral", "flow_euler"])
def test_the_shortcut_is_the_graph_in_which_all_other_calls_are_constants(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise, tensors = inputs()
    noise.requires_grad_()
    schedule, denoiser = CONFIGURATIONS[name](), Denoiser()
    latents = sample(denoiser, schedule, noise, tensors, "shortcut")
    found = gradients(loss(latents), [*tensors, noise])
    assert denoiser.calls == schedule.calls + 1

    kept_call = min(round(SHORTCUT_AT * schedule.calls), schedule.calls - 1)
    inner = Denoiser()

    def constant(*given: Tensor) -> Tensor:
        call, output = inner.calls, inner(*given)
        return output if call == kept_call else output.detach()

    plain(monkeypatch)
    expected = sample(constant, schedule, noise, tensors)
    torch.testing.assert_close(latents, expected, rtol=0, atol=0)
    torch.testing.assert_close(found, gradients(loss(expected), [*tensors, noise]), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", ["ddim", "heun", "lms", "dpm_multistep", "euler_ancestral", "flow_euler"])
def test_the_random_gradient_is_the_full_one_on_average(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    noise, tensors = inputs()
    noise.requires_grad_()
    schedule = CONFIGURATIONS[name]()
    full = gradients(loss(sample(Denoiser(), schedule, noise, tensors)), [*tensors, noise])
    draws = []
    for draw in range(schedule.calls):
        monkeypatch.setattr(gradient_routes, "_draw", lambda tensors, count, draw=draw: draw)
        value = loss(sample(Denoiser(), schedule, noise, tensors, "random"))
        # Noise is reached by the longest draw only.
        found = torch.autograd.grad(value, [*tensors, noise], allow_unused=True, materialize_grads=True)
        draws.append(torch.cat([part.flatten() for part in found]))
    torch.testing.assert_close(torch.stack(draws).mean(0), full, rtol=1e-9, atol=1e-13)
    assert not torch.allclose(draws[0], full, rtol=0.1)


def test_the_random_gradient_is_drawn_from_the_conditions() -> None:
    noise, (rows, pooled) = inputs()
    schedule = CONFIGURATIONS["ddim"]()

    def calls(moved: Tensor) -> int:
        denoiser = Denoiser()
        loss(sample(denoiser, schedule, noise, [moved, pooled], "random")).backward()
        return denoiser.calls - schedule.calls

    counts = [calls(rows.detach() + 0.1 * index) for index in range(40)]
    assert calls(rows.detach()) == counts[0]
    assert set(counts) <= set(range(1, schedule.calls + 1))
    assert len(set(counts)) > 3


def test_full_is_the_default_and_differs_from_one_step() -> None:
    noise, tensors = inputs()
    schedule = CONFIGURATIONS["ddim"]()
    full, one = (
        gradients(loss(sample(Denoiser(), schedule, noise, tensors, **mode)), tensors)
        for mode in ({}, {"gradient": "one_step"})
    )
    assert full.norm() > 2 * one.norm()


def test_no_gradient() -> None:
    noise, tensors = inputs()
    denoiser = Denoiser()
    assert not sample(denoiser, CONFIGURATIONS["ddim"](), noise.requires_grad_(), tensors, None).requires_grad
    assert denoiser.calls == STEPS


def test_some_calls_only() -> None:
    noise, tensors = inputs()
    denoiser, schedule = Denoiser(), CONFIGURATIONS["ddim"]()
    torch.testing.assert_close(sample(denoiser, schedule, noise, tensors, calls=0), noise)
    latents = sample(denoiser, schedule, noise, tensors, "one_step", calls=2)
    assert denoiser.calls == 2
    assert gradients(loss(latents), tensors).norm() > 0


@pytest.mark.parametrize(("name", "calls"), [("ddim", STEPS), ("heun", 2 * STEPS - 1), ("pndm", STEPS + 1)])
def test_calls_of_a_chain(name: str, calls: int) -> None:
    noise, tensors = inputs()
    denoiser, schedule = Denoiser(), CONFIGURATIONS[name]()
    sample(denoiser, schedule, noise, tensors, None)
    assert denoiser.calls == schedule.calls == calls


def test_the_given_scheduler_is_not_changed() -> None:
    noise, tensors = inputs()
    schedule = CONFIGURATIONS["dpm_multistep"]()
    first = sample(Denoiser(), schedule, noise, tensors, None)
    assert schedule.scheduler.step_index is None
    assert torch.equal(first, sample(Denoiser(), schedule, noise, tensors, None))


def test_a_half_precision_denoiser_keeps_small_gradients() -> None:
    noise, tensors = inputs(torch.float32)

    def half(latents: Tensor, timestep: Tensor, *tensors: Tensor) -> Tensor:
        return Denoiser()(latents.half(), timestep, *(tensor.half() for tensor in tensors)).float()

    schedule, tiny = CONFIGURATIONS["ddim"](), 1e-9
    reference = gradients(tiny * loss(sample(Denoiser(), schedule, noise, tensors)), tensors)
    found = gradients(tiny * loss(sample(half, schedule, noise, tensors)), tensors)
    torch.testing.assert_close(found / reference.norm(), reference / reference.norm(), rtol=0, atol=0.02)


def test_nan_reaches_the_caller() -> None:
    noise, tensors = inputs()
    latents = sample(Denoiser(), CONFIGURATIONS["ddim"](), noise, tensors)
    assert gradients((latents * float("nan")).sum(), tensors).isnan().all()


def test_out_of_memory_in_the_backward_pass() -> None:
    noise, tensors = inputs()

    def greedy(latents: Tensor, timestep: Tensor, *tensors: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            raise torch.OutOfMemoryError("no more")
        return latents

    latents = sample(greedy, CONFIGURATIONS["ddim"](), noise, tensors)
    with pytest.raises(ThalwegError, match=r"out of memory with 2 image\(s\).*fewer seeds.*gradient None"):
        latents.sum().backward()


def test_other_errors_are_not_changed() -> None:
    with pytest.raises(RuntimeError, match="shapes"), sampling.out_of_memory(1):
        raise RuntimeError("shapes do not match")


def test_schedulers_by_name() -> None:
    for name, (kind, _) in SCHEDULERS.items():
        scheduler = make_scheduler(name, FLOW if name.startswith("flow_") else DIFFUSION)
        assert type(scheduler).__name__ == kind
        assert name.startswith("flow_") or scheduler.config.beta_end == 0.012
    with pytest.raises(UsageError, match=r"one of ddim, .*; got 'flow_euler'"):
        make_scheduler("flow_euler", DIFFUSION)
    with pytest.raises(UsageError, match="one of flow_euler, flow_heun; got 'ddim'"):
        make_scheduler("ddim", FLOW)


def test_a_flow_model_is_recognised_by_its_config_and_keeps_its_shift() -> None:
    like = diffusers.DPMSolverMultistepScheduler(
        use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction"
    )
    euler, heun, unipc = (make_scheduler(name, like) for name in ("flow_euler", "flow_heun", "unipc"))
    assert (euler.config.shift, heun.config.shift) == (3.0, 3.0)
    assert (unipc.config.use_flow_sigmas, unipc.config.flow_shift) == (True, 3.0)
    for name in ("ddim", "euler", "heun", "lcm"):
        with pytest.raises(UsageError, match=f"one of dpm_.*flow_euler.*; got '{name}', .* drop its flow-matching"):
            make_scheduler(name, like)
    # What an earlier swap left in the config is not what the scheduler does.
    swapped = diffusers.DDIMScheduler.from_config(like.config, prediction_type="epsilon")
    assert type(make_scheduler("euler", swapped)).__name__ == "EulerDiscreteScheduler"


@pytest.mark.parametrize(
    "like",
    [
        diffusers.EDMEulerScheduler(),
        diffusers.EDMDPMSolverMultistepScheduler(sigma_data=1.0),
        diffusers.EulerDiscreteScheduler(
            timestep_type="continuous", prediction_type="v_prediction", sigma_min=0.002, sigma_max=700
        ),
    ],
    ids=["edm_euler", "edm_dpm", "continuous"],
)
def test_a_model_of_edm_noise_keeps_its_own_scheduler(like: Any) -> None:
    for name in ("euler", "ddim", "dpm_multistep", "flow_euler"):
        with pytest.raises(UsageError, match=r"EDM noise.*leave the scheduler out"):
            make_scheduler(name, like)
    assert Schedule(like, STEPS).calls == STEPS


def test_another_scheduler_keeps_the_prediction_type_and_the_noise_levels() -> None:
    betas = torch.linspace(0.001, 0.03, 1000).tolist()
    like = diffusers.DDIMScheduler(trained_betas=betas, prediction_type="v_prediction", clip_sample=False)
    for name in SCHEDULERS:
        if not name.startswith("flow_"):
            made = make_scheduler(name, like)
            assert made.config.prediction_type == "v_prediction"
            torch.testing.assert_close(made.alphas_cumprod, like.alphas_cumprod)
    silent = diffusers.DDIMScheduler(**NOISE, rescale_betas_zero_snr=True, prediction_type="v_prediction")
    for name in ("heun", "lms", "pndm", "dpm_singlestep", "deis", "kdpm2", "dpm_sde"):
        with pytest.raises(UsageError, match="noise levels: it takes no rescale_betas_zero_snr"):
            make_scheduler(name, silent)
    assert make_scheduler("euler", silent).config.rescale_betas_zero_snr
    with pytest.raises(UsageError, match=r"'deis' cannot take this model's noise schedule"):
        make_scheduler("deis", diffusers.DDPMScheduler(beta_schedule="sigmoid"))
    with pytest.raises(UsageError, match="PNDMScheduler cannot take 6 step"):
        _ = Schedule(make_scheduler("pndm", diffusers.DDIMScheduler(prediction_type="sample")), STEPS).calls


@pytest.mark.parametrize("name", ["ddim", "ddpm", "lcm", "tcd", "own", "trained_betas"])
def test_a_noise_prediction_without_signal_is_refused(name: str) -> None:
    config = {**NOISE, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "clip_sample": False}
    silent = diffusers.DDIMScheduler(**config)
    if name == "trained_betas":
        betas = [*torch.linspace(0.001, 0.01, 999).tolist(), 1.0]
        silent = diffusers.PNDMScheduler(trained_betas=betas, timestep_spacing="trailing", skip_prk_steps=True)
    scheduler = silent if name in ("own", "trained_betas") else make_scheduler(name, silent)
    with pytest.raises(UsageError, match=r"zero terminal SNR.*such as euler"):
        _ = Schedule(scheduler, 4).calls
    # Velocity is no division; and a chain may begin before the level that is silent.
    if name != "trained_betas":  # PNDM divides by the signal whatever is predicted
        velocity = type(scheduler).from_config(scheduler.config, prediction_type="v_prediction")
        assert Schedule(velocity, 4).calls == 4
    if name in ("ddim", "own", "ddpm"):
        early = type(scheduler).from_config(scheduler.config, timestep_spacing="leading")
        assert Schedule(early, 4).calls == 4
    noise = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    if name != "trained_betas":
        euler = Schedule(make_scheduler("euler", silent), 4)
        assert sample(lambda latents, timestep: latents, euler, noise).isfinite().all()


@pytest.mark.parametrize(
    ("name", "steps", "says"),
    [
        ("lcm", 60, "LCMScheduler cannot take 60 .*it takes 50$"),
        ("tcd", 51, "TCDScheduler cannot take 51 .*it takes 50$"),
        ("ddim", 1001, "DDIMScheduler cannot take 1001 .*it takes 1000$"),
        ("ddpm", 2000, "DDPMScheduler cannot take 2000 .*it takes 1000$"),
        ("pndm", 1, r"PNDMScheduler cannot take 1 .*it takes 2$"),
        ("pndm", 1500, r"PNDMScheduler cannot take 1500 .*it takes 1000$"),
        ("heun", 1, "HeunDiscreteScheduler cannot take 1 .*partly denoised image; it takes 2$"),
        ("ddim", 251, "DDIMScheduler cannot take 251 .*partly denoised image; it takes 250$"),
        ("pndm", 600, "PNDMScheduler cannot take 600 .*partly denoised image; it takes 1000$"),
        ("ddim", 1, "DDIMScheduler cannot take 1 .*partly denoised image; it takes 2$"),
    ],
)
def test_a_number_of_steps_that_a_scheduler_cannot_take(name: str, steps: int, says: str) -> None:
    with pytest.raises(UsageError, match=says) as raised:
        _ = Schedule(make_scheduler(name, DIFFUSION), steps).calls
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "steps"), [("ddim", 250), ("ddim", 300), ("ddim", 500), ("ddpm", 1000), ("euler", 600)]
)
def test_a_number_of_steps_that_a_scheduler_takes(name: str, steps: int) -> None:
    assert Schedule(make_scheduler(name, DIFFUSION), steps).calls == steps


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("steps", [2, 3, 5])
def test_few_and_odd_steps_give_finite_latents_or_raise_one_line_error(name: str, steps: int) -> None:
    schedule = named(name)()
    asked = Schedule(schedule.scheduler, steps)
    latents = sample(Denoiser(), asked, *inputs(torch.float32), gradient=None)
    assert latents.isfinite().all()


def test_eta_where_the_scheduler_takes_none() -> None:
    noise, tensors = inputs()
    with pytest.raises(UsageError, match=r"no eta for EulerDiscreteScheduler, got 0\.5"):
        sample(Denoiser(), named("euler", eta=0.5)(), noise, tensors)


def test_a_scheduler_without_steps_for_the_noise_levels() -> None:
    # No signal at all on the last level, so that it has no logarithm whatever the machine rounds.
    betas = diffusers.DDIMScheduler(rescale_betas_zero_snr=True).betas.tolist()
    silent = diffusers.DDIMScheduler(trained_betas=betas, timestep_spacing="trailing", clip_sample=False)
    for name, scheduler in (("kdpm2_ancestral", "KDPM2Ancestral"), ("euler_ancestral", "EulerAncestral")):
        with pytest.raises(UsageError, match=f"{scheduler}DiscreteScheduler finds no 6 steps"):
            _ = Schedule(make_scheduler(name, silent), STEPS).calls
    cosine = diffusers.DDIMScheduler(beta_schedule="squaredcos_cap_v2", timestep_spacing="trailing", clip_sample=False)
    assert Schedule(make_scheduler("euler_ancestral", cosine), STEPS).calls == STEPS


def test_other_schedulers_and_steps_print_nothing(caplog: pytest.LogCaptureFixture) -> None:
    odd = diffusers.DPMSolverSinglestepScheduler(**NOISE)
    for scheduler in (odd, make_scheduler("ddim", odd), make_scheduler("unipc", odd)):
        assert Schedule(scheduler, 5).calls == 5
    assert caplog.records == []
