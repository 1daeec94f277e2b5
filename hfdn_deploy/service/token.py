"""The bearer token that clients of a service must send."""

import os

from hfdn_deploy.errors import InputError

TOKEN = "HFDN_TOKEN"
"""The environment variable with the token; other users could see a command-line argument."""


def read_token() -> str | None:
    """Return the token from the environment; None if it is not set.

    Raises:
        InputError: the token is empty.
    """
    token = os.environ.get(TOKEN)
    if token is not None and not token.strip():
        raise InputError(f"${TOKEN} is empty; set it to a token, or unset it.")
    return token
