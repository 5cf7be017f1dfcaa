"""The certificates of a lab cluster: a CA of its own, and a server certificate signed by it for each node.

As on PVE (``/etc/pve/pve-root-ca.pem`` and ``pve-ssl.pem``), a node's certificate names localhost, 127.0.0.1, the
node's name and its address. Made once a process for each set of names: key generation is most of the cost.
"""

from __future__ import annotations

import datetime
import functools
import ipaddress
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALIDITY = datetime.timedelta(days=30)


@dataclass(frozen=True)
class Authority:
    """A CA: its certificate and key in PEM."""

    certificate: bytes
    key: bytes


@functools.lru_cache(maxsize=8)
def authority(name: str = "Proxmox Virtual Environment") -> Authority:
    """The CA of that name; another name is another CA, for tests of certificates that do not fit."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(f"{name} Root CA")
    built = (
        _builder(subject, subject, key.public_key(), is_ca=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(built.public_bytes(serialization.Encoding.PEM), _key_pem(key))


@functools.lru_cache(maxsize=64)
def server_certificate(signer: Authority, node: str, address: str) -> tuple[bytes, bytes]:
    """Certificate and key of a node, in PEM."""
    ca = x509.load_pem_x509_certificate(signer.certificate)
    ca_key = serialization.load_pem_private_key(signer.key, None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.DNSName(node)]
    names += [x509.IPAddress(ipaddress.ip_address(text)) for text in dict.fromkeys(("127.0.0.1", address))]
    built = (
        _builder(_subject(node), ca.subject, key.public_key(), is_ca=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM), _key_pem(key)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, *, is_ca: bool
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + _VALIDITY)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(usage, critical=True)
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
