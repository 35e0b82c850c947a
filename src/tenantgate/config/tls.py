"""TLS of the gateway's clients: certificates as Kong's entities, whose texts are in a vault."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tenantgate import secret_files
from tenantgate.config import names
from tenantgate.fields import config_class, field

__all__ = ["Certificate", "Tls", "entities", "pinned"]

# typedefs.wildcard_host: one label at an end may be a star.
_SNI: Final = (
    r"^(\*|(\*\.)?([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.\*)?)$"
)
_KIND: Final = "certificates"
_DIGITS: Final = 12  # hexadecimal ones: a number that Lua holds exactly


@config_class
class Certificate:
    """A certificate and the names that it is for."""

    snis: tuple[str, ...] = field(
        "Names of servers (SNI): ai.example.com, *.example.com; * for clients that name no other.",
        match=_SNI,
        len_min=1,
        len_max=100,
    )
    cert: str = field(
        "Certificate with those between it and its authority, in PEM: {vault://file/NAME}.",
        referenceable=True,
    )
    key: str | None = field(
        "Its private key, in PEM. Default: in the same text as `cert`.", default=None, referenceable=True
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """The texts have several lines, which no placeholder of decK's can stand for."""
        for name, value in (("cert", self.cert), ("key", self.key)):
            if value is not None and not value.startswith("{vault://"):
                yield name, "must be a vault reference: {vault://file/NAME}"


@config_class
class Tls:
    """Certificates that clients of the gateway see."""

    certificates: tuple[Certificate, ...] = field(
        "Certificates by name of server. Others are those of kong.conf's `ssl_cert`.",
        default=(),
        len_max=1000,
    )
    hsts_max_age_s: int | None = field(
        "Time for which browsers use TLS only (Strict-Transport-Security), in replies over TLS. Default: not said.",
        default=None,
        between=(0, 63_072_000),
        unit="s",
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """A name has one certificate."""
        seen: dict[str, int] = {}
        for i, certificate in enumerate(self.certificates):
            for k, sni in enumerate(certificate.snis):
                if (other := seen.setdefault(sni.lower(), i)) != i:
                    yield f"certificates[{i}].snis[{k}]", f"{sni} has certificates[{other}] already"


def entities(tls: Tls | None) -> dict[str, list[dict[str, Any]]]:
    """Part of a kong.yml: ``certificates``, each with its SNIs; empty if there are none."""
    found = [_entity(certificate) for certificate in tls.certificates] if tls is not None else []
    return {_KIND: found} if found else {}


def _entity(certificate: Certificate) -> dict[str, Any]:
    key = certificate.cert if certificate.key is None else certificate.key
    snis = sorted({sni.lower() for sni in certificate.snis})
    return {
        "id": names.entity_id(_KIND, ",".join(snis)),
        "cert": certificate.cert,
        "key": key,
        "tags": [names.TAG],
        "snis": [{"id": names.entity_id("snis", sni), "name": sni, "tags": [names.TAG]} for sni in snis],
    }


def pinned(tree: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """A kong.yml whose certificates name their files as these are now: ``{vault://file/NAME#VERSION}``.

    Kong keeps what it has read of a version, so that certificate and key change together, with the entity. A file that
    can't be read here keeps its reference, and Kong looks for changes by itself once a minute.
    """
    folder = secret_files.folder(environ)
    found = [
        {**item, **{name: _pinned(item[name], folder) for name in ("cert", "key")}}
        for item in tree.get(_KIND, ())
    ]
    return {**tree, **({_KIND: found} if found else {})}


def _pinned(reference: str, folder: Any) -> str:
    at = secret_files.parse(reference)
    if at is None:
        return reference
    try:
        text = secret_files.read(folder, *at)
    except secret_files.SecretFileError:
        return reference
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{reference[:-1]}#{int(digest[:_DIGITS], 16)}}}"
