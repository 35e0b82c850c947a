"""When certificates in files end, as metrics. Names and times only, whatever else lies beside them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tenantgate.telemetry import metrics

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

__all__ = ["show", "watch"]

_EVERY_S: Final = 60.0
_MAX_BYTES: Final = 1 << 20
_MAX_FILES: Final = 1000  # of a folder
_BEGINS: Final = b"-----BEGIN CERTIFICATE-----"

_ends: Final = metrics.gauge(
    "tenantgate_certificate_expiration_timestamp_seconds",
    "When the first certificate of a file ends. name: what it is for, of the first one in the file.",
    ("file", "name"),
)
_unreadable: Final = metrics.gauge(
    "tenantgate_certificate_unreadable",
    "1 while a file that was named, or holds the beginning of a certificate, has none that can be read.",
    ("file",),
)


def watch(paths: Sequence[Path]) -> None:
    """Look at `paths` now and once a minute, in a thread of this call's own that ends with the process."""

    def loop() -> None:
        pause = threading.Event()
        while True:
            show(paths)
            pause.wait(_EVERY_S)

    threading.Thread(target=loop, name="certificates", daemon=True).start()


def show(paths: Iterable[Path]) -> None:
    """Set the metrics by what is there now: of each file that is named, and those of a folder that hold certificates.

    What isn't there has none. Of a folder names that begin with a dot are left out, as
    Kubernetes keeps former versions there.
    """
    ends: dict[tuple[str, ...], float] = {}
    unreadable: dict[tuple[str, ...], float] = {}
    for path, named in _files(paths):
        try:
            with path.open("rb") as file:
                text = file.read(_MAX_BYTES)
            if not named and _BEGINS not in text:
                continue  # some other secret
            name, end = _read(text)
        except (OSError, ValueError):
            unreadable[(str(path),)] = 1.0
        else:
            ends[(str(path), name)] = end
    _ends.replace(ends)
    _unreadable.replace(unreadable)


def _files(paths: Iterable[Path]) -> Iterator[tuple[Path, bool]]:
    """Each file, and whether it was named itself."""
    for path in paths:
        try:
            inside = sorted(path.iterdir())[:_MAX_FILES]
        except NotADirectoryError:
            yield path, True
        except OSError:
            continue
        else:
            yield from ((one, False) for one in inside if one.name[0] != "." and one.is_file())


def _read(text: bytes) -> tuple[str, float]:
    """What the first certificate is for, and when the first of them ends, in seconds since 1970.

    Raises:
        ValueError: there is none.
    """
    from cryptography import x509

    found = x509.load_pem_x509_certificates(text)
    return _name(found[0]), min(one.not_valid_after_utc.timestamp() for one in found)


def _name(certificate: Certificate) -> str:
    """Its first name of a server, else its common name, else the number."""
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if found := names.get_values_for_type(x509.DNSName):
            return found[0]
    except (x509.ExtensionNotFound, ValueError):
        pass
    common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(common[0].value) if common else f"{certificate.serial_number:x}"
