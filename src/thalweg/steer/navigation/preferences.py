"""Preferential Bayesian optimisation: a Gaussian process learns from choices what to show next."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

LENGTHSCALE = 1.5
"""Of the Gaussian process, in the points' unit: distances about this long say little about each other."""
LINEAR = 0.3
"""Variance of the linear part, a unit of length squared; that of the squared exponential is 1."""
SCALE = 4.0
"""Variance of the utility, where the noise of a comparison has 1: people mostly mean their choices."""
SAMPLES = 128
"""Draws from the posterior for the expected utility of the best option."""


class Preferences:
    """What comparisons say about the utility of points.

    The model is botorch's PairwiseGP (probit likelihood, Laplace approximation) with a fixed kernel: a dozen
    comparisons are too few to learn its scales from. A linear part carries what was liked to points that were never
    near to any shown; the squared exponential says that more is not always better.
    """

    def __init__(self, points: Tensor, comparisons: Sequence[tuple[int, int]]) -> None:
        """Learn from comparisons.

        Args:
            points: points (N, k), at unit scale.
            comparisons: pairs of rows, the better one first; at least one.
        """
        from botorch.models import PairwiseGP
        from gpytorch.kernels import LinearKernel, RBFKernel, ScaleKernel

        rbf, linear = RBFKernel(), LinearKernel()
        rbf.lengthscale = LENGTHSCALE
        linear.variance = LINEAR
        kernel = ScaleKernel(rbf + linear)
        kernel.outputscale = SCALE
        self.points = points.double()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that points are not standardised
            pairs = torch.tensor(list(comparisons))
            self._model = PairwiseGP(self.points, pairs, covar_module=kernel.double(), jitter=1e-5)
        self._model.eval()

    def utility(self, points: Tensor) -> Tensor:
        """Return the expected utility (P) of points (P, k)."""
        with torch.no_grad():
            posterior: Any = self._model.posterior(points.double())
            return posterior.mean.squeeze(-1)

    def best_batch(self, points: Tensor, count: int, shown: Tensor, seed: int) -> list[int]:
        """Choose `count` of `points` (P, k) that together promise the best option (qEUBO, greedily).

        Args:
            points: points (P, k) to choose from.
            count: how many, at most P.
            shown: the point (1, k) that can be kept: a batch is worth what it offers beyond it.
            seed: of the draws from the posterior.
        """
        from botorch.acquisition.preference import qExpectedUtilityOfBestOption
        from botorch.optim import optimize_acqf_discrete
        from botorch.sampling import SobolQMCNormalSampler

        points = points.double()
        sampler = SobolQMCNormalSampler(torch.Size([SAMPLES]), seed=seed)
        value: Any = qExpectedUtilityOfBestOption(self._model, sampler=sampler, X_pending=shown.double())
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            chosen, _ = optimize_acqf_discrete(value, min(count, len(points)), points, return_acq_values=False)
        return torch.cdist(chosen, points, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=1).tolist()
