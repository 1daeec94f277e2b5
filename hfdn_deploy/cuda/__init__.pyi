from .runtime import (
    Buffer,
    CudaError,
    Device,
    DeviceArray,
    borrow,
    call,
    context,
    current_context,
    is_device_array,
    like,
    member,
)

__all__ = [
    "Buffer",
    "CudaError",
    "Device",
    "DeviceArray",
    "borrow",
    "call",
    "context",
    "current_context",
    "is_device_array",
    "like",
    "member",
]
