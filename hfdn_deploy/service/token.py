"""The bearer token that clients of a service must show."""

import os

from hfdn_deploy.errors import InputError

TOKEN = "HFDN_TOKEN"
"""The environment variable that holds it; an argument could be listed by other users."""


def read_token() -> str | None:
    """Return the token of the environment; None if there is none.

    Raises:
        InputError: it is empty.
    """
    token = os.environ.get(TOKEN)
    if token is not None and not token.strip():
        raise InputError(f"${TOKEN} is empty; give it a token, or unset it.")
    return token
