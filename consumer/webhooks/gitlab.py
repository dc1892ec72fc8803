"""GitLab has two schemes: a token that is shown, and (newer, better) Standard Webhooks."""

from __future__ import annotations

from consumer.errors import SettingsError
from consumer.webhooks.makers import Maker
from consumer.webhooks.rotation import Secrets
from consumer.webhooks.signed import TOLERANCE, SignedProvider
from consumer.webhooks.table import BY_NAME, GITLAB_SIGNED

__all__ = ["GitLab"]


def GitLab(  # noqa: N802
    *, signing_token: Secrets | None = None, secret: Secrets | None = None, tolerance: float = TOLERANCE
) -> SignedProvider:
    """Return the provider of GitLab's webhooks.

    Args:
        signing_token: `whsec_…`; body, id and time are signed. Prefer it.
        secret: the older secret token, shown in `x-gitlab-token`: it proves who sends and nothing else.
        tolerance: seconds that a timestamp may lie off; with `signing_token` only.

    Raises:
        SettingsError: not exactly one of the two is given.
    """
    if signing_token is not None and secret is None:
        return Maker(GITLAB_SIGNED)(secret=signing_token, tolerance=tolerance)
    if secret is not None and signing_token is None:
        return Maker(BY_NAME["gitlab"])(secret=secret)
    raise SettingsError("GitLab: give either signing_token= (better) or secret=")
