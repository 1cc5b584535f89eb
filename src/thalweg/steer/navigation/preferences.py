"""Preferential Bayesian optimization: a Gaussian process learns from choices which points are preferred."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

LENGTHSCALE = 1.5
"""Length scale of the Gaussian process, in the points' unit: points that far apart are nearly independent."""
LINEAR_VARIANCE = 0.3
"""Variance of the linear kernel per unit of length squared; that of the squared exponential is 1."""
UTILITY_VARIANCE = 4.0
"""Variance of the utility, in units of the variance of a comparison's noise: most choices are meant."""
NUM_SAMPLES = 128
"""Draws from the posterior for the expected utility of the best option."""


class Preferences:
    """Model of the utility of points, learned from comparisons.

    The model is botorch's PairwiseGP (probit likelihood, Laplace approximation) with a fixed kernel: a dozen
    comparisons are too few to learn its scales. The linear kernel extrapolates preferences to points far from those
    shown; the squared exponential allows for optima between them.
    """

    def __init__(self, points: Tensor, comparisons: Sequence[tuple[int, int]]) -> None:
        """Fit the model to comparisons.

        Args:
            points: points (N, k), at unit scale.
            comparisons: pairs of rows, the better one first; at least one.
        """
        from botorch.models import PairwiseGP
        from gpytorch.kernels import LinearKernel, RBFKernel, ScaleKernel

        rbf, linear = RBFKernel(), LinearKernel()
        rbf.lengthscale = LENGTHSCALE
        linear.variance = LINEAR_VARIANCE
        kernel = ScaleKernel(rbf + linear)
        kernel.outputscale = UTILITY_VARIANCE
        self.points = points.double()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about points that are not standardised
            pairs = torch.tensor(list(comparisons))
            self._model = PairwiseGP(self.points, pairs, covar_module=kernel.double(), jitter=1e-5)
        self._model.eval()

    def utility(self, points: Tensor) -> Tensor:
        """Return the expected utility (P) of points (P, k)."""
        with torch.no_grad():
            posterior: Any = self._model.posterior(points.double())
            return posterior.mean.squeeze(-1)

    def best_batch(self, points: Tensor, count: int, shown: Tensor, seed: int) -> list[int]:
        """Choose points that together have the largest expected utility of the best option (qEUBO, greedily).

        Args:
            points: points (P, k) to choose from.
            count: number of points to choose, at most P.
            shown: the point (1, k) that can be kept; a batch's value is its gain over that point.
            seed: seed of the draws from the posterior.

        Returns:
            Indices of the chosen points.
        """
        from botorch.acquisition.preference import qExpectedUtilityOfBestOption
        from botorch.optim import optimize_acqf_discrete
        from botorch.sampling import SobolQMCNormalSampler

        points = points.double()
        sampler = SobolQMCNormalSampler(torch.Size([NUM_SAMPLES]), seed=seed)
        value: Any = qExpectedUtilityOfBestOption(self._model, sampler=sampler, X_pending=shown.double())
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            chosen, _ = optimize_acqf_discrete(value, min(count, len(points)), points, return_acq_values=False)
        return torch.cdist(chosen, points, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=1).tolist()
