"""A bucket that speaks S3: moto's server, which checks every signature."""

import json
import os

SETUP_CALLS = 3  # those below that need no signature yet: nobody has a key
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = str(SETUP_CALLS)

import boto3  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402

BUCKET, PREFIX = "policies", "eu"
REGISTRY = f"s3://{BUCKET}/{PREFIX}"


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


def keys(s3, place):
    found = s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{PREFIX}/{place}/").get("Contents", [])
    return {each["Key"] for each in found}
