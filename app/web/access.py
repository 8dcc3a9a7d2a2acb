"""Who may look: everybody who reaches the address, or who knows the password when one is set."""

import base64
import binascii
import hmac

from fastapi import Request

from app.settings import WebSettings

OPEN = ("/health/live", "/health/ready")
"""For load balancers and container health checks; they tell nothing of the fleet."""


def is_allowed(request: Request, settings: WebSettings) -> bool:
    """Whether a request carries the password, as HTTP Basic; the user's name does not matter."""
    if settings.password is None or request.url.path in OPEN:
        return True
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    try:
        given = base64.b64decode(value, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return False
    expected = settings.password.get_secret_value().encode()
    return scheme.lower() == "basic" and hmac.compare_digest(given, expected)
