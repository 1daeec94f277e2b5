"""SOAP and Adam on stacked parameters, with a step that a CUDA graph can hold.

SOAP is N. Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam", arXiv 2409.11321:
Adam in the eigenbases of the gradient's covariance along each dimension of a weight. Without
bases it is Adam. Parameters of one shape are stacked, so that few large operations run.
"""

import math
from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor

EPSILON = 1e-8
# Dimensions larger than this keep the standard basis.
LARGEST_BASIS = 1024
# Share of the trace that is added to a covariance, so that its power iteration keeps full rank.
SHIFT = 1e-6


class OptimiserState(TypedDict):
    """State for a resume, flat over all stacks: 4 bytes per parameter, 2 per basis entry."""

    updates: int
    first: Tensor
    second: Tensor
    bases: Tensor


class Stack:
    """Parameters of one shape, stacked as (N, out, in, taps), with their moments and bases."""

    def __init__(self, parameters: Sequence[Tensor], shape: tuple[int, ...], bases: bool) -> None:
        self.parameters = parameters
        self.shape = shape
        device = parameters[0].device
        self.first, self.second = (torch.zeros(shape, device=device) for _ in range(2))
        sizes = {d: n for d, n in enumerate(shape[1:], 1) if bases and 1 < n <= LARGEST_BASIS}
        self.bases = {
            d: torch.eye(n, device=device).repeat(shape[0], 1, 1) for d, n in sizes.items()
        }
        self.covariances = {d: torch.zeros_like(basis) for d, basis in self.bases.items()}

    def gradient(self) -> Tensor:
        """Return the gradients in the standard basis."""
        gradients = [p.grad.reshape(-1) for p in self.parameters if p.grad is not None]
        return torch.cat(gradients).view(self.shape)

    def observe(self, gradient: Tensor, beta: float) -> None:
        """Move the covariances towards those of `gradient`."""
        for dim, covariance in self.covariances.items():
            rows = gradient.movedim(dim, 1).flatten(2)
            covariance.lerp_(rows @ rows.mT, 1 - beta)

    def rotate(self, x: Tensor, *, back: bool = False) -> Tensor:
        """Rotate x (N, out, in, taps) into the bases or, with `back`, out of them."""
        for dim in (1, 2, 3):
            # Each pass moves the first dimension to the end; three passes restore the order.
            if dim in self.bases:
                basis = self.bases[dim].mT if back else self.bases[dim]
                rest = (x.shape[0], *x.shape[2:], x.shape[1])
                x = (x.flatten(2).mT @ basis).view(rest)
            else:
                x = x.movedim(1, 3)
        return x

    def update(self, rate: Tensor, betas: tuple[float, float]) -> None:
        """Take one step of Adam in the bases."""
        gradient = self.gradient()
        self.observe(gradient, betas[1])
        rotated = self.rotate(gradient)
        self.first.lerp_(rotated, 1 - betas[0])
        self.second.lerp_(rotated.square(), 1 - betas[1])
        step = self.rotate(self.first / (self.second.sqrt() + EPSILON), back=True) * rate
        pieces = torch.split(step.reshape(-1), [p.numel() for p in self.parameters])
        pairs = zip(pieces, self.parameters, strict=True)
        torch._foreach_sub_(list(self.parameters), [piece.view_as(p) for piece, p in pairs])

    def turn(self, dim: int, basis: Tensor, order: Tensor) -> None:
        """Replace a basis: rotate the first moment to it, permute the second by `order`."""
        turned = self.first.movedim(dim, 3) @ (self.bases[dim].mT @ basis).unsqueeze(1)
        self.first.copy_(turned.movedim(3, dim))
        shape = [1, 1, 1, 1]
        shape[0], shape[dim] = order.shape
        self.second.copy_(self.second.take_along_dim(order.view(shape), dim))
        self.bases[dim].copy_(basis)

    def infer_covariances(self) -> None:
        """Estimate the covariances from the bases and the second moment.

        In its eigenbasis a covariance is diagonal; its eigenvalues are sums of the second moment.
        """
        for dim, basis in self.bases.items():
            eigenvalues = self.second.sum([d for d in (1, 2, 3) if d != dim])
            self.covariances[dim].copy_(basis * eigenvalues.unsqueeze(1) @ basis.mT)


class Optimiser:
    """Adam, or SOAP: Adam in eigenbases that `prepare` refreshes every `refresh` steps.

    A step consists of `prepare`, which runs on the host, and `step`, which a CUDA graph may hold.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        betas: tuple[float, float],
        refresh: int | None = None,
    ) -> None:
        """Stack the parameters.

        Args:
            parameters: parameters to train, all on one device.
            betas: decay rates of the first and the second moment; the second is also the decay
                rate of the covariances.
            refresh: steps between two refreshes of the bases; None selects Adam.
        """
        self.betas, self.refresh_every = betas, refresh
        weights = [p for p in parameters if refresh and p.ndim > 1]
        others = [p for p in parameters if not (refresh and p.ndim > 1)]
        self.stacks = []
        for shape in dict.fromkeys(tuple(p.shape) for p in weights):
            same = [p for p in weights if tuple(p.shape) == shape]
            taps = math.prod(shape[2:])
            self.stacks.append(Stack(same, (len(same), *shape[:2], taps), bases=True))
        if others:
            size = sum(p.numel() for p in others)
            self.stacks.append(Stack(others, (1, size, 1, 1), bases=False))
        self.updates = 0
        self._rate = torch.zeros((), device=parameters[0].device)
        self._has_bases = not refresh

    def prepare(self, rate: float) -> None:
        """Set the next step's learning rate, and refresh the bases if a refresh is due."""
        if self.refresh_every and self.updates and self.updates % self.refresh_every == 0:
            self.refresh()
        if self._has_bases:
            self.updates += 1
            first, second = (1 - beta**self.updates for beta in self.betas)
            self._rate.fill_(rate * math.sqrt(second) / first)

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters from their gradients; SOAP's first step only sets the bases."""
        if self._has_bases:
            for stack in self.stacks:
                stack.update(self._rate, self.betas)
            return
        for stack in self.stacks:
            stack.observe(stack.gradient(), self.betas[1])
            for dim, covariance in stack.covariances.items():
                stack.bases[dim].copy_(torch.linalg.eigh(covariance).eigenvectors.flip(2))
        self._has_bases = True

    @torch.no_grad()
    def refresh(self) -> None:
        """Bring the bases closer to the covariances' eigenvectors, by one power iteration.

        Bases of one size are processed as one batch.
        """
        sizes: dict[int, list[tuple[Stack, int]]] = {}
        for stack in self.stacks:
            for dim, basis in stack.bases.items():
                sizes.setdefault(basis.shape[2], []).append((stack, dim))
        for members in sizes.values():
            old = torch.cat([stack.bases[dim] for stack, dim in members]).double()
            covariance = torch.cat([stack.covariances[dim] for stack, dim in members]).double()
            product = covariance @ old
            eigenvalues = (old * product).sum(1)
            order = eigenvalues.argsort(1, descending=True)
            shift = SHIFT * eigenvalues.sum(1).clamp_min(1e-300)
            iterated = product + shift[:, None, None] * old
            iterated = iterated / (shift / SHIFT)[:, None, None]
            new = orthonormal(iterated.take_along_dim(order.unsqueeze(1), 2)).float()
            numbers = [stack.shape[0] for stack, _ in members]
            for (stack, dim), basis, by in zip(
                members, torch.split(new, numbers), torch.split(order, numbers), strict=True
            ):
                stack.turn(dim, basis, by)

    def state(self) -> OptimiserState:
        """Return the state on the CPU, in 16 bits."""
        bases = [b for stack in self.stacks for b in stack.bases.values() if self._has_bases]
        return {
            "updates": self.updates,
            "first": flat([stack.first for stack in self.stacks]).bfloat16(),
            "second": flat([stack.second for stack in self.stacks]).bfloat16(),
            "bases": flat(bases).half(),
        }

    @torch.no_grad()
    def load(self, state: OptimiserState) -> None:
        """Restore a result of `state`; covariances are estimated, as a few steps renew them."""
        self.updates = state["updates"]
        fill([stack.first for stack in self.stacks], state["first"])
        fill([stack.second for stack in self.stacks], state["second"])
        self._has_bases = not self.refresh_every or len(state["bases"]) > 0
        if len(state["bases"]):
            fill([b for stack in self.stacks for b in stack.bases.values()], state["bases"])
            for stack in self.stacks:
                for basis in stack.bases.values():
                    basis.copy_(orthonormal(basis.double()))
                stack.infer_covariances()


def orthonormal(matrices: Tensor) -> Tensor:
    """Return the Q of the QR decomposition of (N, n, n) in float64, with R's diagonal positive.

    Cholesky QR, twice for precision (Y. Yamamoto et al., "Roundoff error analysis of the
    CholeskyQR2 algorithm", 2015). On CUDA it is batched, whereas `torch.linalg.qr` is a loop.
    """
    for _ in range(2):
        # Unlike cholesky, cholesky_ex does not wait for the device to report success.
        root, _ = torch.linalg.cholesky_ex(matrices.mT @ matrices, upper=True)
        matrices = torch.linalg.solve_triangular(root, matrices, upper=True, left=False)
    return matrices


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """Concatenate copies of all entries, on the CPU."""
    return torch.cat([torch.empty(0), *(t.detach().reshape(-1).cpu() for t in tensors)])


def fill(tensors: Sequence[Tensor], entries: Tensor) -> None:
    """Copy the entries of a result of `flat` into tensors of the same shapes."""
    pieces = torch.split(entries, [t.numel() for t in tensors])
    for tensor, piece in zip(tensors, pieces, strict=True):
        tensor.copy_(piece.view(tensor.shape))
