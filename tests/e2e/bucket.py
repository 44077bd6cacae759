"""Checkpoints in a bucket that speaks S3: moto's server, which checks every signature. What a worker
made is promoted by a server that sees nothing of the worker's disk, survives the loss of the
server's own, and is not used once a byte of it is damaged in the bucket.

usage: bucket.py      (the program is that of the variable STEERSMAN)
"""

import json
import os
import shutil
import tempfile
import time
import urllib.error
import urllib.request

SETUP_CALLS = 3  # those below that need no signature yet: nobody has a key
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = str(SETUP_CALLS)

import boto3  # noqa: E402
import openai  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402
from servers import Server  # noqa: E402

BUCKET, PREFIX = "policies", "eu"
QUESTIONS = ["What is the capital of France?", "How many people live in Egypt?"]


def start_bucket():
    """A client of a bucket of its own, and the variables by which others find it."""
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    moto.start()
    host, port = moto.get_host_and_port()
    place = {"endpoint_url": f"http://{host}:{port}", "region_name": "us-east-1"}
    nobody = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
    iam = boto3.client("iam", **place, **nobody)
    iam.create_user(UserName="steersman")
    everything = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [everything]})
    iam.put_user_policy(UserName="steersman", PolicyName="all", PolicyDocument=policy)
    key = iam.create_access_key(UserName="steersman")["AccessKey"]
    own = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
    s3 = boto3.client("s3", **place, **own)
    s3.create_bucket(Bucket=BUCKET)
    variables = {
        "AWS_ENDPOINT_URL": place["endpoint_url"],
        "AWS_REGION": place["region_name"],
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
    }
    return s3, variables


def ask(url, body=None):
    """The status and body of a reply."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def train(url):
    """A small job that ran to its end; its last checkpoint."""
    client = openai.OpenAI(base_url=f"{url}/admin/v1", api_key="none")
    rows = [{"prompt": [{"role": "user", "content": text}]} for text in QUESTIONS]
    rows = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file = client.files.create(file=("rows.jsonl", rows), purpose="fine-tune")

    def length(goal):
        rule = {"name": "length", "unit": "characters", "goal": goal, "scale": 40.0}
        return {"kind": "rule", "rule": rule}

    hyperparameters = {"steps": 2, "save_every": 1, "batch_size": 2, "max_tokens": 8}
    objectives = [
        {"name": "brevity", "reward": length("shorter")},
        {"name": "detail", "reward": length("longer")},
    ]
    method = {"hyperparameters": hyperparameters | {"normalization_samples": 16}}
    job = client.fine_tuning.jobs.create(
        model="facts",
        training_file=file.id,
        method={"type": "mo_odpo", "mo_odpo": method | {"objectives": objectives}},
        suffix="bucket",
        seed=7,
    )
    patience = time.monotonic() + 300
    while job.status in ("queued", "running"):
        assert time.monotonic() < patience, job
        time.sleep(0.3)
        job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "succeeded", job.error
    return next(iter(client.fine_tuning.jobs.checkpoints.list(job.id)))


def keys(s3, place):
    found = s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{PREFIX}/{place}/").get("Contents", [])
    return {each["Key"] for each in found}


def main():
    s3, variables = start_bucket()
    question = {"prompt": QUESTIONS[0], "model": "bucket", "max_tokens": 4}
    with tempfile.TemporaryDirectory() as data:

        def server(**more):
            flags = ["--registry", f"s3://{BUCKET}/{PREFIX}"]
            return Server(*flags, data_dir=data, environment=variables | more)

        def lose(folder):
            shutil.rmtree(f"{data}/{folder}")

        with server() as first:
            checkpoint = train(first.url)
            job, content = checkpoint.fine_tuning_job_id, checkpoint.model_extra["content"]
            uploaded = keys(s3, f"jobs/{job}/{content}")
            assert len(uploaded) == 4, uploaded
            lose("jobs")
            path = f"/admin/v1/fine_tuning/jobs/{job}/checkpoints/{checkpoint.id}/promote"
            terms = {
                "expected_version": 0,
                "evaluation": {"prompts": QUESTIONS, "grid": 3, "max_tokens": 8},
                "gate": {"min_spearman": -1.0, "baseline": "nothing"},
            }
            status, told = ask(first.url + path, terms)
            assert (status, told.get("checkpoint")) == (200, content), told
            live = ask(f"{first.url}/v1/generate", question)
            assert live[0] == 200, live
        kept = keys(s3, f"checkpoints/{content}")
        assert len(kept) == 4, kept

        lose("checkpoints")
        with server() as second:
            again = ask(f"{second.url}/v1/generate", question)
            version = again[1]["steering"]["policy_version"]
            assert version == live[1]["steering"]["policy_version"], again

        # one bit, in each file in turn
        for key in sorted(kept):
            sound = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            s3.put_object(Bucket=BUCKET, Key=key, Body=sound[:-1] + bytes([sound[-1] ^ 1]))
            lose("checkpoints")
            with server() as other:
                status, told = ask(f"{other.url}/v1/generate", question)
                assert (status, told["error"]["code"]) == (404, "model_not_found"), told
                assert "is damaged" in other.log(), other.log()
            s3.put_object(Bucket=BUCKET, Key=key, Body=sound)

        lose("checkpoints")
        with server(AWS_SECRET_ACCESS_KEY="wrong") as stranger:
            status, told = ask(f"{stranger.url}/v1/generate", question)
            assert status == 404, told
            status, told = ask(stranger.url + path, terms | {"policy": "second"})
            assert (status, told["error"]["code"]) == (503, "storage_unavailable"), told
        with server() as last:
            assert ask(f"{last.url}/v1/generate", question)[0] == 200
    print(f"S3: promoted {content[:12]} from {len(uploaded)} objects, fetched again, damage refused")


main()
