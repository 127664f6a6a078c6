"""A local AWS: MiniStack on 127.0.0.1, with TLS and enforced IAM.

It emulates CloudFormation with the SAM transform, IAM, Lambda, API Gateway, SQS and CloudWatch, well enough to deploy
the template with `sam deploy` and to use the deployment over HTTPS. It needs no Docker: functions run as processes.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from stack import Server, StackError, base_environment, free_ports

REGION = "eu-north-1"
ACCOUNT = "123456789012"
ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / ".tools"
PYTHON = Path(os.environ.get("MINISTACK_PYTHON", TOOLS / "ministack/bin/python"))
START_TIMEOUT = 120


class LocalAws(Server):
    """A running local AWS. A context manager: leaving it ends the server and all functions."""

    def __init__(self, folder: Path) -> None:
        """Starts it with its certificates, log and temporary files in `folder`, which must exist."""
        if not PYTHON.exists():
            raise StackError(f"{PYTHON} does not exist; `make` installs MiniStack there")
        self.folder = folder
        self.port, insecure_port = free_ports(2)
        self.url = f"https://localhost:{self.port}"
        # The same AWS without TLS, to show that the queues reject such requests.
        self.insecure_url = f"http://localhost:{insecure_port}"
        self.ca_file = folder / "ca.pem"
        certificate, key = create_certificates(folder)
        (folder / "tmp").mkdir(exist_ok=True)
        environment = {
            **base_environment(),
            "AUTH": "true",
            "GATEWAY_PORT": str(self.port),
            "INSECURE_PORT": str(insecure_port),
            "MINISTACK_HOST": "localhost",
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            "MINISTACK_REGION": REGION,
            "MINISTACK_SSL_CERT": str(certificate),
            "MINISTACK_SSL_KEY": str(key),
            "USE_SSL": "1",
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "DOCKER_HOST": f"unix://{folder}/no-docker.sock",
            "TMPDIR": str(folder / "tmp"),
            # Functions inherit these: they call back over TLS.
            "AWS_ENDPOINT_URL": self.url,
            "AWS_CA_BUNDLE": str(self.ca_file),
            "SSL_CERT_FILE": str(self.ca_file),
        }
        command = [str(PYTHON), str(Path(__file__).with_name("ministack_server.py"))]
        super().__init__(command, environment, folder / "ministack.log")
        try:
            self._wait_until_ready()
        except BaseException:
            self.close()
            raise

    @property
    def client_environment(self) -> dict[str, str]:
        """The variables with which AWS's own tools use this AWS."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_CA_BUNDLE": str(self.ca_file),
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            # The access key is the account's id: the emulator's root user.
            "AWS_ACCESS_KEY_ID": ACCOUNT,
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def client(self, service: str, **settings: Any) -> Any:
        """Returns a boto3 client, by default of the account's root user."""
        defaults = {
            "endpoint_url": self.url,
            "verify": str(self.ca_file),
            "region_name": REGION,
            "aws_access_key_id": ACCOUNT,
            "aws_secret_access_key": "local",
            "config": Config(retries={"total_max_attempts": 1}, proxies={}),
        }
        return boto3.client(service, **{**defaults, **settings})

    def _wait_until_ready(self) -> None:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        deadline = time.monotonic() + START_TIMEOUT
        while self._child.poll() is None and time.monotonic() < deadline:
            try:
                with opener.open(f"{self.url}/_ministack/health", timeout=5) as response:
                    json.load(response)
                    return
            except (OSError, urllib.error.URLError, ValueError):
                time.sleep(0.1)
        log = self.log_file.read_text(errors="replace").splitlines()[-20:]
        raise StackError("MiniStack does not start:\n" + "\n".join(log))


def create_certificates(folder: Path) -> tuple[Path, Path]:
    """Creates `ca.pem` and, signed with it, the server's certificate and key. Returns the paths of the latter two."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "local AWS")])
    now = datetime.datetime.now(datetime.timezone.utc)

    def builder(name: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(ca_name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=30))
        )

    ca = (
        builder(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(False, False, False, False, False, True, True, False, False),  # signs certificates
            critical=True,
        )
        .sign(ca_key, hashes.SHA256())
    )
    names = [x509.DNSName(name) for name in ("localhost", "*.localhost", "*.execute-api.localhost")]
    server = (
        builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]), key.public_key())
        .add_extension(
            x509.SubjectAlternativeName([*names, x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    files = {"ca.pem": ca, "server.pem": server}
    for name, certificate in files.items():
        (folder / name).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file = folder / "server.key"
    key_file.touch(mode=0o600)
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "server.pem", key_file


def run_sam(arguments: list[str], environment: dict[str, str], **settings: Any) -> subprocess.CompletedProcess:
    """Runs SAM with these arguments and variables. Nothing of the caller's AWS settings reaches it."""
    sam = Path(sys.executable).with_name("sam")
    return subprocess.run(
        [str(sam), *arguments],
        cwd=ROOT,
        env={**base_environment(), "SAM_CLI_TELEMETRY": "0", **environment},
        stdin=subprocess.DEVNULL,
        text=True,
        **settings,
    )
