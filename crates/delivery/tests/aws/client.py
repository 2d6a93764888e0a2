"""Calls of AWS by AWS's own library, for tests: a client that knows nothing of ours.

Reads a JSON list of calls, [{"key", "secret", "service", "method", "args"}], and writes a list of their results; a call
that is refused gives {"error": CODE}. The argument is the endpoint."""

import base64
import datetime
import json
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError


def plain(value):
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if key != "ResponseMetadata"}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if hasattr(value, "read"):
        return base64.b64encode(value.read()).decode()
    return value


def main():
    config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, region_name="eu-central-1")
    clients, results = {}, []
    for call in json.load(sys.stdin):
        who = (call["key"], call.get("secret", "test"), call["service"])
        if who not in clients:
            clients[who] = boto3.session.Session().client(
                who[2],
                endpoint_url=sys.argv[1],
                aws_access_key_id=who[0],
                aws_secret_access_key=who[1],
                config=config,
            )
        try:
            results.append(plain(getattr(clients[who], call["method"])(**call.get("args", {}))))
        except ClientError as error:
            results.append({"error": error.response["Error"]["Code"]})
        except BotoCoreError as error:
            results.append({"error": type(error).__name__, "message": str(error)})
    json.dump(results, sys.stdout)


main()
