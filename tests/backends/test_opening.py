import pytest

from hfdn_deploy import backends
from hfdn_deploy.options import ModelOptions


@pytest.mark.parametrize("model", [2, "x2"])
def test_the_bundles_of_the_package_have_names(model):
    for allowed in (True, False):
        bundle = backends.open_model(ModelOptions(model=model, allow_ungated=allowed))
        assert (bundle.manifest.scale, bundle.allow_ungated) == (2, allowed)
