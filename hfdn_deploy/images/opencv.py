"""OpenCV as `cv2`, or a sentence that says what to install where it cannot be imported."""

from hfdn_deploy.errors import BackendError, first_line

_HEADLESS = "opencv-python-headless"
# What opencv-python links to and a server lacks, by the packages of Debian that bring it.
_LIBRARIES = {"libGL.": "libgl1", "libgthread-": "libglib2.0-0", "libxcb.": "libxcb1"}


def _advice(reason: str) -> str:
    for library, package in _LIBRARIES.items():
        if library in reason:
            return (
                f"apt-get install {package}, or put {_HEADLESS} in opencv-python's place: "
                f"pip uninstall opencv-python {_HEADLESS}, then pip install {_HEADLESS}"
            )
    return f"pip install --upgrade --force-reinstall {_HEADLESS}"


try:
    import cv2 as cv2
except ImportError as error:
    _reason = first_line(error)
    raise BackendError(f"OpenCV cannot be imported ({_reason})", _advice(_reason)) from error
