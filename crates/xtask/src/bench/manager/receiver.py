"""Receivers of the manager's benchmark: a mail server that notes when what arrived, and clients of both receivers that know
nothing of ours, to see how fast the receivers themselves are.

    receiver.py smtp PORT FILE       serve: for each mail a line in FILE: its time in microseconds, then the stamps in it
    receiver.py smtp-pace PORT N     send N mails over one connection, print mails a second
    receiver.py logs-make URL        make the log group
    receiver.py logs-pace URL N M    put N events in calls of M, print events a second
    receiver.py logs-read URL        print for each event its time of ingestion in microseconds and its stamp
"""

import asyncio
import email
import email.policy
import re
import smtplib
import sys
import time

GROUP = "/fim/alerts"
STAMP = re.compile(r"stamp-(\d+-\d+-\d+)")


class Handler:
    def __init__(self, path):
        self.file = open(path, "a", buffering=1)

    async def handle_DATA(self, server, session, envelope):
        now = time.time_ns() // 1000
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        body = message.get_body(("plain",))
        stamps = STAMP.findall(body.get_content() if body else "")
        self.file.write(" ".join([str(now), *stamps]) + "\n")
        return "250 taken"


def smtp(port, path):
    from aiosmtpd.smtp import SMTP

    async def serve():
        loop = asyncio.get_running_loop()
        handler = Handler(path)
        server = await loop.create_server(lambda: SMTP(handler, hostname="bench"), "127.0.0.1", int(port))
        await server.serve_forever()

    asyncio.run(serve())


def smtp_pace(port, count):
    message = "Subject: pace\r\n\r\n" + "a line of a mail that is as long as lines of mails are wont to be\r\n" * 40
    with smtplib.SMTP("127.0.0.1", int(port)) as server:
        begun = time.monotonic()
        for _ in range(int(count)):
            server.sendmail("fim@example.com", ["ops@example.com"], message)
        print(int(count) / (time.monotonic() - begun))


def logs(url):
    import boto3
    from botocore.config import Config

    config = Config(retries={"total_max_attempts": 1}, region_name="eu-central-1")
    session = boto3.session.Session(aws_access_key_id="111111111111", aws_secret_access_key="test")
    return session.client("logs", endpoint_url=url, config=config)


def logs_make(url):
    logs(url).create_log_group(logGroupName=GROUP)


def logs_pace(url, count, call):
    client = logs(url)
    stream = f"pace-{call}"
    client.create_log_stream(logGroupName=GROUP, logStreamName=stream)
    text = '{"a message as long as ours":"' + "x" * 1600 + '"}'
    begun = time.monotonic()
    for _ in range(0, int(count), int(call)):
        now = time.time_ns() // 1_000_000
        events = [{"timestamp": now, "message": text}] * int(call)
        client.put_log_events(logGroupName=GROUP, logStreamName=stream, logEvents=events)
    print(int(count) / (time.monotonic() - begun))


def logs_read(url):
    client = logs(url)
    streams = client.get_paginator("describe_log_streams").paginate(logGroupName=GROUP)
    for stream in [stream["logStreamName"] for page in streams for stream in page["logStreams"]]:
        arguments = {"logGroupName": GROUP, "logStreamName": stream, "startFromHead": True}
        token = None
        while not stream.startswith("pace"):
            page = client.get_log_events(**arguments, **({"nextToken": token} if token else {}))
            for event in page["events"]:
                for stamp in STAMP.findall(event["message"])[:1]:
                    print(event["ingestionTime"] * 1000, stamp)
            if not page["events"] or page["nextForwardToken"] == token:
                break
            token = page["nextForwardToken"]


if __name__ == "__main__":
    globals()[sys.argv[1].replace("-", "_")](*sys.argv[2:])
