import platform
import subprocess
import sys

import pytest
import torch

from training.host import separate_bias
from training.initial import initial_network

# Prints the growth of the resident memory, in MiB, after 64 MiB are used and freed.
GROWTH = """
import numpy as np, psutil
from training.host import keep_freed_memory
if {keep}:
    keep_freed_memory()
before = psutil.Process().memory_info().rss
used = [np.ones(2**20) for _ in range(8)]
del used
print((psutil.Process().memory_info().rss - before) / 2**20)
"""


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_separate_bias_changes_no_gradient(scale):
    network = initial_network(scale, None, 0)
    lr = torch.rand(2, 1, 7, 9)

    def gradients():
        network.zero_grad()
        images = network.forward_levels(lr)
        sum((image**2).mean() for image in images).backward()
        return [p.grad.clone() for p in network.parameters()]

    fused = gradients()
    separate_bias(network)
    for a, b in zip(fused, gradients(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)
    with torch.autocast("cpu", torch.bfloat16):
        assert network.heads["s"].deconv(torch.rand(1, 48, 4, 4)).dtype == torch.bfloat16


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
@pytest.mark.parametrize("keep", [True, False])
def test_freed_memory_stays_with_the_process(keep):
    program = GROWTH.format(keep=keep)
    grown = float(subprocess.check_output([sys.executable, "-c", program], text=True))
    assert grown > 60 if keep else grown < 8
