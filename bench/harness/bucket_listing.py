"""A second client, for bench/interop: makes a bucket, or reads one and holds every object against the documented layout.
Runs with boto3; the server is in the environment, what is expected comes as JSON on standard input."""

import json
import os
import re
import sys

import boto3
from botocore.config import Config


def layout(prefix: str, namespace: str) -> dict[str, re.Pattern[str]]:
    """Names as docs/design/remote-objects.md has them."""
    prefix, crate, key = re.escape(prefix), r"(?P<crate>[A-Za-z0-9_]+)", r"(?P<key>[0-9a-f]{64})"
    return {
        "pack": re.compile(rf"{prefix}/v3/packs/{crate}/{key}\.tar\.zst"),
        "manifest": re.compile(rf"{prefix}/v3/manifests/{crate}/{key}\.json"),
        "inputs": re.compile(rf"{prefix}/v3/inputs/{crate}/{key}\.json"),
        "build": re.compile(rf"{prefix}/_manifests/[A-Za-z0-9_.-]+\.json"),
        "shard": re.compile(rf"{prefix}/_manifests/v3/{re.escape(namespace)}/shards/[0-9a-f]+\.json"),
        "doctor": re.compile(rf"{prefix}/v3/doctor\.txt"),
    }


def check(s3, bucket: str, prefix: str, namespace: str) -> dict[str, int]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    objects = {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", [])}
    found: dict[str, dict[tuple[str, ...], str]] = {}
    for name in objects:
        kinds = [(kind, match) for kind, form in layout(prefix, namespace).items() if (match := form.fullmatch(name))]
        assert len(kinds) == 1, f"{name} is none of the documented objects"
        kind, match = kinds[0]
        found.setdefault(kind, {})[tuple(match.groups()) or (name,)] = name
    assert found["pack"].keys() == found["manifest"].keys(), "packs and manifests don't belong together"
    for kind in ("inputs", "build", "shard", "doctor"):
        assert found.get(kind), f"no object of kind {kind}"
    for (crate, key), name in found["manifest"].items():
        manifest = json.loads(s3.get_object(Bucket=bucket, Key=name)["Body"].read())
        assert (manifest["version"], manifest["key"]) == (1, key), f"{name}: {manifest}"
        assert manifest["package"].replace("-", "_") == crate, f"{name}: {manifest}"
        pack = found["pack"][crate, key]
        assert manifest["pack"]["size"] == objects[pack], f"{pack} has {objects[pack]} bytes, its manifest says otherwise"
        assert (crate, manifest["unit_key"]) in found["inputs"], f"{name}: no input record of its unit"
        # The magic number of zstd.
        head = s3.get_object(Bucket=bucket, Key=pack, Range="bytes=0-3")["Body"].read()
        assert head[:4] == bytes.fromhex("28b52ffd"), f"{pack} isn't zstd: {head!r}"
    return {"objects": len(objects), "entries": len(found["pack"])}


def main() -> None:
    wanted = json.load(sys.stdin)
    config = Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required", response_checksum_validation="when_required")
    s3 = boto3.client("s3", endpoint_url=os.environ["S3_ENDPOINT"], region_name=os.environ["S3_REGION"], config=config)
    if sys.argv[1] == "make":
        try:
            s3.create_bucket(Bucket=wanted["bucket"])
        except (s3.exceptions.BucketAlreadyExists, s3.exceptions.BucketAlreadyOwnedByYou):
            pass  # Of an earlier run.
    else:
        print(json.dumps(check(s3, **wanted)))


if __name__ == "__main__":
    main()
