"""moto, an S3 server in Python, with signatures checked, and boto3, a client: both from PyPI, in an environment of their own."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from . import sealed

# The versions that were looked at; what moto depends on is whatever PyPI has.
PACKAGES = ("moto[server]==5.2.5", "boto3==1.44.5")
START_S_MAX = 60.0
# Makes a user, which may be done without credentials as long as there is none, and prints its keys.
USER = """
import boto3, json, os, sys
iam = boto3.client("iam", endpoint_url=sys.argv[1], region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
iam.create_user(UserName="ci")
policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
iam.put_user_policy(UserName="ci", PolicyName="all", PolicyDocument=json.dumps(policy))
key = iam.create_access_key(UserName="ci")["AccessKey"]
print(key["AccessKeyId"], key["SecretAccessKey"])
"""
USER_ACTIONS = "3"


def environment() -> str | None:
    """The Python that has both, made where there is none; `None` where PyPI can't be reached."""
    home = sealed.REPO / "target" / "interop"
    python = home / "bin" / "python"
    done = home / "-".join(("done", *PACKAGES))
    if not done.exists():
        quiet = {"stdout": subprocess.DEVNULL, "check": False}
        for command in (
            [sys.executable, "-m", "venv", "--clear", home],
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES],
        ):
            if subprocess.run(command, **quiet).returncode != 0:
                return None
        done.touch()
    return str(python)


def start(python: str, work: Path) -> dict[str, str]:
    """Starts a server on a free port of this machine, and returns what its clients must know."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    log = (work / "moto.log").open("wb")
    env = {"PATH": os.environ["PATH"], "HOME": str(work), "INITIAL_NO_AUTH_ACTION_COUNT": USER_ACTIONS}
    command = [python, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=work)
    deadline = time.monotonic() + START_S_MAX
    while not answers(endpoint):
        if server.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"bench: moto doesn't start:\n{(work / 'moto.log').read_text()}")
        time.sleep(0.1)
    made = subprocess.run([python, "-c", USER, endpoint], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        sys.exit(f"bench: moto makes no user:\n{made.stderr}")
    access, secret = made.stdout.split()
    return {"S3_ENDPOINT": endpoint, "S3_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret}


def answers(endpoint: str) -> bool:
    try:
        urllib.request.urlopen(f"{endpoint}/moto-api/data.json", timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
