"""``tenantgate doctor``: checks of a node and of what it needs, each with what to do. Nothing is changed."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from tenantgate import __version__, secret_files
from tenantgate.apply.commands import Site, file_arguments, site_of
from tenantgate.config import deck_variables
from tenantgate.config.kong_conf import KongConfOptions, kong_conf
from tenantgate.config.render import RenderOptions, render, with_options
from tenantgate.doctor import probes
from tenantgate.doctor.core import kong, node
from tenantgate.doctor.core.findings import Finding, Severity, exit_status, json_text, text
from tenantgate.errors import ConfigError, TenantgateError

__all__ = ["doctor"]

_CONF: Final = (Path("/etc/kong/kong.conf"), Path("/etc/kong.conf"))


def doctor(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``doctor``."""
    file_arguments(parser)
    parser.add_argument(
        "--kong-conf",
        type=Path,
        metavar="FILE",
        help=f"Kong's settings (default: {_CONF[0]}, if it is there); KONG_… of the environment come before them",
    )
    parser.add_argument(
        "--admin-url", metavar="URL", help="ask this Admin API for Kong's version and plugins, too"
    )
    parser.add_argument(
        "--password-env",
        metavar="NAME",
        help="environment variable with the password of Redis, where tenants.yaml names a vault only Kong can open",
    )
    parser.add_argument("--json", action="store_true", help="the findings as JSON")
    parser.add_argument("--quiet", action="store_true", help="only what isn't ok")
    parser.add_argument(
        "--strict", action="store_true", help="exit status 1 for warnings and unknown things, too"
    )
    parser.set_defaults(func=_doctor)


def _doctor(args: argparse.Namespace) -> int:
    site = site_of(file=args.file, given=args.given, state_dir=args.state_dir, policy_path=args.policy_path)
    site = replace(site, file=with_options(site.file, site.options))
    findings = list(_findings(args, site))
    print(json_text(findings, strict=args.strict) if args.json else text(findings, quiet=args.quiet), end="")
    return exit_status(findings, strict=args.strict)


def _findings(args: argparse.Namespace, site: Site) -> Iterator[Finding]:
    settings = _settings(args.kong_conf, args.state_dir)
    wanted = kong.conf_settings(
        kong_conf(KongConfOptions(max_request_body_mb=site.file.gateway.limits.max_request_body_mb))
    )
    uid = None
    if settings is not None:
        path, values = settings
        uid = probes.kong_uid(values)
        yield from kong.check_kong(probes.conf_facts(path, values), wanted)
        for facts in probes.servers(values):
            yield from node.check_server(facts, __version__)
        prefix = Path(values.get("prefix", "/usr/local/kong"))
        yield from node.check_folder(probes.folder(prefix, "Kong's prefix, for its sockets", uid=uid))
        yield node.check_worker_events(str(prefix), probes.reaches_workers(prefix))
        for subject, left in probes.certificates(values, time.time()):
            yield node.check_certificate(subject, left)
    if args.admin_url:
        yield from kong.check_kong(probes.admin_facts(args.admin_url), wanted)
    elif settings is None:
        yield Finding(
            "kong",
            Severity.UNKNOWN,
            "kong.conf",
            "no Kong was looked at",
            "give --kong-conf FILE or --admin-url URL",
        )
    yield from _stores(args, site)
    yield from _secrets(site, settings[1] if settings else {}, uid)
    yield from _files(site, uid)
    yield from _own_certificates(site, settings[1] if settings else {})


def _settings(given: Path | None, state_dir: Path | None) -> tuple[Path, Mapping[str, str]] | None:
    """The kong.conf that is given, or found."""
    found = (*([state_dir / "kong.conf"] if state_dir else []), *(() if state_dir else _CONF))
    path = given or next((p for p in found if p.exists()), None)
    if path is None:
        return None
    try:
        return path, kong.conf_settings(path.read_text(encoding="utf-8"), os.environ)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--kong-conf: {path}: {getattr(error, 'strerror', None) or 'is no text'}"
        ) from None


def _stores(args: argparse.Namespace, site: Site) -> Iterator[Finding]:
    given = site.file.gateway.policy.store
    where, url = "file of this node", None
    try:
        url = given and deck_variables.value(given, site.environ, "gateway.policy.store")
        where = "Redis" if url and url.startswith("redis") else "PostgreSQL" if url else where
        for facts, config in probes.redis_facts(site.file, site.environ, url, args.password_env):
            yield from node.check_redis(facts)
            if config is not None and facts.problem is None and facts.use != "rate limits":
                yield node.check_clock(probes.clock_offset(config), f"Redis of {facts.where}")
        store = site.store()
    except TenantgateError as error:
        yield Finding(
            "policies", Severity.ERROR, where, str(error), "give the environment what tenants.yaml refers to"
        )
        return
    try:
        # A platform's limits are laid over the records, so these differ from what tenants.yaml says.
        records = None if site.mirrors else site.records()
        yield from node.check_policies(probes.policies(store, where, records, time.time()))
    finally:
        store.close()


def _secrets(site: Site, settings: Mapping[str, str], uid: int | None) -> Iterator[Finding]:
    # nginx writes its title over the environment in /proc, so Kong's own can't be read.
    texts = [render(site.file, RenderOptions())]
    texts += [record.decode("utf-8", "replace") for record in site.records().values()]
    named = {name for text in texts for name in deck_variables.vault_names(text)}
    yield from node.check_secrets(named, {name for name, value in site.environ.items() if value})
    if files := sorted({name for text in texts for name in secret_files.names(text)}):
        folder = Path(settings.get(secret_files.SETTING) or secret_files.folder(site.environ))
        found = {name: probes.secret_file(folder, name, uid=uid) for name in files}
        vaults = settings.get("vaults", "bundled") if settings else "file"
        yield from node.check_secret_files(str(folder), found, vaults=vaults)


def _own_certificates(site: Site, settings: Mapping[str, str]) -> Iterator[Finding]:
    """Certificates of tenants.yaml that are files here."""
    folder = Path(settings.get(secret_files.SETTING) or secret_files.folder(site.environ))
    for certificate in site.file.gateway.tls.certificates:
        if at := secret_files.parse(certificate.cert):
            left = probes.certificate_file(folder, *at, now=time.time())
            yield node.check_certificate(", ".join(certificate.snis), left)


def _files(site: Site, uid: int | None) -> Iterator[Finding]:
    policy = Path(site.file.gateway.policy.path)
    yield from node.check_folder(probes.folder(policy.parent, "gateway.policy.path", uid=uid))
    audit = site.file.gateway.plugins.get("audit")
    if audit is not None and probes.sections(site.file, "audit"):
        yield from node.check_folder(
            probes.folder(Path(audit.dir), "gateway.audit.dir", check="audit", uid=uid, private=True)
        )
    for name, found, problem in probes.models(site.file):
        yield node.check_models(name, found, problem)
