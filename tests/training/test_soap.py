"""The optimiser compared with the formulas of its papers, written out for one tensor."""

import math

import pytest
import torch

from training.soap import Optimiser, orthonormal

SHAPES = [(8, 6, 3, 3), (8, 6, 3, 3), (5, 1, 3, 3), (6, 7, 1, 1), (1, 4, 2, 2), (9,)]
BETAS = (0.9, 0.95)


def parameters():
    torch.manual_seed(0)
    return [torch.randn(shape, requires_grad=True) for shape in SHAPES]


def set_gradients(weights, step):
    torch.manual_seed(100 + step)
    for weight in weights:
        # Rows of unequal size give distinct eigenvalues.
        size = torch.linspace(0.1, 2, len(weight)).view(-1, *[1] * (weight.ndim - 1))
        weight.grad = torch.randn_like(weight) * size


class NaiveSoap:
    """Algorithm 3 of arXiv 2409.11321 for one weight (out, in, taps)."""

    def __init__(self, weight, refresh):
        self.weight = weight.detach().clone().flatten(2)
        self.dims = [d for d, n in enumerate(self.weight.shape) if n > 1]
        self.refresh, self.step = refresh, 0
        self.covariances = {d: torch.zeros([self.weight.shape[d]] * 2) for d in self.dims}
        self.bases = {}
        self.first, self.second = (torch.zeros_like(self.weight) for _ in range(2))

    def rotate(self, x, back=False):
        for d, basis in self.bases.items():
            x = (x.movedim(d, -1) @ (basis.T if back else basis)).movedim(-1, d)
        return x

    def update(self, gradient, rate):
        gradient = gradient.flatten(2)
        for d in self.dims:
            rows = gradient.movedim(d, 0).flatten(1)
            self.covariances[d] += (1 - BETAS[1]) * (rows @ rows.T - self.covariances[d])
        if not self.bases:
            for d, covariance in self.covariances.items():
                self.bases[d] = torch.linalg.eigh(covariance).eigenvectors.flip(1)
            return
        self.step += 1
        self.first += (1 - BETAS[0]) * (gradient - self.first)  # kept in the standard basis
        self.second += (1 - BETAS[1]) * (self.rotate(gradient) ** 2 - self.second)
        direction = self.rotate(self.rotate(self.first) / (self.second.sqrt() + 1e-8), back=True)
        correction = math.sqrt(1 - BETAS[1] ** self.step) / (1 - BETAS[0] ** self.step)
        self.weight -= rate * correction * direction
        if self.step % self.refresh == 0:
            for d, covariance in self.covariances.items():
                product = covariance @ self.bases[d]
                order = (self.bases[d] * product).sum(0).argsort(descending=True)
                self.bases[d] = torch.linalg.qr(product[:, order]).Q
                self.second = self.second.index_select(d, order)


def test_soap_is_that_of_the_paper():
    weights = parameters()
    naive = [NaiveSoap(weight, 3) for weight in weights[:-1]]
    optimiser = Optimiser(weights, BETAS, refresh=3)
    for step in range(12):
        set_gradients(weights, step)
        for reference, weight in zip(naive, weights, strict=False):
            reference.update(weight.grad, 0.01)
        optimiser.prepare(0.01)
        optimiser.step()
        for reference, weight in zip(naive, weights, strict=False):
            found = weight.detach().flatten(2)
            torch.testing.assert_close(found, reference.weight, atol=1e-5, rtol=0)


@pytest.mark.parametrize("refresh", [None, 3])
def test_without_bases_it_is_adam(refresh):
    """Without SOAP all weights use Adam; in SOAP 1-D weights do, from the second step."""
    weights = parameters()
    chosen = weights if refresh is None else weights[-1:]
    copies = [torch.nn.Parameter(weight.detach().clone()) for weight in chosen]
    adam = torch.optim.Adam(copies, lr=0.01, betas=BETAS)
    optimiser = Optimiser(weights, BETAS, refresh)
    for step in range(12):
        set_gradients(weights, step)
        for copy, weight in zip(copies, chosen, strict=True):
            copy.grad = weight.grad.clone()
        optimiser.prepare(0.01)
        optimiser.step()
        if step or refresh is None:
            adam.step()
        for copy, weight in zip(copies, chosen, strict=True):
            torch.testing.assert_close(weight, copy, atol=1e-6, rtol=0)


def test_a_loaded_state_goes_on_as_the_saved_one():
    """16 bits and estimated covariances change the path of twenty steps by less than 15 %."""
    weights = parameters()
    optimiser = Optimiser(weights, BETAS, refresh=10)
    for step in range(31):
        set_gradients(weights, step)
        optimiser.prepare(0.01)
        optimiser.step()
    copies = [weight.detach().clone().requires_grad_() for weight in weights]
    loaded = Optimiser(copies, BETAS, refresh=10)
    loaded.load(optimiser.state())
    again = loaded.state()
    for name in ("first", "second", "bases"):
        torch.testing.assert_close(again[name], optimiser.state()[name], atol=1e-3, rtol=0.01)
    start = [weight.detach().clone() for weight in weights]
    for step in range(31, 51):
        for some, one in ((weights, optimiser), (copies, loaded)):
            set_gradients(some, step)
            one.prepare(0.01)
            one.step()
    for weight, copy, first in zip(weights, copies, start, strict=True):
        assert (weight - copy).norm() < 0.15 * (weight - first).norm()


def test_orthonormal_is_the_q_of_qr():
    torch.manual_seed(0)
    matrices = torch.randn(5, 48, 48).double()
    matrices[0] *= torch.logspace(0, -6, 48)  # as ill-conditioned as the shift allows
    found = orthonormal(matrices)
    q, r = torch.linalg.qr(matrices)
    q = q * r.diagonal(dim1=1, dim2=2).sign().unsqueeze(1)
    torch.testing.assert_close(found, q, atol=1e-8, rtol=0)
    identity = torch.eye(48).double().expand(5, -1, -1)
    torch.testing.assert_close(found.mT @ found, identity, atol=1e-10, rtol=0)
