"""A certificate of our own making, since phones give their camera to secure pages only.

A browser asks once whether to trust it. It is kept, so that it asks once and not every day.
"""

import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from pathlib import Path

from ..errors import RtrError

DAYS = 365


def secure(folder: Path, hosts: Sequence[str]) -> ssl.SSLContext:
    """For a server that is reached under these names and addresses."""
    certificate, key = folder / "live.pem", folder / "live.key"
    if not _is_good(certificate, hosts):
        folder.mkdir(parents=True, exist_ok=True)
        pem, secret = made(hosts)
        key.touch(mode=0o600)
        key.write_bytes(secret)
        certificate.write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def made(hosts: Sequence[str]) -> tuple[bytes, bytes]:
    """A certificate and its key, in PEM."""
    x509, hashes, serialization, ec, oid = _cryptography()
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(oid.COMMON_NAME, "RTR live")])
    now = datetime.datetime.now(datetime.timezone.utc)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName([_named(x509, h) for h in hosts]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return built.public_bytes(serialization.Encoding.PEM), secret


def _is_good(path: Path, hosts: Sequence[str]) -> bool:
    """Whether a kept one still holds, and for all of them."""
    if not path.is_file():
        return False
    x509, *_ = _cryptography()
    try:
        known = x509.load_pem_x509_certificate(path.read_bytes())
        names = known.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return False
    now = datetime.datetime.now(datetime.timezone.utc)
    return known.not_valid_after_utc > now and {_named(x509, h) for h in hosts} <= set(names)


def _named(x509, host: str):
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _cryptography():
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID
    except ImportError as error:
        raise RtrError("--tls needs a package: pip install cryptography") from error
    return x509, hashes, serialization, ec, NameOID
