"""Checkpoints in a bucket that speaks S3. What a worker made is promoted by a server that sees nothing
of the worker's disk, survives the loss of the server's own, and is not used once a byte of it is
damaged in the bucket.

usage: bucket.py      (the program is that of the variable STEERSMAN)
"""

import shutil
import tempfile

from buckets import BUCKET, PREFIX, REGISTRY, keys, start_bucket
from servers import Server
from small_job import QUESTIONS, TERMS, ask, train


def main():
    s3, variables = start_bucket()
    question = {"prompt": QUESTIONS[0], "model": "bucket", "max_tokens": 4}
    with tempfile.TemporaryDirectory() as data:

        def server(**more):
            flags = ["--registry", REGISTRY]
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
            status, told = ask(first.url + path, TERMS)
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
            status, told = ask(stranger.url + path, TERMS | {"policy": "second"})
            assert (status, told["error"]["code"]) == (503, "storage_unavailable"), told
        with server() as last:
            assert ask(f"{last.url}/v1/generate", question)[0] == 200
    print(f"S3: promoted {content[:12]} from {len(uploaded)} objects, fetched again, damage refused")


main()
