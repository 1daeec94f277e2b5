"""Running a plan: the luma through the networks, then the image, then its size."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hfdn_deploy.backends import BACKENDS
from hfdn_deploy.cuda import DeviceView, as_device_array, view
from hfdn_deploy.errors import InputError
from hfdn_deploy.images import (
    Banded,
    Image,
    ImagePlanes,
    Plane,
    Rows,
    check_image,
    resize_image,
    resize_planes,
    size_of,
)
from hfdn_deploy.options import TargetSize
from hfdn_deploy.tiling import LumaSource, LumaUpscaler, Progress
from hfdn_deploy.upscaler.network import Networks
from hfdn_deploy.upscaler.planning import ImagePlan

if TYPE_CHECKING:
    from hfdn_deploy.upscaler.upscaler import Upscaler


def enlarged(
    networks: Networks,
    source: LumaSource,
    plan: ImagePlan,
    progress: Progress | None,
) -> Iterator[Plane]:
    """Run the networks of a plan on a luma plane, and yield the result in bands of rows.

    `progress` counts the work of all networks together.
    """
    if not plan.scales:
        yield source[:, :]
        return
    used, works, (height, width) = [], [], plan.shape
    for scale in plan.scales:
        used.append(networks[scale].luma)
        works.append(used[-1].work((height, width)))
        height, width = scale * height, scale * width

    def counted(before: int) -> Progress | None:
        return progress and (lambda done, _: progress(before + done, sum(works)))

    *earlier, last = used
    for place, network in enumerate(earlier):
        luma = network.plane(source, plan.tiles[place], counted(sum(works[:place])))
        source = np.clip(luma, 0, 1, out=luma)
        network.backend.trim()  # the next network needs the memory
    yield from last.bands(source, plan.tiles[-1], counted(sum(works[:-1])))


def taking_images(
    networks: Networks, images: Sequence[Image | Rows], plan: ImagePlan
) -> LumaUpscaler | None:
    """Return the network of a plan if it takes these images directly, without planes."""
    return _taking(networks, plan, [(image.shape, image.dtype) for image in images])


def _taking(
    networks: Networks, plan: ImagePlan, kinds: Sequence[tuple[tuple[int, ...], np.dtype[Any]]]
) -> LumaUpscaler | None:
    """Do what `taking_images` does, for images of these shapes and dtypes."""
    if not plan.runs_whole or plan.resized:
        return None
    network = networks[plan.scales[0]].luma
    are_rgb = all(shape[2:] == (3,) and dtype == np.uint8 for shape, dtype in kinds)
    return network if network.backend.takes_images and not network.ensemble and are_rgb else None


def upscaled(
    networks: Networks, image: Image | Rows, plan: ImagePlan, progress: Progress | None
) -> Banded:
    """Return the result of a plan for an image; unusable input is refused before any work."""
    if network := taking_images(networks, [image], plan):
        bands = (network.images(np.asarray(each[:, :][None]))[0] for each in [image])
        return Banded((*plan.size, 3), image.dtype, bands)
    planes = ImagePlanes(image)
    return finished(image, planes, enlarged(networks, planes, plan, progress), plan)


def upscaled_on_device(
    up: "Upscaler", networks: Networks, image: Any, target: TargetSize | None
) -> Image:
    """Return the result for an image on a device, on the device.

    Raises:
        InputError: this backend cannot upscale the image to this size in a single run.
        BackendError: the backend failed, or gave a wrong shape.
    """
    networks.check_usable()
    name = networks.first.backend.name
    if not networks.first.backend.takes_images:
        known = ", ".join(spec.name for spec in BACKENDS.values() if spec.device == "gpu")
        raise InputError(
            f"{name} cannot read an image on a device",
            f"copy it to the host, or use one of the backends {known}",
        )
    image = as_device_array(image)
    given = image.__cuda_array_interface__
    shape, dtype = tuple(given["shape"]), np.dtype(given["typestr"])
    plan = up.plan(shape, target=target) if len(shape) == 3 else None
    network = plan and _taking(networks, plan, [(shape, dtype)])
    if not network:
        raise InputError(
            f"{name} cannot upscale {dtype} {shape} on a device to this size in a single run",
            "give uint8 RGB (H, W, 3) and the scale of a network, or copy the image to the host",
        )
    single: Any = view(image, (1, *shape))
    result: Any = network.images(single)
    # A PyTorch tensor must not become a view: it knows the stream on which it is complete.
    single = view(result, tuple(result.shape[1:])) if isinstance(result, DeviceView) else result[0]
    return cast("Image", single)


def finished(
    image: Image | Rows, planes: ImagePlanes, lumas: Iterable[Plane], plan: ImagePlan
) -> Banded:
    """Return the result of a plan for an image, from the luma that its networks made, if any."""
    shape = (*plan.size, *image.shape[2:])
    if not plan.resized:
        return Banded(shape, image.dtype, planes.with_luma(lumas))
    bands = planes.with_luma(lumas, np.float32) if plan.scales else planes.floats()
    made = (*plan.made, *image.shape[2:])
    return Banded(shape, image.dtype, resize_image(bands, made, plan.size, image.dtype))


def finished_luma(lumas: Iterable[Plane], plan: ImagePlan) -> Plane:
    """Return luma of a plan's size, from the luma that its networks made."""
    if plan.resized:
        planes = (luma[None] for luma in lumas)
        lumas = (rows[0] for rows in resize_planes(planes, plan.made, plan.size))
    return Banded(plan.size, np.dtype(np.float32), iter(lumas)).whole()


def batched(
    up: "Upscaler", networks: Networks, images: Sequence[Image], progress: Progress | None
) -> list[Image]:
    """Upscale a batch as described at `Upscaler.batch`."""
    if not images:
        return []
    for image in images:
        check_image(image)
    sizes = sorted({image.shape[:2] for image in images})
    if len(sizes) > 1:
        raise InputError(f"the batch has images of sizes {sizes}; give images of one size.")
    done: list[Image] = []
    most = networks.first.backend.max_batch(*sizes[0]) or len(images)
    for start in range(0, len(images), most):
        some = images[start : start + most]
        plan = _plan_together(up, some) if len(some) > 1 else None
        if plan and plan.runs_whole and not networks.first.luma.ensemble:
            done += _finished_together(networks, some, plan)
        else:
            done += [up(image, progress) for image in some]
    return done


def _plan_together(up: "Upscaler", images: Sequence[Image]) -> ImagePlan:
    """Return a plan for images of one size at once."""
    largest = max((image.shape for image in images), key=lambda shape: size_of(shape)[2])
    widest = max((image.dtype for image in images), key=lambda dtype: dtype.itemsize)
    return up.plan(largest, widest, len(images))


def _finished_together(networks: Networks, images: Sequence[Image], plan: ImagePlan) -> list[Image]:
    """Return the results of a plan with one network for images of one size, run at once."""
    if network := taking_images(networks, images, plan):
        return list(network.images(np.stack(images)))
    planes = [ImagePlanes(image) for image in images]
    lumas = networks[plan.scales[0]].luma.whole(np.stack([each.luma for each in planes]))
    return [
        finished(image, each, [luma], plan).whole()
        for image, each, luma in zip(images, planes, lumas, strict=True)
    ]
