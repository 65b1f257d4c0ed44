"""The certificate that nginx shows."""

from datetime import datetime
from pathlib import Path

from cryptography import x509

from overlord.files import read_json
from overlord.paths import Paths
from overlord.tls.certificate import end_of


def days_left(certificate: Path, now: datetime) -> float | None:
    """Days until a PEM certificate ends, negative afterwards; None if none can be read."""
    try:
        parsed = x509.load_pem_x509_certificate(certificate.read_bytes())
    except (OSError, ValueError):
        return None
    return (end_of(parsed) - now).total_seconds() / 86_400


def shown_source(paths: Paths) -> str | None:
    """Where it comes from: acme, origin or self-signed; None before the first."""
    try:
        return paths.shown_certificate.parent.readlink().name.rpartition("-")[0]
    except OSError:
        return None


def last_error(paths: Paths) -> str | None:
    """Why the last renewal failed; None when it did not, or there was none."""
    error = read_json(paths.tls_state).get("error")
    return str(error) if error else None
